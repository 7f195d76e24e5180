/*
 * mask.c
 *	  Hides the secrets of tokens in text: see mask.h.
 *
 * One pass: a run of digits cannot hold what begins another, so that no byte is
 * looked at more than twice.
 */
#include "core/mask.h"

#include <stdbool.h>
#include <string.h>

#include "core/token_text.h"

static const char mark[] = "_[redacted]";
#define MARK_CHARS (sizeof(mark) - 1)

/* So many characters of a secret in a row are not to be shown. */
#define TELLING 20

/*
 * Is this a digit of base62?
 */
static bool
is_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/*
 * How many bytes does a line break take that the server put into a word, with
 * the spaces after it?  0: there is none, or no digit follows.
 */
static size_t
break_span(const char *text, const char *end)
{
	const char *at = text;

	if (at == end || *at != '\n')
		return 0;
	for (at++; at < end && *at == ' '; at++)
		;
	return at < end && is_digit(*at) ? (size_t) (at - text) : 0;
}

/*
 * Where does the run of digits end that begins here?  *digits says how many it
 * has, and *kept where the first of them that may not be shown is, after as
 * many as an id has.
 */
static const char *
run_end(const char *text, const char *end, bool broken, size_t *digits, const char **kept)
{
	size_t n = 0;

	for (;;)
	{
		if (n == TR_ID_CHARS)
			*kept = text;
		if (text < end && is_digit(*text))
		{
			text++;
			n++;
		}
		else
		{
			size_t span = broken ? break_span(text, end) : 0;

			if (span == 0)
				break;
			text += span;
		}
	}
	*digits = n;
	return text;
}

/*
 * Where does a list of numbers end that begins with this '['?  NULL: it is
 * none, or has too few to tell anything.
 */
static const char *
list_end(const char *text, const char *end)
{
	size_t numbers = 0;
	bool within = false;

	for (text++; text < end && *text != ']'; text++)
	{
		bool digit = (*text >= '0' && *text <= '9') || *text == '-';

		if (!digit && *text != ' ' && *text != '\n')
			return NULL;
		numbers += digit && !within;
		within = digit;
	}
	return text < end && numbers >= TELLING ? text + 1 : NULL;
}

/*
 * Write as much of the mark, from its character `from` on, as there is room for
 * in the place of what it hides.
 */
static char *
put_mark(char *to, size_t from, size_t room)
{
	size_t len = MARK_CHARS - from;

	if (len > room)
		len = room;
	memcpy(to, mark + from, len);
	return to + len;
}

/*
 * At a '_': mask the secret that follows an id.  Returns the end of what was
 * dealt with and moves *to; NULL: there is none.
 */
static const char *
mask_secret(const char *text, const char *end, bool nodes, char **to)
{
	const char *kept = NULL;
	size_t digits;
	const char *after = run_end(text + 1, end, nodes, &digits, &kept);

	if (digits <= TR_ID_CHARS)
		return NULL;
	memmove(*to, text, (size_t) (kept - text));
	*to = put_mark(*to + (kept - text), 0, (size_t) (after - kept));
	return after;
}

/*
 * After "...": the same of what may be the end of a token.
 */
static const char *
mask_rest(const char *text, const char *end, bool nodes, char **to)
{
	const char *kept = NULL;
	size_t digits;
	const char *after = run_end(text, end, nodes, &digits, &kept);

	if (digits < TELLING)
		return NULL;
	*to = put_mark(*to, 1, (size_t) (after - text));
	return after;
}

/*
 * At a '[': the same of a list of bytes.
 */
static const char *
mask_list(const char *text, const char *end, char **to)
{
	const char *after = list_end(text, end);

	if (after != NULL)
		*to = put_mark(*to, 1, (size_t) (after - text));
	return after;
}

/*
 * Both public functions.  What was written never passes what was read.  Where
 * nothing is to be masked in place nothing is written, because somebody may
 * have put a constant there.
 */
static size_t
mask(const char *text, size_t len, bool nodes, char *out)
{
	const char *end = text + len;
	char *to = out;
	int dots = 0; /* in a row, right before */

	while (text < end)
	{
		const char *after = NULL;

		if (*text == '_')
			after = mask_secret(text, end, nodes, &to);
		else if (dots >= 3)
			after = mask_rest(text, end, nodes, &to);
		else if (nodes && *text == '[')
			after = mask_list(text, end, &to);

		dots = *text == '.' ? dots + 1 : 0;
		if (after != NULL)
			text = after;
		else if (to == text)
			to++, text++;
		else
			*to++ = *text++;
	}
	if (to != end)
		*to = '\0';
	return (size_t) (to - out);
}

size_t
tr_token_mask(const char *text, size_t len, char *out)
{
	return mask(text, len, false, out);
}

size_t
tr_nodes_mask(char *text, size_t len)
{
	return mask(text, len, true, text);
}
