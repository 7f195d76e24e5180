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
 * SHA-256 of any bytes.  A context that failed is given up, together with what
 * it may hold; the next call makes another.
 */
bool
tr_sha256(const void *data, size_t len, uint8_t out[TR_HASH_BYTES])
{
	if (sha256_begin() && EVP_DigestUpdate(sha256_context, data, len) == 1 &&
		EVP_DigestFinal_ex(sha256_context, out, NULL) == 1)
		return true;

	EVP_MD_CTX_free(sha256_context);
	sha256_context = NULL;
	return false;
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
 * Are the two hashes equal?  Looks at every byte before it decides.
 */
bool
tr_hash_equal(const uint8_t a[TR_HASH_BYTES], const uint8_t b[TR_HASH_BYTES])
{
	uint8_t differs = 0;
	int i;

	for (i = 0; i < TR_HASH_BYTES; i++)
		differs |= a[i] ^ b[i];
	return differs == 0;
}

/*
 * Overwrite memory that held a secret.
 */
void
tr_wipe(void *memory, size_t len)
{
	explicit_bzero(memory, len);
}
