/*
 * pgp_key.h
 *	  OpenPGP certificates (RFC 4880): may something be encrypted to this one?
 *
 * What is not understood is refused.  Signatures are read, not verified: whoever
 * stores a key vouches for it.
 */
#ifndef TR_PGP_KEY_H
#define TR_PGP_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/pgp_packet.h"

#define TR_PGP_FINGERPRINT_BYTES 20
#define TR_PGP_BITS_MIN 2048 /* of a modulus */
#define TR_PGP_BITS_MAX 8192
#define TR_PGP_BYTES_MAX 65536 /* of a certificate */

/* What can be wrong with a certificate. */
typedef enum TrPgpFault
{
	TR_PGP_GOOD,
	TR_PGP_NO_KEY,	  /* not an OpenPGP public key, cut off, or too long */
	TR_PGP_PRIVATE,	  /* a private key */
	TR_PGP_SEVERAL,	  /* more than one certificate */
	TR_PGP_UNKNOWN,	  /* something in it is not understood */
	TR_PGP_UNSIGNED,  /* without a signature of its own */
	TR_PGP_REVOKED,	  /* it, or what of it could be encrypted to */
	TR_PGP_EXPIRED,	  /* likewise */
	TR_PGP_WEAK,	  /* likewise: fewer bits than TR_PGP_BITS_MIN */
	TR_PGP_LARGE,	  /* likewise: more than TR_PGP_BITS_MAX */
	TR_PGP_NO_SUBKEY, /* no subkey for encryption */
	TR_PGP_ALGORITHM, /* encryption subkeys of other algorithms than RSA and Elgamal */
	TR_PGP_CRYPTO,	  /* OpenSSL failed */
} TrPgpFault;

/* A certificate, as far as encrypting needs it. */
typedef struct TrPgpKey
{
	uint8_t fingerprint[TR_PGP_FINGERPRINT_BYTES];		  /* of the primary key */
	uint8_t subkey_fingerprint[TR_PGP_FINGERPRINT_BYTES]; /* of what is encrypted to */
	int64_t expires_at; /* seconds since 1970, the earlier end of both; 0: none */
	TrPgpBytes primary; /* packets, which point into what was read */
	TrPgpBytes subkey;	/* the newest one that can be encrypted to */
} TrPgpKey;

/*
 * Read a certificate (binary, not its armor) that must be good at this time, in
 * seconds since 1970.  Where it is not, *key is all zero.
 */
extern TrPgpFault tr_pgp_read(const uint8_t *data, size_t len, int64_t now, TrPgpKey *key);

#endif /* TR_PGP_KEY_H */
