/*
 * malformed_test.c
 *	  Is everything malformed that is not a token?
 */
#include "slow_text.h"

#define SHORTEST (1 + 1 + TR_BODY_CHARS)

/*
 * Parse a copy of exactly that length; only says whether it is a token.
 */
static bool
parses(const char *text, size_t len)
{
	TrTokenText parsed;
	char *copy = check_copy(text, len);
	bool result = tr_token_parse(copy, len, &parsed);

	free(copy);
	return result;
}

/*
 * Does a token with this prefix and a right body parse?
 */
static bool
prefix_parses(const char *prefix)
{
	char checked[CHECKED];
	char text[64 + TR_TEXT_SIZE];

	slow_base62(some_id, TR_ID_BYTES, checked, TR_ID_CHARS);
	memcpy(checked + TR_ID_CHARS, some_secret, TR_SECRET_CHARS);
	return parses(text, make_text(prefix, checked, text));
}

/*
 * Does a token with these id characters and a right check parse?
 */
static bool
id_parses(const char *id, TrTokenText *parsed)
{
	char checked[CHECKED];
	char text[TR_TEXT_SIZE];

	memcpy(checked, id, TR_ID_CHARS);
	memcpy(checked + TR_ID_CHARS, some_secret, TR_SECRET_CHARS);
	return tr_token_parse(text, make_text(PREFIX, checked, text), parsed);
}

/*
 * A text may have any prefix of the right shape, also one that is nobody's: it
 * takes no part in validation.
 */
static void
text_prefixes(void)
{
	static const char *const good[] = {"a",
									   "z",
									   PREFIX,
									   "other",
									   "sk",
									   PREFIX "r",
									   "a0123456789",
									   "abcdefghijklmno",
									   "abcdefghijklmnop"};
	static const char *const bad[] = {"",
									  "TRK",
									  "Trk",
									  "trK",
									  "0",
									  "1trk",
									  "t-k",
									  "t_k",
									  "_",
									  "__",
									  "trk_",
									  "_trk",
									  "t k",
									  " trk",
									  "t\xc3\xa4k",
									  "\xff",
									  "t\xff",
									  "abcdefghijklmnopq",
									  "abcdefghijklmnopqrstuvwxyz0123456789"};
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(*good); i++)
		CHECK_FOR(prefix_parses(good[i]), "%s", good[i]);
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_FOR(!prefix_parses(bad[i]), "%s", bad[i]);
}

/*
 * Every length that is less than the whole.
 */
static void
cut_off_is_malformed(void)
{
	char text[TR_TEXT_SIZE];
	size_t len = tr_token_format(PREFIX, false, some_id, some_secret, text);
	size_t n;

	for (n = 0; n < len; n++)
		CHECK_FOR(!parses(text, n), "first %zu", n);

	/* From the left, what is left of the prefix may still be one. */
	for (n = 1; n <= len; n++)
		CHECK_FOR(parses(text + n, len - n) == (n < strlen(PREFIX)), "without the first %zu", n);
}

/*
 * One byte more, whatever it is, and a megabyte more on either side.
 */
static void
over_long_is_malformed(void)
{
	size_t huge = 1024 * 1024;
	char *text = malloc(huge);
	size_t len = tr_token_format(PREFIX, false, some_id, some_secret, text);
	int c;

	for (c = 0; c < 256; c++)
	{
		text[len] = (char) c;
		CHECK_FOR(!parses(text, len + 1), "a byte %d more", c);
	}
	memset(text + len, 'a', huge - len);
	CHECK(!parses(text, huge));
	memset(text, 'a', huge - len);
	tr_token_format(PREFIX, false, some_id, some_secret, text + huge - len - 1);
	CHECK(!parses(text, huge - 1));
	memset(text, 0, huge);
	CHECK(!parses(text, huge));
	free(text);
}

/*
 * Nothing, and zeros of every length.
 */
