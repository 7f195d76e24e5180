/*
 * token_text_test.c
 *	  Do tokens come out right, and are right ones read?
 */
#include "slow_text.h"

/* --- writing --- */

/*
 * Is the id whose last byte is this one shown as these 22 characters?
 */
static bool
small_id_shown(uint8_t last, const char *expected)
{
	uint8_t id[TR_ID_BYTES] = {0};
	char shown[TR_DISPLAY_SIZE];

	id[TR_ID_BYTES - 1] = last;
	return tr_token_display("t", id, shown) == 24 && memcmp(shown, "t_", 2) == 0 &&
		   strcmp(shown + 2, expected) == 0;
}

/*
 * Numbers whose base62 anybody can work out, and the largest ones.
 */
static void
numbers_known_by_heart(void)
{
	uint8_t bytes[TR_SECRET_BYTES] = {0};
	char secret[TR_SECRET_CHARS];
	char shown[TR_DISPLAY_SIZE];

	CHECK(small_id_shown(0, "0000000000000000000000"));
	CHECK(small_id_shown(1, "0000000000000000000001"));
	CHECK(small_id_shown(9, "0000000000000000000009"));
	CHECK(small_id_shown(10, "000000000000000000000A"));
	CHECK(small_id_shown(35, "000000000000000000000Z"));
	CHECK(small_id_shown(36, "000000000000000000000a"));
	CHECK(small_id_shown(61, "000000000000000000000z"));
	CHECK(small_id_shown(62, "0000000000000000000010"));
	CHECK(small_id_shown(255, "0000000000000000000047"));

	tr_secret_encode(bytes, secret);
	CHECK(memcmp(secret, "0000000000000000000000000000000000000000000", 43) == 0);
	memset(bytes, 0xff, sizeof(bytes));
	tr_secret_encode(bytes, secret);
	CHECK(memcmp(secret, "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1", 43) == 0);
	tr_token_display(PREFIX, bytes, shown);
	CHECK(strcmp(shown, PREFIX "_" ID_MAX) == 0);
}

/*
 * Random ids and secrets come out as long division says; ids come back.
 */
static void
numbers_both_ways(void)
{
	uint64_t seed = 1;
	int i;

	for (i = 0; i < 20000; i++)
	{
		uint8_t bytes[TR_SECRET_BYTES];
		char fast[TR_SECRET_CHARS];
		char slow[TR_SECRET_CHARS];
		char text[TR_TEXT_SIZE];
		TrTokenText parsed;
		size_t len;

		check_random_bytes(&seed, bytes, sizeof(bytes));
		memset(bytes, 0, i % 20); /* many leading zeros, too */
		tr_secret_encode(bytes, fast);
		CHECK(slow_base62(bytes, TR_SECRET_BYTES, slow, TR_SECRET_CHARS));
		CHECK_FOR(memcmp(fast, slow, TR_SECRET_CHARS) == 0, "number %d", i);

		len = tr_token_format(PREFIX, false, bytes, fast, text);
		CHECK(slow_base62(bytes, TR_ID_BYTES, slow, TR_ID_CHARS));
		CHECK_FOR(memcmp(text + 4, slow, TR_ID_CHARS) == 0, "number %d", i);
		CHECK_FOR(tr_token_parse(text, len, &parsed), "number %d", i);
		CHECK_FOR(memcmp(parsed.id, bytes, TR_ID_BYTES) == 0, "number %d", i);
	}
}

/*
 * Tokens and rotation keys are prefix, id, secret and check, end with a zero,
 * and stay within their room.
 */
static void
token_is_written_whole(void)
{
	char text[TR_TEXT_SIZE + 1];
	char expected[TR_TEXT_SIZE];
	char checked[CHECKED];
	size_t len;

	slow_base62(some_id, TR_ID_BYTES, checked, TR_ID_CHARS);
	memcpy(checked + TR_ID_CHARS, some_secret, TR_SECRET_CHARS);

	memset(text, '#', sizeof(text));
	len = tr_token_format(PREFIX, false, some_id, some_secret, text);
	CHECK(len == make_text(PREFIX, checked, expected) && strcmp(text, expected) == 0);
	CHECK(len == 75 && text[len + 1] == '#');

	len = tr_token_format(PREFIX, true, some_id, some_secret, text);
	CHECK(len == make_text(PREFIX "r", checked, expected) && strcmp(text, expected) == 0);

	memset(text, '#', sizeof(text));
	len = tr_token_format("abcdefghijklmno", true, some_id, some_secret, text);
	CHECK(len == make_text("abcdefghijklmnor", checked, expected) && strcmp(text, expected) == 0);
	CHECK(len == TR_TEXT_MAX && text[TR_TEXT_SIZE] == '#');
}

