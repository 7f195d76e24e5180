/*
 * secret.c
 *	  Hashing, deriving, comparing and wiping secrets.
 *
 * Every validation hashes one secret, so SHA-256 runs on a context that is
 * made at the first use and kept for the life of the process: making one, and
 * looking the algorithm up, costs more than the hash.  OpenSSL clears the
 * context's copy of the data when it finishes a hash.  One context means one
 * caller at a time, which is what a PostgreSQL process is.
 */
#include "core/secret.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

/* What tells the derivations apart.  Neither is the beginning of the other. */
#define TOKEN_LABEL "token_rotation successor v1"
#define ROTATION_KEY_LABEL "token_rotation successor rotation key v1"

static const struct
{
	const char *text;
	size_t len;
} labels[] = {
	[TR_DERIVED_TOKEN] = {TOKEN_LABEL, sizeof(TOKEN_LABEL) - 1},
	[TR_DERIVED_ROTATION_KEY] = {ROTATION_KEY_LABEL, sizeof(ROTATION_KEY_LABEL) - 1},
};

/* What is hashed for a derivation, at most: the longer label and the rest. */
#define MESSAGE_MAX (sizeof(ROTATION_KEY_LABEL) - 1 + TR_NONCE_BYTES + 2 * TR_ID_BYTES)

#define BLOCK 64
#define INNER_PAD 0x36
#define OUTER_PAD 0x5c

static EVP_MD_CTX *sha256_context = NULL;

/*
 * Make the context ready for the next hash.
 */
static bool
sha256_begin(void)
{
	if (sha256_context != NULL)
		return EVP_DigestInit_ex(sha256_context, NULL, NULL) == 1;

	sha256_context = EVP_MD_CTX_new();
	return sha256_context != NULL && EVP_DigestInit_ex(sha256_context, EVP_sha256(), NULL) == 1;
}

/*
 * A context that failed is given up, together with what it may hold; the next
 * hash makes another.
 */
static bool
or_give_up(bool done)
{
	if (!done)
	{
		EVP_MD_CTX_free(sha256_context);
		sha256_context = NULL;
	}
	return done;
}

/*
 * SHA-256 of any bytes.
 */
bool
tr_sha256(const void *data, size_t len, uint8_t out[TR_HASH_BYTES])
{
	return or_give_up(sha256_begin() && EVP_DigestUpdate(sha256_context, data, len) == 1 &&
					  EVP_DigestFinal_ex(sha256_context, out, NULL) == 1);
}

/*
 * The hash that is stored for a secret.
 */
bool
tr_secret_hash(const char secret[TR_SECRET_CHARS], uint8_t out[TR_HASH_BYTES])
{
	return tr_sha256(secret, TR_SECRET_CHARS, out);
}

/*
 * Derive a successor's secret.  The message can be read in one way only: no
 * label is the beginning of the other, and all the rest has a fixed width.
 */
bool
tr_secret_derive(TrDerived what, const char proof[TR_SECRET_CHARS],
				 const uint8_t nonce[TR_NONCE_BYTES], const uint8_t predecessor[TR_ID_BYTES],
				 const uint8_t successor[TR_ID_BYTES], char out[TR_SECRET_CHARS])
{
	uint8_t message[MESSAGE_MAX];
	uint8_t raw[TR_SECRET_BYTES];
	size_t len = labels[what].len;
	bool done;

	memcpy(message, labels[what].text, len);
	memcpy(message + len, nonce, TR_NONCE_BYTES);
	len += TR_NONCE_BYTES;
	memcpy(message + len, predecessor, TR_ID_BYTES);
	len += TR_ID_BYTES;
	memcpy(message + len, successor, TR_ID_BYTES);
	len += TR_ID_BYTES;

	done = HMAC(EVP_sha256(), proof, TR_SECRET_CHARS, message, len, raw, NULL) != NULL;
	if (done)
		tr_secret_encode(raw, out);

	tr_wipe(message, sizeof(message));
	tr_wipe(raw, sizeof(raw));
	return done;
}

/*
 * Begin a hash with the key, padded to a block and masked.
 */
static bool
begin_with_key(const uint8_t key[TR_HASH_BYTES], uint8_t pad)
{
	uint8_t block[BLOCK];
	bool done;
	int i;

	memset(block, pad, sizeof(block));
	for (i = 0; i < TR_HASH_BYTES; i++)
		block[i] ^= key[i];
	done = sha256_begin() && EVP_DigestUpdate(sha256_context, block, sizeof(block)) == 1;
	tr_wipe(block, sizeof(block));
	return done;
}

/*
 * Every validation under a server key takes one of these.  OpenSSL's HMAC() makes
 * a context each time, which takes three times as long as both hashes.
 */
bool
tr_hmac_begin(const uint8_t key[TR_HASH_BYTES])
{
	return or_give_up(begin_with_key(key, INNER_PAD));
}

bool
tr_hmac_add(const void *data, size_t len)
{
	return or_give_up(EVP_DigestUpdate(sha256_context, data, len) == 1);
}

bool
tr_hmac_end(const uint8_t key[TR_HASH_BYTES], uint8_t out[TR_HASH_BYTES])
{
	uint8_t inner[TR_HASH_BYTES];
	bool done = EVP_DigestFinal_ex(sha256_context, inner, NULL) == 1 &&
				begin_with_key(key, OUTER_PAD) &&
				EVP_DigestUpdate(sha256_context, inner, sizeof(inner)) == 1 &&
				EVP_DigestFinal_ex(sha256_context, out, NULL) == 1;

	tr_wipe(inner, sizeof(inner));
	return or_give_up(done);
}

/*
 * Looks at every byte before it decides.
 */
bool
tr_bytes_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
	uint8_t differs = 0;
	size_t i;

	for (i = 0; i < len; i++)
		differs |= a[i] ^ b[i];
	return differs == 0;
}

bool
tr_hash_equal(const uint8_t a[TR_HASH_BYTES], const uint8_t b[TR_HASH_BYTES])
{
	return tr_bytes_equal(a, b, TR_HASH_BYTES);
}

/*
 * Overwrite memory that held a secret.
 */
void
tr_wipe(void *memory, size_t len)
{
	explicit_bzero(memory, len);
}
