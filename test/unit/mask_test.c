/*
 * mask_test.c
 *	  Does masking hide whatever could be a secret, and nothing else?
 */
#include "check.h"
#include "core/token_text.h"

#define ID "0123456789ABCDEFGHIJKL"
#define SECRET "HhSYcEqSlP8WPlJmT3KUwWEcKvdfWdZXCAmEhKSDfuG"
#define CHECK_TEXT "3kP0aZ"
#define TOKEN "trk_" ID SECRET CHECK_TEXT
#define MASKED "trk_" ID "_[redacted]"

/* Texts and what masking makes of them. */
static const struct
{
	const char *text;
	const char *masked;
} forms[] = {
	{"", ""},
	{"_", "_"},
	{"__", "__"},
	{"no token here", "no token here"},
	{TOKEN, MASKED},
	{"trkr_" ID SECRET CHECK_TEXT, "trkr_" ID "_[redacted]"},
	{"SELECT tr_validate('" TOKEN "');", "SELECT tr_validate('" MASKED "');"},
	{"Authorization: Bearer " TOKEN "\r\n", "Authorization: Bearer " MASKED "\r\n"},
	{TOKEN " " TOKEN, MASKED " " MASKED},
	{TOKEN "," TOKEN "," TOKEN, MASKED "," MASKED "," MASKED},
	{TOKEN TOKEN, MASKED "_" ID "_[redacted]"},

	/* cut off, wherever */
	{"trk_" ID SECRET, MASKED},
	{"trk_" ID SECRET "...", MASKED "..."},
	{"trk_" ID "H", MASKED},
	{"trk_" ID "H...", MASKED "..."},
	{"trk_" ID, "trk_" ID},
	{"trk_" ID "...", "trk_" ID "..."},
	{"trk_0123456789", "trk_0123456789"},
	{"_" ID SECRET, "_" ID "_[redacted]"},

	/* the prefix does not matter, nor what is before the '_' */
	{"TRK_" ID SECRET, "TRK_" ID "_[redacted]"},
	{"=_" ID SECRET, "=_" ID "_[redacted]"},
	{"\xc3\xa4_" ID SECRET, "\xc3\xa4_" ID "_[redacted]"},
	{"__" ID SECRET, "__" ID "_[redacted]"},

	/* a check that is wrong, or more than a token */
	{"trk_" ID SECRET "000000", MASKED},
	{"trk_" ID SECRET CHECK_TEXT ID SECRET, MASKED},

	/* what ends a run */
	{TOKEN "\xc3\xa4", MASKED "\xc3\xa4"},
	{TOKEN "-x", MASKED "-x"},
	{TOKEN "_x", MASKED "_x"},
	{"_" ID "_" ID SECRET, "_" ID "_" ID "_[redacted]"},
	{"_" ID "x_" ID "x_" ID "x", "_" ID "_[redacted]_" ID "_[redacted]_" ID "_[redacted]"},
	{"_" ID "-" SECRET, "_" ID "-" SECRET},

	/* long, but after no '_' */
	{ID SECRET CHECK_TEXT, ID SECRET CHECK_TEXT},
	{"trk-" ID SECRET, "trk-" ID SECRET},
	{ID SECRET "_", ID SECRET "_"},

	/* identifiers as they stand in logs */
	{"pg_stat_statements_information", "pg_stat_statements_information"},
	{"token_rotation.tr_validate_many", "token_rotation.tr_validate_many"},
	{"_abcdefghijklmnopqrstuv", "_abcdefghijklmnopqrstuv"},
	{"_abcdefghijklmnopqrstuvw", "_abcdefghijklmnopqrstuv_[redacted]"},
};

/*
 * Mask into memory of exactly the room that was asked for; the caller frees
 * it.
 */
static char *
mask(const char *text, size_t len, size_t *masked_len)
{
	char *copy = check_copy(text, len);
	char *out = malloc(tr_mask_room(len));

	*masked_len = tr_token_mask(copy, len, out);
	CHECK(*masked_len < tr_mask_room(len));
	CHECK(out[*masked_len] == '\0');
	free(copy);
	return out;
}

/*
 * The rule, one character at a time.  Returns the length.
 */
static size_t
slow_mask(const char *text, size_t len, char *out)
{
	long run = -1; /* characters in this run; -1: in none */
	size_t written = 0;
	size_t i;

	for (i = 0; i < len; i++)
	{
		char c = text[i];
		bool base62 = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		if (c == '_')
			run = 0;
		else if (!base62)
			run = -1;
		else if (run >= 0)
			run++;

		if (run <= 22)
			out[written++] = c;
		else if (run == 23)
		{
			strcpy(out + written, "_[redacted]");
			written += strlen("_[redacted]");
		}
	}
	return written;
}

/*
 * Text of the characters that matter here.
 */
static size_t
random_text(uint64_t *seed, char *out, size_t max)
{
	size_t len = check_random(seed) % max;
	unsigned often = (unsigned) (2 + check_random(seed) % 60);
	size_t i;

	for (i = 0; i < len; i++)
	{
		uint64_t draw = check_random(seed);

		out[i] = draw % often == 0 ? "__ -\x80\0"[draw / often % 6] : "0aAzZ9"[draw / often % 6];
	}
	return len;
}