static void
empty_and_missing_is_malformed(void)
{
	char zeros[TR_TEXT_SIZE] = {0};
	size_t len;
	TrTokenText parsed;

	CHECK(!tr_token_parse("", 0, &parsed));
	CHECK(!tr_token_parse(NULL, 0, &parsed));
	for (len = 0; len <= TR_TEXT_SIZE; len++)
		CHECK(!parses(zeros, len));
}

/*
 * Every position with every other byte.  Only in the prefix may a character
 * become another.
 */
static void
each_changed_byte_is_seen(void)
{
	char text[TR_TEXT_SIZE];
	size_t len = tr_token_format(PREFIX, false, some_id, some_secret, text);
	size_t at;
	int c;

	for (at = 0; at < len; at++)
	{
		char right = text[at];

		for (c = 0; c < 256; c++)
		{
			bool prefix_too = (c >= 'a' && c <= 'z') || (at > 0 && c >= '0' && c <= '9');
			bool good = (char) c == right || (at < strlen(PREFIX) && prefix_too);

			text[at] = (char) c;
			CHECK_FOR(parses(text, len) == good, "byte %zu is %d", at, c);
		}
		text[at] = right;
	}
}

/*
 * The commonest slip of people who copy by hand.
 */
static void
swapped_characters_are_seen(void)
{
	char text[TR_TEXT_SIZE];
	size_t len = tr_token_format(PREFIX, false, some_id, some_secret, text);
	size_t at;

	for (at = strlen(PREFIX) + 1; at + 1 < len; at++)
	{
		char first = text[at];

		text[at] = text[at + 1];
		text[at + 1] = first;
		CHECK_FOR(parses(text, len) == (text[at] == first), "characters %zu and the next", at);
		text[at + 1] = text[at];
		text[at] = first;
	}
}

/*
 * NUL, UTF-8, punctuation: no byte outside the alphabet gets through by way of
 * a check that is right for it.
 */
static void
right_check_lets_no_foreign_byte_in(void)
{
	char checked[CHECKED];
	char text[TR_TEXT_SIZE];
	size_t at;
	int c;

	slow_base62(some_id, TR_ID_BYTES, checked, TR_ID_CHARS);
	checked[0] = '0';
	memcpy(checked + TR_ID_CHARS, some_secret, TR_SECRET_CHARS);
	for (at = 0; at < CHECKED; at++)
	{
		char right = checked[at];

		for (c = 0; c < 256; c++)
		{
			bool good = c != 0 && strchr(alphabet, c) != NULL;

			if (at == 0 && good && c > '6')
				continue; /* about 2^128 and more: has cases of its own */
			checked[at] = (char) c;
			CHECK_FOR(parses(text, make_text(PREFIX, checked, text)) == good, "byte %zu is %d", at,
					  c);
		}
		checked[at] = right;
	}
}

/*
 * 22 characters hold more than an id has.
 */
static void
ids_end_at_2_to_the_128(void)
{
	uint8_t all_ones[TR_ID_BYTES];
	uint8_t zero[TR_ID_BYTES] = {0};
	TrTokenText parsed;

	memset(all_ones, 0xff, sizeof(all_ones));
	CHECK(id_parses("0000000000000000000000", &parsed) &&
		  memcmp(parsed.id, zero, TR_ID_BYTES) == 0);
	CHECK(id_parses(ID_MAX, &parsed) && memcmp(parsed.id, all_ones, TR_ID_BYTES) == 0);
	CHECK(!id_parses(ID_TOO_LARGE, &parsed));
	CHECK(!id_parses("7n42DGM5Tflk9n8mt7FhcA", &parsed));
	CHECK(!id_parses("7n42DGM5Tflk9n8mt7Fhd0", &parsed));
	CHECK(!id_parses("8000000000000000000000", &parsed));
	CHECK(!id_parses("zzzzzzzzzzzzzzzzzzzzzz", &parsed));
}

