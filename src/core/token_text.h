/*
 * token_text.h
 *	  The text of a token: <prefix>_<id><secret><check>.
 *
 * Pure functions over bytes; nothing here needs a server.  The alphabet is
 * base62 (0-9A-Za-z), numbers are written most significant digit first and
 * left-padded with '0'.  The check is zlib's CRC-32 over the 65 characters of
 * id and secret; the prefix takes no part in it, so that changing a policy's
 * prefix orphans no token.
 */
#ifndef TR_TOKEN_TEXT_H
#define TR_TOKEN_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TR_ID_BYTES 16	   /* a token id: 128 bits */
#define TR_ID_CHARS 22	   /* ... as base62 */
#define TR_SECRET_BYTES 32 /* a secret: 256 bits */
#define TR_SECRET_CHARS 43 /* ... as base62 */
#define TR_CHECK_CHARS 6   /* CRC-32 as base62 */
#define TR_BODY_CHARS (TR_ID_CHARS + TR_SECRET_CHARS + TR_CHECK_CHARS)

/* A policy's prefix has at most 15 characters; a rotation key's has one more. */
#define TR_PREFIX_MAX 15
#define TR_TEXT_PREFIX_MAX (TR_PREFIX_MAX + 1)

/* The longest token text and the room it takes with its terminating zero. */
#define TR_TEXT_MAX (TR_TEXT_PREFIX_MAX + 1 + TR_BODY_CHARS)
#define TR_TEXT_SIZE (TR_TEXT_MAX + 1)

/* <prefix>_<id>, as people see a token; with its terminating zero. */
#define TR_DISPLAY_SIZE (TR_TEXT_PREFIX_MAX + 1 + TR_ID_CHARS + 1)

/* What parsing yields.  secret points into the caller's text: 43 characters. */
typedef struct TrTokenText
{
	uint8_t id[TR_ID_BYTES];
	const char *secret;
} TrTokenText;

/*
 * Is this a policy's prefix, [a-z][a-z0-9]{0,14}?
 */
extern bool tr_prefix_valid(const char *prefix, size_t len);

/*
 * Read a token.  text need not end with a zero.  The check is verified before
 * the id is decoded; false means malformed (length, prefix, alphabet, check,
 * an id of 2^128 or more) and leaves *out unspecified.
 */
extern bool tr_token_parse(const char *text, size_t len, TrTokenText *out);

/*
 * Write a token (or a rotation key, with rotation_key = true, whose prefix is
 * <prefix>r) and a terminating zero into out.  prefix is a valid policy prefix
 * with its terminating zero.  Returns the length without the zero.
 */
extern size_t tr_token_format(const char *prefix, bool rotation_key, const uint8_t id[TR_ID_BYTES],
							  const char secret[TR_SECRET_CHARS], char out[TR_TEXT_SIZE]);

/*
 * Write <prefix>_<id> and a terminating zero into out; returns the length.
 */
extern size_t tr_token_display(const char *prefix, const uint8_t id[TR_ID_BYTES],
							   char out[TR_DISPLAY_SIZE]);

/*
 * Write 32 random or derived bytes as the 43 characters of a secret.  No
 * terminating zero.
 */
extern void tr_secret_encode(const uint8_t raw[TR_SECRET_BYTES], char out[TR_SECRET_CHARS]);

#endif /* TR_TOKEN_TEXT_H */
