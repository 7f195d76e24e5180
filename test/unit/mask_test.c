/*
 * mask_test.c
 *	  Does masking hide whatever could be a secret, and nothing else?
 */
#include "check.h"
#include "core/mask.h"

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
	{"trk_" ID "H", "trk_" ID "_"},
	{"trk_" ID "HhSYc...", "trk_" ID "_[red..."},
	{"trk_" ID "HhSYcEqSlP", "trk_" ID "_[redacted"},
	{"trk_" ID "HhSYcEqSlP8", MASKED},
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
	{"_" ID "x_" ID "xy_" ID "x", "_" ID "__" ID "_[_" ID "_"},
	{"_" ID "-" SECRET, "_" ID "-" SECRET},

	/* long, but after no '_' */
	{ID SECRET CHECK_TEXT, ID SECRET CHECK_TEXT},
	{"trk-" ID SECRET, "trk-" ID SECRET},
	{ID SECRET "_", ID SECRET "_"},

	/* cut off in front */
	{"..." SECRET CHECK_TEXT "\"}", "...[redacted]\"}"},
	{"line 1: ...0123456789abcdefghij", "line 1: ...[redacted]"},
	{"....0123456789abcdefghij", "....[redacted]"},
	{"...0123456789abcdefghi", "...0123456789abcdefghi"},
	{"..0123456789abcdefghij", "..0123456789abcdefghij"},
	{"... 0123456789abcdefghij", "... 0123456789abcdefghij"},
	{"...k_" ID SECRET, "...k_" ID "_[redacted]"},
	{"..._" ID SECRET, "..._" ID "_[redacted]"},

	/* identifiers as they stand in logs */
	{"pg_stat_statements_information", "pg_stat_statements_information"},
	{"token_rotation.tr_validate_many", "token_rotation.tr_validate_many"},
	{"_abcdefghijklmnopqrstuv", "_abcdefghijklmnopqrstuv"},
	{"_abcdefghijklmnopqrstuvw", "_abcdefghijklmnopqrstuv_"},

	/* line breaks and lists are nothing special here */
	{"trk_" ID "\nHhSYcEqSlP8", "trk_" ID "\nHhSYcEqSlP8"},
	{"[ 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 ]", "[ 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 ]"},
};

/* The same in a tree of nodes. */
static const struct
{
	const char *text;
	const char *masked;
} nodes[] = {
	{"", ""},
	{"{FUNCEXPR :funcid 1 :args <>}", "{FUNCEXPR :funcid 1 :args <>}"},
	{":val \"" TOKEN "\"", ":val \"" MASKED "\""},

	/* broken into lines, anywhere */
	{":val \"trk_" ID "HhSYcEq\nSlP8WPlJmT3KUwWEcKvdfWdZXCAmEhKSDfuG" CHECK_TEXT "\"",
	 ":val \"" MASKED "\""},
	{"trk_\n    " ID SECRET, "trk_\n    " ID "_[redacted]"},
	{"trk_0123456789\n  ABCDEFGHIJKL" SECRET, "trk_0123456789\n  ABCDEFGHIJKL_[redacted]"},
	{"trk_" ID "\n" SECRET, "trk_" ID "\n_[redacted]"},
	{"trk_" ID "Hh\n  SYcE\n  qSlP8\n  WPl", MASKED},
	{"...HhSYcEqSlP\n  8WPlJmT3KUwWEcKvdf", "...[redacted]"},
	{"trk_" ID "\n  ", "trk_" ID "\n  "},
	{"trk_" ID "\n  }", "trk_" ID "\n  }"},
	{"trk_" ID "\n\nHh", "trk_" ID "\n\nHh"},
	{"trk_" ID " Hh", "trk_" ID " Hh"},

	/* lists of bytes */
	{":constvalue 20 [ 80 0 0 0 1 2 3 4 5 6 7 8 9 0 -1 -128 127 8 9 0 ]",
	 ":constvalue 20 [redacted]"},
	{":constvalue 20 [ 80 0 0 0 1 2 3 4 5 6\n    7 8 9 0 -1 -128 127 8 9 0\n]",
	 ":constvalue 20 [redacted]"},
	{"[ 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 ]", "[ 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 ]"},
	{":constvalue 4 [ 7 0 0 0 0 0 0 0 ]", ":constvalue 4 [ 7 0 0 0 0 0 0 0 ]"},
	{"[ 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 x ]", "[ 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 x ]"},
	{"[ 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0", "[ 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0"},
};

/*
 * Mask into memory of exactly the room that is asked for, and in place, which
 * must give the same; the caller frees it.
 */
static char *
mask(const char *text, size_t len, size_t *masked_len)
{
	char *copy = check_copy(text, len);
	char *out = malloc(len + 1);
	char *place = malloc(len + 1);

	*masked_len = tr_token_mask(copy, len, out);
	CHECK(*masked_len <= len);
	CHECK(out[*masked_len] == '\0');

	memcpy(place, text, len);
	place[len] = '\0';
	CHECK(tr_token_mask(place, len, place) == *masked_len);
	CHECK(memcmp(place, out, *masked_len + 1) == 0);
	free(place);
	free(copy);
	return out;
}