/*
 * An id plus a multiple of 2^128 must not come out as that id.
 */
static void
ids_do_not_wrap(void)
{
	uint64_t seed = 2;
	int i;

	for (i = 0; i < 2000; i++)
	{
		uint8_t wide[1 + TR_ID_BYTES];
		char id[TR_ID_CHARS];
		TrTokenText parsed;

		check_random_bytes(&seed, wide, sizeof(wide));
		wide[0] = (uint8_t) (i % 8);
		if (!slow_base62(wide, sizeof(wide), id, TR_ID_CHARS))
			continue; /* more than 22 characters hold */
		CHECK_FOR(id_parses(id, &parsed) == (wide[0] == 0), "%d times 2^128", wide[0]);
	}
}

/*
 * The check is 32 bits, but six characters hold more: only the one value is it.
 */
static void
check_has_one_form(void)
{
	char text[TR_TEXT_SIZE];
	size_t len = tr_token_format(PREFIX, false, some_id, some_secret, text);
	char *check = text + len - TR_CHECK_CHARS;
	uint64_t crc = slow_crc(text + strlen(PREFIX) + 1, CHECKED);
	uint64_t multiple;

	CHECK(slow_crc("123456789", 9) == UINT32_C(0xcbf43926));
	for (multiple = 0; multiple <= 12; multiple++)
	{
		slow_check(crc + (multiple << 32), check);
		CHECK_FOR(parses(text, len) == (multiple == 0), "check + %d * 2^32", (int) multiple);
	}
	slow_check(~crc & UINT32_MAX, check);
	CHECK(!parses(text, len));
	slow_check(slow_crc(text, len - TR_CHECK_CHARS), check); /* of the prefix, too */
	CHECK(!parses(text, len));
	slow_check(slow_crc(text + strlen(PREFIX) + 1, TR_ID_CHARS), check);
	CHECK(!parses(text, len));
	memset(check, '0', TR_CHECK_CHARS);
	CHECK(!parses(text, len));
}

/*
 * 43 characters hold a little more than 2^256.  Such a secret is for the hash
 * to refuse: parsing does not decode secrets.
 */
static void
secret_is_only_characters(void)
{
	char secret[TR_SECRET_CHARS];
	char text[TR_TEXT_SIZE];
	size_t len;

	memset(secret, 'z', sizeof(secret));
	len = tr_token_format(PREFIX, false, some_id, secret, text);
	CHECK(parses(text, len));
}

/*
 * Random bytes, and random characters in the right shape.
 */
static void
junk_is_malformed(void)
{
	uint64_t seed = 3;
	char text[TR_TEXT_SIZE + 20];
	int i;

	for (i = 0; i < 50000; i++)
	{
		size_t len = check_random(&seed) % sizeof(text);
		size_t at;

		check_random_bytes(&seed, text, len);
		if (i % 2 == 0)
		{
			/* Of the right shape; six characters are right once in 5 * 10^10. */
			len = SHORTEST + check_random(&seed) % TR_TEXT_PREFIX_MAX;
			for (at = 0; at < len; at++)
				text[at] = alphabet[36 + check_random(&seed) % 26];
			text[len - TR_BODY_CHARS - 1] = '_';
		}
		CHECK_FOR(!parses(text, len), "junk %d", i);
	}
}

int
main(void)
{
	RUN(text_prefixes);
	RUN(cut_off_is_malformed);
	RUN(over_long_is_malformed);
	RUN(empty_and_missing_is_malformed);
	RUN(each_changed_byte_is_seen);
	RUN(swapped_characters_are_seen);
	RUN(right_check_lets_no_foreign_byte_in);
	RUN(ids_end_at_2_to_the_128);
	RUN(ids_do_not_wrap);
	RUN(check_has_one_form);
	RUN(secret_is_only_characters);
	RUN(junk_is_malformed);
	return check_done();
}
