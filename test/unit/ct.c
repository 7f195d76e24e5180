/*
 * ct.c
 *	  Does the comparison of secrets take the same time whatever they hold?
 *
 * For valgrind's memcheck: what is secret is marked as undefined, and memcheck
 * objects to every branch and every address that depends on undefined memory.
 * That is deterministic, where measuring times is not.  The result alone may
 * be known, so it is marked as defined before it is looked at.
 *
 * `make ct` runs it twice.  As it is, each case must give the right answer and
 * memcheck must count no error.  With an argument it compares in the forbidden
 * way instead, and memcheck must object: a memcheck that sees nothing, or a
 * compiler that has made the fault away, must not pass.
 */
#include <valgrind/memcheck.h>

#include "check.h"
#include "core/secret.h"

static const char some_secret[] = "HhSYcEqSlP8WPlJmT3KUwWEcKvdfWdZXCAmEhKSDfuG";

/*
 * The forbidden way: stops at the first difference.
 */
static bool
early_exit(const uint8_t a[TR_HASH_BYTES], const uint8_t b[TR_HASH_BYTES])
{
	int i;

	for (i = 0; i < TR_HASH_BYTES; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/* The comparison that is tried. */
static bool (*equal)(const uint8_t a[TR_HASH_BYTES],
					 const uint8_t b[TR_HASH_BYTES]) = tr_hash_equal;

/*
 * Compare copies of two hashes, both secret; count the errors that this makes.
 */
static bool
compare(const uint8_t *a, const uint8_t *b, unsigned *errors)
{
	uint8_t *left = (uint8_t *) check_copy((const char *) a, TR_HASH_BYTES);
	uint8_t *right = (uint8_t *) check_copy((const char *) b, TR_HASH_BYTES);
	unsigned before = VALGRIND_COUNT_ERRORS;
	bool result;

	VALGRIND_MAKE_MEM_UNDEFINED(left, TR_HASH_BYTES);
	VALGRIND_MAKE_MEM_UNDEFINED(right, TR_HASH_BYTES);
	result = equal(left, right);
	VALGRIND_MAKE_MEM_DEFINED(&result, sizeof(result));
	*errors = VALGRIND_COUNT_ERRORS - before;
	free(left);
	free(right);
	return result;
}

/*
 * Equal hashes, and a difference of one bit in each place.
 */
static void
comparing_hashes(void)
{
	uint64_t seed = 11;
	uint8_t a[TR_HASH_BYTES];
	uint8_t b[TR_HASH_BYTES];
	unsigned errors;
	int bit;

	check_random_bytes(&seed, a, sizeof(a));
	CHECK(compare(a, a, &errors));
	CHECK(errors == 0);
	for (bit = 0; bit < 8 * TR_HASH_BYTES; bit++)
	{
		memcpy(b, a, sizeof(a));
		b[bit / 8] ^= (uint8_t) (1 << bit % 8);
		CHECK_FOR(!compare(a, b, &errors), "bit %d", bit);
		CHECK_FOR(errors == 0, "bit %d: memcheck saw %u errors", bit, errors);
	}
}

/*
 * What a validation does with a token, and a rotation with a rotation key,
 * once its text is parsed: hash the secret, compare with the stored hash.
 */
static void
hashing_and_comparing_a_secret(void)
{
	int wrong;

	for (wrong = 0; wrong < 2; wrong++)
	{
		char *secret = check_copy(some_secret, TR_SECRET_CHARS);
		uint8_t stored[TR_HASH_BYTES];
		uint8_t presented[TR_HASH_BYTES];
		unsigned before;
		bool done;
		bool result;

		CHECK(tr_secret_hash(secret, stored)); /* makes the context, too */
		secret[0] ^= (char) wrong;
		before = VALGRIND_COUNT_ERRORS;
		VALGRIND_MAKE_MEM_UNDEFINED(secret, TR_SECRET_CHARS);
		VALGRIND_MAKE_MEM_UNDEFINED(stored, sizeof(stored));
		done = tr_secret_hash(secret, presented);
		result = equal(presented, stored);
		VALGRIND_MAKE_MEM_DEFINED(&result, sizeof(result));
		CHECK(done);
		CHECK(result == !wrong);
		CHECK(VALGRIND_COUNT_ERRORS == before);
		free(secret);
	}
}

/*
 * Without valgrind nothing was marked, and nothing seen.
 */
static void
memcheck_is_there(void)
{
	CHECK(RUNNING_ON_VALGRIND);
}

int
main(int argc, char **argv)
{
	(void) argv;
	if (argc > 1)
		equal = early_exit;
	RUN(memcheck_is_there);
	RUN(comparing_hashes);
	RUN(hashing_and_comparing_a_secret);
	return check_done();
}