/*
 * No policy has such a prefix; if a damaged record has one, memory is safe.
 */
static void
prefix_that_is_too_long_overruns_nothing(void)
{
	char text[TR_TEXT_SIZE + 1];
	char shown[TR_DISPLAY_SIZE + 1];
	size_t len;

	memset(text, '#', sizeof(text));
	memset(shown, '#', sizeof(shown));
	len = tr_token_format("abcdefghijklmnopqrstuvwxyz", true, some_id, some_secret, text);
	CHECK(len == TR_TEXT_MAX && text[TR_TEXT_SIZE] == '#');
	len = tr_token_display("abcdefghijklmnopqrstuvwxyz", some_id, shown);
	CHECK(len < TR_DISPLAY_SIZE && shown[TR_DISPLAY_SIZE] == '#');
}

/*
 * What people see is the token without secret and check.
 */
static void
display_is_the_beginning_of_the_token(void)
{
	char text[TR_TEXT_SIZE];
	char shown[TR_DISPLAY_SIZE];
	size_t len;

	tr_token_format(PREFIX, false, some_id, some_secret, text);
	len = tr_token_display(PREFIX, some_id, shown);
	CHECK(len == strlen(PREFIX) + 1 + TR_ID_CHARS && strlen(shown) == len);
	CHECK(strncmp(text, shown, len) == 0);
}

/* --- prefixes --- */

/*
 * What a policy may have as its prefix, with the neighbours of each range of
 * characters.
 */
static void
policy_prefixes(void)
{
	static const char *const good[] = {
		"a", "z", "trk", "a0", "z9", "trk2go", "abcdefghijklmno", "a23456789012345"};
	static const char *const bad[] = {"",	 "A",	 "0",	 "9a",		   "tRk",
									  "trK", "t_k",	 "_",	 "trk_",	   "t-k",
									  "t k", " trk", "trk ", "t\xc3\xa4k", "abcdefghijklmnop",
									  "t`",	 "t{",	 "t/",	 "t:",		   "`a",
									  "{a",	 "t@",	 "t["};
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(*good); i++)
		CHECK_FOR(tr_prefix_valid(good[i], strlen(good[i])), "%s", good[i]);
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_FOR(!tr_prefix_valid(bad[i], strlen(bad[i])), "%s", bad[i]);
	CHECK(tr_prefix_valid("trk_and more", 3));
	CHECK(!tr_prefix_valid("t\0k", 3));
}

/* --- reading --- */

/*
 * Shortest and longest prefix, token and rotation key, without a zero at the
 * end.
 */
static void
parsing_finds_id_and_secret(void)
{
	static const char *const prefixes[] = {"a", PREFIX, "abcdefghijklmno"};
	size_t i;
	int rotation_key;

	for (i = 0; i < 3; i++)
	{
		for (rotation_key = 0; rotation_key <= 1; rotation_key++)
		{
			char text[TR_TEXT_SIZE];
			size_t len = tr_token_format(prefixes[i], rotation_key, some_id, some_secret, text);
			char *copy = check_copy(text, len);
			TrTokenText parsed;

			CHECK(tr_token_parse(copy, len, &parsed));
			CHECK(memcmp(parsed.id, some_id, TR_ID_BYTES) == 0);
			CHECK(parsed.secret == copy + len - TR_CHECK_CHARS - TR_SECRET_CHARS);
			CHECK(memcmp(parsed.secret, some_secret, TR_SECRET_CHARS) == 0);
			free(copy);
		}
	}
}

int
main(void)
{
	RUN(numbers_known_by_heart);
	RUN(numbers_both_ways);
	RUN(token_is_written_whole);
	RUN(prefix_that_is_too_long_overruns_nothing);
	RUN(display_is_the_beginning_of_the_token);
	RUN(policy_prefixes);
	RUN(parsing_finds_id_and_secret);
	return check_done();
}
