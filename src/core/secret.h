/*
 * secret.h
 *	  Hashing, deriving, comparing and wiping secrets.
 *
 * SHA-256 (FIPS 180-4) is OpenSSL's, and HMAC (RFC 2104) rests on it.  Functions
 * that use it return false when it fails; callers must then refuse.
 */
#ifndef TR_SECRET_H
#define TR_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/token_text.h"

#define TR_HASH_BYTES 32
#define TR_NONCE_BYTES 32

/* What is derived for a successor; each has a label of its own. */
typedef enum TrDerived
{
	TR_DERIVED_TOKEN,		 /* "token_rotation successor v1" */
	TR_DERIVED_ROTATION_KEY, /* "token_rotation successor rotation key v1" */
} TrDerived;

/*
 * SHA-256 of any bytes.
 */
extern bool tr_sha256(const void *data, size_t len, uint8_t out[TR_HASH_BYTES]);

/*
 * The hash that is stored for a secret: SHA-256 of its 43 characters.
 */
extern bool tr_secret_hash(const char secret[TR_SECRET_CHARS], uint8_t out[TR_HASH_BYTES]);

/*
 * Derive a successor's secret, so that a lost answer can be asked for again
 * although no table holds it:
 *
 *	HMAC-SHA-256(key = 43 characters of the proof that was presented,
 *				 label || nonce || predecessor id || successor id)
 *
 * The label is its ASCII characters without a terminating zero.  The 32 bytes
 * are written as 43 base62 characters.  The nonce is the missing half: without
 * it, an old token computes nothing.
 */
extern bool tr_secret_derive(TrDerived what, const char proof[TR_SECRET_CHARS],
							 const uint8_t nonce[TR_NONCE_BYTES],
							 const uint8_t predecessor[TR_ID_BYTES],
							 const uint8_t successor[TR_ID_BYTES], char out[TR_SECRET_CHARS]);

/*
 * HMAC-SHA-256 with a key of 32 bytes, of a message that comes in pieces: begin,
 * any number of pieces, end with the same key.  One at a time, and no other hash
 * meanwhile.
 */
extern bool tr_hmac_begin(const uint8_t key[TR_HASH_BYTES]);
extern bool tr_hmac_add(const void *data, size_t len);
extern bool tr_hmac_end(const uint8_t key[TR_HASH_BYTES], uint8_t out[TR_HASH_BYTES]);

/*
 * Are so many bytes equal, and are two hashes?  Takes the same time whatever they
 * hold.
 */
extern bool tr_bytes_equal(const uint8_t *a, const uint8_t *b, size_t len);
extern bool tr_hash_equal(const uint8_t a[TR_HASH_BYTES], const uint8_t b[TR_HASH_BYTES]);

/*
 * Overwrite memory that held a secret, in a way the compiler keeps.
 */
extern void tr_wipe(void *memory, size_t len);

#endif /* TR_SECRET_H */
