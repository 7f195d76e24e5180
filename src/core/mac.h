/*
 * mac.h
 *	  Keyed hashes of a token: of its secret and its row.
 *
 * A hash that is stored under a server key covers, beside the secret, what must
 * not change in the token's row.  Who can write the row but does not know the
 * key can therefore neither make up a token nor make one more powerful.
 *
 *	HMAC-SHA-256(subkey of the use, message)
 *
 * The message is a list of fields, each as the four bytes of its length (most
 * significant first) and then its bytes:
 *
 *	label			"token_rotation secret v1", "token_rotation rotation key v1"
 *					or "token_rotation row v1"
 *	token id		16 bytes
 *	family id		16 bytes
 *	issued_at		8 bytes, microseconds since 2000-01-01 00:00 UTC, most
 *	expires_at		significant first, in two's complement
 *	rotation key	1 byte: 1 where rotating needs one, else 0
 *	secret			SHA-256 of its 43 characters; no bytes for the use row
 *	client id		UTF-8
 *	scopes			each a field, in their order
 *
 * Before the scopes their number stands in four bytes.  Zero bytes follow up to
 * a length of 247, or to the next one that is 55 more than a multiple of 64:
 * then SHA-256 pads within its last block, and ordinary tokens, whatever their
 * client and scopes, cost the same number of blocks.
 */
#ifndef TR_MAC_H
#define TR_MAC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/keyring.h"
#include "core/secret.h"

/* Two tags share the place of a secret's hash: that of the row, then that of the secret. */
#define TR_TAG_BYTES (TR_HASH_BYTES / 2)

typedef struct TrBytes
{
	const void *at;
	size_t len;
} TrBytes;

/* What must not change in a token's row. */
typedef struct TrRow
{
	const uint8_t *id;
	const uint8_t *family;
	int64_t issued_at;
	int64_t expires_at;
	bool rotation_key;
	TrBytes client;
	const TrBytes *scopes;
	int scope_count;
} TrRow;

/*
 * The keyed hash of a row and, but for the use row, of a secret's hash.  false:
 * OpenSSL failed.
 */
extern bool tr_mac(const TrKey *key, TrKeyUse use, const TrRow *row,
				   const uint8_t secret[TR_HASH_BYTES], uint8_t out[TR_HASH_BYTES]);

#endif /* TR_MAC_H */
