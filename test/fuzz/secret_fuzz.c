/*
 * secret_fuzz.c
 *	  Any proof, nonce and ids: is the derived secret the documented one, and
 *	  does everything take part in it?  Any two hashes: equal or not?
 */
#include "fuzz.h"

#include <openssl/evp.h>

#include "../unit/slow_text.h"
#include "core/secret.h"

#define BLOCK 64

/* What a derivation takes, in one piece. */
typedef struct Inputs
{
	uint8_t proof[TR_SECRET_CHARS];
	uint8_t nonce[TR_NONCE_BYTES];
	uint8_t predecessor[TR_ID_BYTES];
	uint8_t successor[TR_ID_BYTES];
} Inputs;

static const char *const labels[] = {
	[TR_DERIVED_TOKEN] = "token_rotation successor v1",
	[TR_DERIVED_ROTATION_KEY] = "token_rotation successor rotation key v1",
};

/*
 * SHA-256 by a context of its own.
 */
static void
slow_hash(const void *data, size_t len, uint8_t out[TR_HASH_BYTES])
{
	HOLDS(EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) == 1);
}

/*
 * HMAC as RFC 2104 spells it: a hash over a hash, the key padded to a block.
 */
static void
slow_hmac(const uint8_t *key, size_t key_len, const uint8_t *message, size_t len,
		  uint8_t out[TR_HASH_BYTES])
{
	uint8_t inner[BLOCK + 256];
	uint8_t outer[BLOCK + TR_HASH_BYTES];
	size_t i;

	memcpy(inner + BLOCK, message, len);
	for (i = 0; i < BLOCK; i++)
	{
		inner[i] = (uint8_t) ((i < key_len ? key[i] : 0) ^ 0x36);
		outer[i] = (uint8_t) ((i < key_len ? key[i] : 0) ^ 0x5c);
	}
	slow_hash(inner, BLOCK + len, outer + BLOCK);
	slow_hash(outer, sizeof(outer), out);
}

/*
 * Derive, from memory and into memory of exactly the sizes.
 */
static void
derive(TrDerived what, const Inputs *inputs, char out[TR_SECRET_CHARS])
{
	Inputs *copy = exactly(sizeof(*copy));
	char *derived = exactly(TR_SECRET_CHARS);

	*copy = *inputs;
	HOLDS(tr_secret_derive(what, (const char *) copy->proof, copy->nonce, copy->predecessor,
						   copy->successor, derived));
	HOLDS(memcmp(copy, inputs, sizeof(*copy)) == 0);
	memcpy(out, derived, TR_SECRET_CHARS);
	free(derived);
	free(copy);
}

/*
 * The documented formula.
 */
static void
slow_derive(TrDerived what, const Inputs *inputs, char out[TR_SECRET_CHARS])
{
	uint8_t message[200];
	uint8_t mac[TR_HASH_BYTES];
	size_t len = strlen(labels[what]);

	memcpy(message, labels[what], len);
	memcpy(message + len, inputs->nonce, sizeof(*inputs) - sizeof(inputs->proof));
	len += sizeof(*inputs) - sizeof(inputs->proof);
	slow_hmac(inputs->proof, TR_SECRET_CHARS, message, len, mac);
	HOLDS(slow_base62(mac, TR_HASH_BYTES, out, TR_SECRET_CHARS));
}

/*
 * Derivations: as documented, repeatable, told apart by label and every bit.
 */
static void
check_derivation(Input *in)
{
	Inputs inputs;
	char token[TR_SECRET_CHARS];
	char key[TR_SECRET_CHARS];
	char expected[TR_SECRET_CHARS];
	size_t bit;

	input_bytes(in, &inputs, sizeof(inputs));
	bit = (size_t) input_byte(in) << 8;
	bit = (bit | input_byte(in)) % (8 * sizeof(inputs));

	derive(TR_DERIVED_TOKEN, &inputs, token);
	slow_derive(TR_DERIVED_TOKEN, &inputs, expected);
	HOLDS(memcmp(token, expected, TR_SECRET_CHARS) == 0);
	derive(TR_DERIVED_ROTATION_KEY, &inputs, key);
	slow_derive(TR_DERIVED_ROTATION_KEY, &inputs, expected);
	HOLDS(memcmp(key, expected, TR_SECRET_CHARS) == 0);
	HOLDS(memcmp(key, token, TR_SECRET_CHARS) != 0);
	derive(TR_DERIVED_TOKEN, &inputs, expected);
	HOLDS(memcmp(token, expected, TR_SECRET_CHARS) == 0);

	((uint8_t *) &inputs)[bit / 8] ^= (uint8_t) (1 << bit % 8);
	derive(TR_DERIVED_TOKEN, &inputs, expected);
	HOLDS(memcmp(token, expected, TR_SECRET_CHARS) != 0);
}

/*
 * Hashes of the input, whole and as a secret, and two that are compared: what
 * the input says, and that with one bit changed.
 */
static void
check_hashes(const uint8_t *data, size_t size)
{
	Input in = {data, size};
	uint8_t *a = exactly(TR_HASH_BYTES);
	uint8_t *b = exactly(TR_HASH_BYTES);
	char secret[TR_SECRET_CHARS];

	HOLDS(tr_sha256(data, size, a));
	slow_hash(data, size, b);
	HOLDS(memcmp(a, b, TR_HASH_BYTES) == 0 && tr_hash_equal(a, b));

	input_bytes(&in, secret, sizeof(secret));
	HOLDS(tr_secret_hash(secret, a));
	slow_hash(secret, sizeof(secret), b);
	HOLDS(memcmp(a, b, TR_HASH_BYTES) == 0 && tr_hash_equal(a, b));

	in = (Input){data, size};
	input_bytes(&in, a, TR_HASH_BYTES);
	input_bytes(&in, b, TR_HASH_BYTES);
	HOLDS(tr_hash_equal(a, b) == (memcmp(a, b, TR_HASH_BYTES) == 0));
	memcpy(b, a, TR_HASH_BYTES);
	b[input_byte(&in) % TR_HASH_BYTES] ^= (uint8_t) (1 << input_byte(&in) % 8);
	HOLDS(!tr_hash_equal(a, b) && !tr_hash_equal(b, a));
	free(a);
	free(b);
}

/*
 * The text of a secret: the number, written by long division.
 */
static void
check_encoding(Input in)
{
	uint8_t raw[TR_SECRET_BYTES];
	char expected[TR_SECRET_CHARS];
	char *text = exactly(TR_SECRET_CHARS);

	input_bytes(&in, raw, sizeof(raw));
	HOLDS(slow_base62(raw, TR_SECRET_BYTES, expected, TR_SECRET_CHARS));
	tr_secret_encode(raw, text);
	HOLDS(memcmp(text, expected, TR_SECRET_CHARS) == 0);
	tr_wipe(text, TR_SECRET_CHARS);
	HOLDS(text[0] == 0 && memcmp(text, text + 1, TR_SECRET_CHARS - 1) == 0);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input in = {data, size};

	check_derivation(&in);
	check_hashes(data, size);
	check_encoding((Input){data, size});
	return 0;
}