/*
 * The rule, one character at a time: from the last one on, so that it is known
 * how long the run is that a character stands in.  Returns the length.
 */
static size_t
slow_mask(const char *text, size_t len, char *out)
{
	size_t written = 0;
	size_t i = 0;

	while (i < len)
	{
		size_t run = 0;
		size_t shown = 0;
		const char *mark = NULL;

		while (i + run < len && strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
									   "abcdefghijklmnopqrstuvwxyz",
									   text[i + run]) != NULL &&
			   text[i + run] != '\0')
			run++;
		if (i >= 1 && text[i - 1] == '_' && run > 22)
		{
			shown = 22;
			mark = "_[redacted]";
		}
		else if (i >= 3 && memcmp(text + i - 3, "...", 3) == 0 && run >= 20)
			mark = "[redacted]";
		else
			shown = run > 0 ? run : 1;

		memcpy(out + written, text + i, shown);
		written += shown;
		i += shown;
		if (mark != NULL)
		{
			size_t room = run - shown;

			snprintf(out + written, room < strlen(mark) ? room + 1 : strlen(mark) + 1, "%s", mark);
			written += strlen(out + written);
			i += room;
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

		out[i] = draw % often == 0 ? "__.-\x80\0"[draw / often % 6] : "0aAzZ9"[draw / often % 6];
		/* dots come in threes */
		if (out[i] == '.' && i + 2 < len)
		{
			out[++i] = '.';
			out[++i] = '.';
		}
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

		snprintf(expected, sizeof(expected), "%.*s%.*s%.*s", (int) (n < secret_at ? n : secret_at),
				 text, (int) (n > secret_at ? n - secret_at : 0), "_[redacted]",
				 (int) (n > secret_end ? n - secret_end : 0), text + secret_end);
		CHECK_FOR(strcmp(masked, expected) == 0, "first %zu: %s", n, masked);
		free(masked);
	}
}

/*
 * Wherever a line begins in the midst of a token, as the context of an error in
 * JSON does, less than 20 characters of its secret are left.
 */
static void
no_secret_is_left_wherever_it_begins(void)
{
	static const char token[] = TOKEN;
	size_t n;

	for (n = 0; n < sizeof(token) - 1; n++)
	{
		char text[sizeof(token) + 3];
		size_t len;
		char *masked;
		size_t i;

		snprintf(text, sizeof(text), "...%s", token + n);
		masked = mask(text, strlen(text), &len);
		for (i = 0; i + 20 <= strlen(SECRET CHECK_TEXT); i++)
		{
			char window[21];

			snprintf(window, sizeof(window), "%.20s", SECRET CHECK_TEXT + i);
			CHECK_FOR(strstr(masked, window) == NULL, "from %zu: %s", n, masked);
		}
		free(masked);
	}
}

/*
 * The list of nodes above.
 */
static void
nodes_one_by_one(void)
{
	size_t i;

	for (i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
	{
		char *text = malloc(strlen(nodes[i].text) + 1);
		size_t len;

		strcpy(text, nodes[i].text);
		len = tr_nodes_mask(text, strlen(text));
		CHECK_FOR(strcmp(text, nodes[i].masked) == 0, "%s gave %s", nodes[i].text, text);
		CHECK(len == strlen(text));
		CHECK(tr_nodes_mask(text, len) == len && strcmp(text, nodes[i].masked) == 0);
		free(text);
	}
}

/*
 * A token in a tree of nodes, broken into lines of any length, indented or not.
 */
static void
no_secret_is_left_between_lines(void)
{
	static const char token[] = " :val \"" TOKEN "\" :location";
	size_t width;
	size_t offset;

	for (width = 1; width < 90; width++)
	{
		for (offset = 0; offset < width; offset++)
		{
			char text[8 * sizeof(token)];
			char left[sizeof(text)];
			size_t to = 0;
			size_t i;

			for (i = 0; i < sizeof(token); i++)
			{
				if ((i + offset) % width == width - 1)
					to += (size_t) sprintf(text + to, "\n%*s", (int) (offset % 5), "");
				text[to++] = token[i];
			}
			tr_nodes_mask(text, strlen(text));
			for (i = to = 0; text[i] != '\0'; i++)
			{
				if (text[i] != '\n' && text[i] != ' ')
					left[to++] = text[i];
			}
			left[to] = '\0';
			CHECK_FOR(strcmp(left, ":val\"" MASKED "\":location") == 0, "width %zu, offset %zu: %s",
					  width, offset, text);
		}
	}
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
	RUN(no_secret_is_left_wherever_it_begins);
	RUN(nodes_one_by_one);
	RUN(no_secret_is_left_between_lines);
	return check_done();
}
