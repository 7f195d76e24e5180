/*
 * pgp.h
 *	  OpenPGP certificates put together from their parts, for tests.
 *
 * The numbers of keys are of the right size, and nothing can be encrypted to them.
 */
#ifndef TR_PGP_H
#define TR_PGP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <openssl/evp.h>

#define PGP_MADE_AT 1000000000u /* when keys are made */
#define PGP_ALL_FLAGS 0x0f

/* A certificate, or a part of one. */
typedef struct Pgp
{
	uint8_t bytes[70000];
	size_t len;
	uint8_t fingerprint[20]; /* of the last primary key that was put into it */
} Pgp;

static inline void
pgp_byte(Pgp *pgp, unsigned byte)
{
	pgp->bytes[pgp->len++] = (uint8_t) byte;
}

static inline void
pgp_number(Pgp *pgp, int bytes, uint32_t number)
{
	while (bytes-- > 0)
		pgp_byte(pgp, number >> 8 * bytes & 0xff);
}

static inline void
pgp_bytes(Pgp *pgp, const void *bytes, size_t len)
{
	memcpy(pgp->bytes + pgp->len, bytes, len);
	pgp->len += len;
}

/*
 * A large odd number of so many bits.
 */
static inline void
pgp_large(Pgp *pgp, unsigned bits)
{
	unsigned bytes = (bits + 7) / 8;
	unsigned i;

	pgp_number(pgp, 2, bits);
	for (i = 0; i < bytes; i++)
		pgp_byte(pgp, (i == 0 ? 1u << ((bits - 1) & 7) : 0) | (i == bytes - 1 ? 1 : 0));
}

/*
 * A packet with this body: in the old form with a length of 2 bytes, or the new one
 * with one of 5.
 */
static inline void
pgp_packet(Pgp *pgp, int tag, bool new_form, const Pgp *body)
{
	if (new_form)
	{
		pgp_byte(pgp, 0xc0u | (unsigned) tag);
		pgp_byte(pgp, 255);
		pgp_number(pgp, 4, (uint32_t) body->len);
	}
	else
	{
		pgp_byte(pgp, 0x81u | (unsigned) tag << 2);
		pgp_number(pgp, 2, (uint32_t) body->len);
	}
	pgp_bytes(pgp, body->bytes, body->len);
}

/*
 * A key: primary (tag 6) or subkey (14), with so many numbers, the first of so
 * many bits.
 */
static inline void
pgp_key(Pgp *pgp, int tag, int algorithm, int numbers, unsigned bits, uint32_t made_at)
{
	static Pgp body;
	uint8_t head[3];
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int i;

	body.len = 0;
	pgp_byte(&body, 4);
	pgp_number(&body, 4, made_at);
	pgp_byte(&body, (unsigned) algorithm);
	for (i = 0; i < numbers; i++)
		pgp_large(&body, i == 0 ? bits : 17);
	pgp_packet(pgp, tag, false, &body);

	head[0] = 0x99;
	head[1] = (uint8_t) (body.len >> 8);
	head[2] = (uint8_t) body.len;
	if (tag == 6)
	{
		EVP_DigestInit_ex(context, EVP_sha1(), NULL);
		EVP_DigestUpdate(context, head, sizeof(head));
		EVP_DigestUpdate(context, body.bytes, body.len);
		EVP_DigestFinal_ex(context, pgp->fingerprint, NULL);
	}
	EVP_MD_CTX_free(context);
}

/*
 * What a signature says: type, and a number of so many bytes.
 */
static inline void
pgp_says(Pgp *pgp, int type, int bytes, uint32_t number)
{
	pgp_byte(pgp, (unsigned) bytes + 1);
	pgp_byte(pgp, (unsigned) type);
	pgp_number(pgp, bytes, number);
}

/*
 * A signature whose hashed part is given, by this issuer.
 */
static inline void
pgp_signed(Pgp *pgp, int type, const Pgp *hashed, const uint8_t *issuer)
{
	static Pgp body;

	body.len = 0;
	pgp_byte(&body, 4);
	pgp_byte(&body, (unsigned) type);
	pgp_byte(&body, 1);
	pgp_byte(&body, 8);
	pgp_number(&body, 2, (uint32_t) hashed->len);
	pgp_bytes(&body, hashed->bytes, hashed->len);
	pgp_number(&body, 2, 10);
	pgp_byte(&body, 9);
	pgp_byte(&body, 16);
	pgp_bytes(&body, issuer + 12, 8);
	pgp_number(&body, 2, 0);
	pgp_large(&body, 2048);
	pgp_packet(pgp, 2, true, &body);
}

/*
 * A signature of the owner: made at, and (unless 0) how long the key lives.
 */
static inline void
pgp_own(Pgp *pgp, int type, uint32_t made_at, uint32_t lives, int flags)
{
	static Pgp hashed;

	hashed.len = 0;
	pgp_says(&hashed, 2, 4, made_at);
	if (lives != 0)
		pgp_says(&hashed, 9, 4, lives);
	if (flags >= 0)
		pgp_says(&hashed, 27, 1, (uint32_t) flags);
	pgp_signed(pgp, type, &hashed, pgp->fingerprint);
}

/*
 * A user id.
 */
static inline void
pgp_user(Pgp *pgp)
{
	static Pgp body;

	body.len = 0;
	pgp_bytes(&body, "somebody", 8);
	pgp_packet(pgp, 13, false, &body);
}

#endif /* TR_PGP_H */
