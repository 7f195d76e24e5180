/*
 * secret_test.c
 *	  Are secrets hashed, derived, compared and wiped as promised?
 *
 * Known answers are those of FIPS 180-4's examples and of RFC 4231.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "check.h"
#include "core/secret.h"

static const char some_secret[] = "HhSYcEqSlP8WPlJmT3KUwWEcKvdfWdZXCAmEhKSDfuG";

/*
 * Is this the SHA-256 of these bytes?
 */
static bool
hashes_to(const void *data, size_t len, const char *expected)
{
	uint8_t want[TR_HASH_BYTES];
	uint8_t hash[TR_HASH_BYTES];

	check_unhex(expected, want, sizeof(want));
	return tr_sha256(data, len, hash) && memcmp(hash, want, sizeof(want)) == 0;
}

/*
 * The examples of the standard.
 */
static void
known_sha256(void)
{
	char *million = malloc(1000000);

	CHECK(hashes_to("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
	CHECK(hashes_to("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
	CHECK(hashes_to("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
					"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"));
	CHECK(hashes_to("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
					"hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
					112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"));
	memset(million, 'a', 1000000);
	CHECK(hashes_to(million, 1000000,
					"cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
	free(million);
}

/*
 * 43 characters are hashed, and no byte after them.
 */
static void
secret_hash_is_sha256_of_its_characters(void)
{
	uint8_t hash[TR_HASH_BYTES];
	uint8_t expected[TR_HASH_BYTES];
	char *copy = check_copy(some_secret, TR_SECRET_CHARS);

	check_unhex("07a7791dac6382a13cdcb03414372a3e1c0a259086bc64a811b4f21a1f996524", expected,
				sizeof(expected));
	CHECK(tr_secret_hash(copy, hash));
	CHECK(memcmp(hash, expected, TR_HASH_BYTES) == 0);
	CHECK(tr_sha256(copy, TR_SECRET_CHARS, hash));
	CHECK(memcmp(hash, expected, TR_HASH_BYTES) == 0);
	free(copy);
}

/*
 * The context is used again and again: no hash may leave a trace in the next.
 */
static void
hashes_do_not_depend_on_what_was_before(void)
{
	uint64_t seed = 7;
	uint8_t data[300];
	int i;

	for (i = 0; i < 2000; i++)
	{
		uint8_t hash[TR_HASH_BYTES];
		uint8_t fresh[TR_HASH_BYTES];
		size_t len = check_random(&seed) % sizeof(data);

		check_random_bytes(&seed, data, len);
		CHECK(tr_sha256(data, len, hash));
		CHECK(EVP_Digest(data, len, fresh, NULL, EVP_sha256(), NULL) == 1);
		CHECK_FOR(memcmp(hash, fresh, TR_HASH_BYTES) == 0, "hash %d", i);
	}
}

/*
 * OpenSSL's HMAC-SHA-256 of what we use it for is the one of RFC 4231.
 */
static void
known_hmac(void)
{
	uint8_t key[131];
	uint8_t expected[TR_HASH_BYTES];
	uint8_t mac[TR_HASH_BYTES];

	memset(key, 0x0b, 20);
	check_unhex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", expected, 32);
	CHECK(HMAC(EVP_sha256(), key, 20, (const uint8_t *) "Hi There", 8, mac, NULL) != NULL);
	CHECK(memcmp(mac, expected, TR_HASH_BYTES) == 0);

	check_unhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", expected, 32);
	CHECK(HMAC(EVP_sha256(), "Jefe", 4, (const uint8_t *) "what do ya want for nothing?", 28, mac,
			   NULL) != NULL);
	CHECK(memcmp(mac, expected, TR_HASH_BYTES) == 0);

	memset(key, 0xaa, sizeof(key));
	check_unhex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", expected, 32);
	CHECK(HMAC(EVP_sha256(), key, sizeof(key),
			   (const uint8_t *) "Test Using Larger Than Block-Size Key - Hash Key First", 54, mac,
			   NULL) != NULL);
	CHECK(memcmp(mac, expected, TR_HASH_BYTES) == 0);
}

/* What a derivation takes. */
typedef struct Inputs
{
	TrDerived what;
	char proof[TR_SECRET_CHARS];
	uint8_t nonce[TR_NONCE_BYTES];
	uint8_t predecessor[TR_ID_BYTES];
	uint8_t successor[TR_ID_BYTES];
} Inputs;

/*
 * Inputs of some random bytes.
 */
static void
some_inputs(Inputs *in)
{
	uint64_t seed = 8;

	in->what = TR_DERIVED_TOKEN;
	memcpy(in->proof, some_secret, TR_SECRET_CHARS);
	check_random_bytes(&seed, in->nonce, TR_NONCE_BYTES);
	check_random_bytes(&seed, in->predecessor, TR_ID_BYTES);
	check_random_bytes(&seed, in->successor, TR_ID_BYTES);
}

/*
 * Derive from these inputs.
 */
static bool
derive(const Inputs *in, char out[TR_SECRET_CHARS])
{
	return tr_secret_derive(in->what, in->proof, in->nonce, in->predecessor, in->successor, out);
}

/*
 * The formula, spelled out: HMAC over a message that is put together here.
 */
static void
derivation_is_the_documented_hmac(void)
{
	static const char *const labels[] = {"token_rotation successor v1",
										 "token_rotation successor rotation key v1"};
	Inputs in;
	int what;

	some_inputs(&in);
	for (what = 0; what < 2; what++)
	{
		uint8_t message[200];
		size_t len = strlen(labels[what]);
		uint8_t mac[TR_HASH_BYTES];
		char expected[TR_SECRET_CHARS];
		char derived[TR_SECRET_CHARS];

		memcpy(message, labels[what], len);
		memcpy(message + len, in.nonce, 32);
		memcpy(message + len + 32, in.predecessor, 16);
		memcpy(message + len + 48, in.successor, 16);
		CHECK(HMAC(EVP_sha256(), in.proof, 43, message, len + 64, mac, NULL) != NULL);
		tr_secret_encode(mac, expected);

		in.what = what == 0 ? TR_DERIVED_TOKEN : TR_DERIVED_ROTATION_KEY;
		CHECK(derive(&in, derived));
		CHECK(memcmp(derived, expected, TR_SECRET_CHARS) == 0);
	}
}

/*
 * A replay must give the same secret, however often it is asked for.
 */
static void
derivation_repeats(void)
{
	Inputs in;
	char first[TR_SECRET_CHARS];
	char again[TR_SECRET_CHARS];
	int i;

	some_inputs(&in);
	CHECK(derive(&in, first));
	for (i = 0; i < 100; i++)
	{
		CHECK(derive(&in, again));
		CHECK(memcmp(first, again, TR_SECRET_CHARS) == 0);
	}
}

/*
 * Who has the successor must not have its rotation key.
 */
static void
labels_keep_token_and_key_apart(void)
{
	Inputs in;
	char token[TR_SECRET_CHARS];
	char key[TR_SECRET_CHARS];

	some_inputs(&in);
	CHECK(derive(&in, token));
	in.what = TR_DERIVED_ROTATION_KEY;
	CHECK(derive(&in, key));
	CHECK(memcmp(token, key, TR_SECRET_CHARS) != 0);
}

/*
 * Each bit of each input takes part.
 */
static void
derivation_depends_on_each_bit(void)
{
	Inputs in;
	char unchanged[TR_SECRET_CHARS];
	size_t at;
	int bit;

	some_inputs(&in);
	CHECK(derive(&in, unchanged));
	for (at = offsetof(Inputs, proof); at < offsetof(Inputs, successor) + TR_ID_BYTES; at++)
	{
		for (bit = 0; bit < 8; bit++)
		{
			char derived[TR_SECRET_CHARS];

			((uint8_t *) &in)[at] ^= (uint8_t) (1 << bit);
			CHECK(derive(&in, derived));
			CHECK_FOR(memcmp(derived, unchanged, TR_SECRET_CHARS) != 0, "byte %zu, bit %d", at,
					  bit);
			((uint8_t *) &in)[at] ^= (uint8_t) (1 << bit);
		}
	}
}

/*
 * Predecessor and successor are not interchangeable.
 */
static void
ids_do_not_change_places(void)
{
	Inputs in;
	Inputs swapped;
	char derived[TR_SECRET_CHARS];
	char other[TR_SECRET_CHARS];

	some_inputs(&in);
	swapped = in;
	memcpy(swapped.predecessor, in.successor, TR_ID_BYTES);
	memcpy(swapped.successor, in.predecessor, TR_ID_BYTES);
	CHECK(derive(&in, derived));
	CHECK(derive(&swapped, other));
	CHECK(memcmp(derived, other, TR_SECRET_CHARS) != 0);
}

/*
 * Equal ones are equal, also with themselves; the extremes are not.
 */
static void
equal_hashes(void)
{
	uint64_t seed = 9;
	uint8_t a[TR_HASH_BYTES];
	uint8_t b[TR_HASH_BYTES];
	int i;

	for (i = 0; i < 1000; i++)
	{
		check_random_bytes(&seed, a, sizeof(a));
		memcpy(b, a, sizeof(a));
		CHECK(tr_hash_equal(a, b));
		CHECK(tr_hash_equal(a, a));
	}
	memset(a, 0, sizeof(a));
	memset(b, 0xff, sizeof(b));
	CHECK(!tr_hash_equal(a, b));
}

/*
 * Every difference of one bit, and of any two (which must not cancel out).
 */
static void
different_hashes(void)
{
	uint8_t a[TR_HASH_BYTES];
	uint8_t b[TR_HASH_BYTES];
	uint64_t seed = 10;
	int i;
	int j;

	check_random_bytes(&seed, a, sizeof(a));
	for (i = 0; i < 8 * TR_HASH_BYTES; i++)
	{
		for (j = 0; j <= i; j++)
		{
			memcpy(b, a, sizeof(a));
			b[i / 8] ^= (uint8_t) (1 << i % 8);
			if (j < i)
				b[j / 8] ^= (uint8_t) (1 << j % 8);
			CHECK_FOR(!tr_hash_equal(a, b) && !tr_hash_equal(b, a), "bits %d and %d", i, j);
		}
	}
}

/*
 * Every length, with the bytes on both sides watched.
 */
static void
wiping_clears_that_and_no_more(void)
{
	uint8_t memory[66];
	uint8_t rest[66];
	size_t len;

	for (len = 0; len <= 64; len++)
	{
		size_t i;

		memset(memory, 0xa5, sizeof(memory));
		memset(rest, 0xa5, sizeof(rest));
		memset(rest + 1, 0, len);
		tr_wipe(memory + 1, len);
		for (i = 0; i < sizeof(memory); i++)
			CHECK_FOR(memory[i] == rest[i], "byte %zu of %zu", i, len);
	}
}

int
main(void)
{
	RUN(known_sha256);
	RUN(secret_hash_is_sha256_of_its_characters);
	RUN(hashes_do_not_depend_on_what_was_before);
	RUN(known_hmac);
	RUN(derivation_is_the_documented_hmac);
	RUN(derivation_repeats);
	RUN(labels_keep_token_and_key_apart);
	RUN(derivation_depends_on_each_bit);
	RUN(ids_do_not_change_places);
	RUN(equal_hashes);
	RUN(different_hashes);
	RUN(wiping_clears_that_and_no_more);
	return check_done();
}