/*
 * The list above.
 */
static void
forms_one_by_one(void)
{
	size_t i;

	for (i = 0; i < sizeof(forms) / sizeof(*forms); i++)
	{
		size_t len;
		char *masked = mask(forms[i].text, strlen(forms[i].text), &len);

		CHECK_FOR(len == strlen(masked), "%s", forms[i].text);
		CHECK_FOR(strcmp(masked, forms[i].masked) == 0, "%s gave %s", forms[i].text, masked);
		free(masked);
	}
}

/*
 * A zero byte ends a run, but not the text.
 */
static void
zero_bytes_are_text(void)
{
	static const char text[] = "a\0b_" ID "\0" TOKEN "\0end";
	static const char expected[] = "a\0b_" ID "\0" MASKED "\0end";
	size_t len;
	char *masked = mask(text, sizeof(text) - 1, &len);

	CHECK(len == sizeof(expected) - 1 && memcmp(masked, expected, sizeof(expected)) == 0);
	free(masked);
}

/*
 * Any bytes without a run of 23 come out as they are.
 */
static void
nothing_is_masked_without_need(void)
{
	uint64_t seed = 4;
	char text[300];
	int i;

	for (i = 0; i < 3000; i++)
	{
		size_t len = check_random(&seed) % sizeof(text);
		size_t at;
		size_t masked_len;
		char *masked;

		check_random_bytes(&seed, text, len);
		for (at = 0; at < len; at += 22)
			text[at] = '.';
		masked = mask(text, len, &masked_len);
		CHECK(masked_len == len && memcmp(masked, text, len) == 0);
		free(masked);
	}
}

/*
 * Random texts, full of runs of all lengths, against the slow rule.
 */
static void
agrees_with_the_rule(void)
{
	uint64_t seed = 5;
	char text[600];
	char expected[1200];
	int i;

	for (i = 0; i < 20000; i++)
	{
		size_t len = random_text(&seed, text, sizeof(text));
		size_t expected_len = slow_mask(text, len, expected);
		size_t masked_len;
		char *masked = mask(text, len, &masked_len);

		CHECK_FOR(masked_len == expected_len, "text %d", i);
		CHECK_FOR(memcmp(masked, expected, expected_len) == 0, "text %d", i);
		free(masked);
	}
}

/*
 * A line may pass through the log hook twice.
 */
static void
masking_twice_changes_nothing(void)
{
	uint64_t seed = 6;
	char text[600];
	int i;

	for (i = 0; i < 2000; i++)
	{
		size_t len = random_text(&seed, text, sizeof(text));
		size_t once_len;
		size_t twice_len;
		char *once = mask(text, len, &once_len);
		char *twice = mask(once, once_len, &twice_len);

		CHECK(once_len == twice_len && memcmp(once, twice, once_len) == 0);
		free(once);
		free(twice);
	}
}

/*
 * Wherever a log line cuts a token off, no character of its secret is left.
 */
static void
no_secret_is_left_wherever_it_is_cut(void)
{
	static const char text[] = "statement: SELECT tr_rotate($1) -- $1 = '" TOKEN "'";
	size_t secret_at = (size_t) (strstr(text, SECRET) - text);
	size_t secret_end = secret_at + strlen(SECRET CHECK_TEXT);
	size_t n;

	for (n = 0; n < sizeof(text); n++)
	{
		char expected[2 * sizeof(text)];
		size_t len;
		char *masked = mask(text, n, &len);

		snprintf(expected, sizeof(expected), "%.*s%s%.*s", (int) (n < secret_at ? n : secret_at),
				 text, n > secret_at ? "_[redacted]" : "",
				 (int) (n > secret_end ? n - secret_end : 0), text + secret_end);
		CHECK_FOR(strcmp(masked, expected) == 0, "first %zu: %s", n, masked);
		free(masked);
	}
}

/*
 * Texts that grow most: runs of 23 characters, one after another.
 */
static void
room_is_enough_and_no_waste(void)
{
	char text[24 * 50];
	size_t i;

	for (i = 0; i < sizeof(text); i++)
		text[i] = i % 24 == 0 ? '_' : 'x';
	for (i = 0; i <= sizeof(text); i++)
	{
		size_t len;
		char *masked = mask(text, i, &len);

		CHECK_FOR(len + 1 == tr_mask_room(i), "%zu bytes", i);
		free(masked);
	}
	CHECK(tr_mask_room(0) == 1);
	CHECK(tr_mask_room(1024 * 1024 * 1024) < (size_t) 1536 * 1024 * 1024);
}

int
main(void)
{
	RUN(forms_one_by_one);
	RUN(zero_bytes_are_text);
	RUN(nothing_is_masked_without_need);
	RUN(agrees_with_the_rule);
	RUN(masking_twice_changes_nothing);
	RUN(no_secret_is_left_wherever_it_is_cut);
	RUN(room_is_enough_and_no_waste);
	return check_done();
}
