/*
 * mask_fuzz.c
 *	  Any text, masked: is nothing left that could be a secret, and everything
 *	  else left as it was?
 */
#include "fuzz.h"

#include "core/mask.h"
#include "core/secret.h"
#include "core/token_text.h"

#define MARK "_[redacted]"

/* So many characters of a secret in a row give it away. */
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
 * Mask into memory of exactly the room that is asked for, and in place, which
 * gives the same; the caller frees it.
 */
static char *
mask(const char *text, size_t len, size_t *masked_len)
{
	char *out = exactly(len + 1);
	char *place = exactly(len + 1);

	*masked_len = tr_token_mask(text, len, out);
	HOLDS(*masked_len <= len);
	HOLDS(out[*masked_len] == '\0');

	memcpy(place, text, len);
	place[len] = '\0';
	HOLDS(tr_token_mask(place, len, place) == *masked_len);
	HOLDS(memcmp(place, out, *masked_len + 1) == 0);
	free(place);
	return out;
}

/*
 * How many digits follow here?
 */
static size_t
digits(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && is_digit(text[n]))
		n++;
	return n;
}

/*
 * No run that is too long is left after a '_' or "...".
 */
static void
no_run_is_left(const char *masked, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
	{
		size_t run = digits(masked + i, len - i);

		HOLDS(i < 1 || masked[i - 1] != '_' || run <= TR_ID_CHARS);
		HOLDS(i < 3 || memcmp(masked + i - 3, "...", 3) != 0 || run < TELLING);
		i += run;
	}
}

/*
 * What came out is what went in, but for marks, each in the place of as many
 * digits at least, after 22 others and a '_', or after "...".
 */
static void
rest_is_untouched(const char *text, size_t len, const char *masked, size_t masked_len)
{
	size_t from = 0;
	size_t to = 0;

	while (from < len)
	{
		size_t run = digits(text + from, len - from);
		bool id = from > 0 && text[from - 1] == '_' && run > TR_ID_CHARS;
		bool rest = from > 2 && memcmp(text + from - 3, "...", 3) == 0 && run >= TELLING;
		size_t same = id ? TR_ID_CHARS : rest ? 0 : run > 0 ? run : 1;
		const char *mark = id ? MARK : &MARK[1];

		HOLDS(masked_len - to >= same && memcmp(masked + to, text + from, same) == 0);
		to += same;
		from += same;
		if (id || rest)
		{
			size_t room = run - same;
			size_t shown = room < strlen(mark) ? room : strlen(mark);

			HOLDS(masked_len - to >= shown && memcmp(masked + to, mark, shown) == 0);
			to += shown;
			from += room;
		}
	}
	HOLDS(to == masked_len);
}

/*
 * Does the text hold so many characters in a row of the secret and its check?
 */
static bool
tells(const char *text, size_t len, const char *secret, size_t secret_len)
{
	size_t i;

	for (i = 0; i + TELLING <= secret_len; i++)
	{
		if (memmem(text, len, secret + i, TELLING) != NULL)
			return true;
	}
	return false;
}

/*
 * Nothing of this secret shows in these characters, masked, be they a text or
 * taken for a tree of nodes.
 */
static void
does_not_show(const char *text, size_t len, const char *secret, size_t secret_len)
{
	size_t masked_len;
	char *masked = mask(text, len, &masked_len);

	HOLDS(!tells(masked, masked_len, secret, secret_len));
	memcpy(masked, text, len);
	masked[len] = '\0';
	masked_len = tr_nodes_mask(masked, len);
	HOLDS(masked_len <= len && masked[masked_len] == '\0');
	HOLDS(!tells(masked, masked_len, secret, secret_len));
	HOLDS(tr_nodes_mask(masked, masked_len) == masked_len);
	free(masked);
}

/*
 * A token in the midst of the input, whole, and cut off wherever the input
 * says, at its end or its beginning.  Its secret follows from the input, which therefore cannot hold it.
 */
static void
token_does_not_show(const char *text, size_t len)
{
	uint8_t hash[TR_HASH_BYTES];
	char secret[TR_SECRET_CHARS];
	char token[TR_TEXT_SIZE];
	size_t token_len;
	size_t secret_at;
	size_t at;
	char *whole;
	char rest[3 + TR_TEXT_SIZE] = "...";

	HOLDS(tr_sha256(text, len, hash));
	tr_secret_encode(hash, secret);
	token_len = tr_token_format("trk", hash[0] & 1, hash + 16, secret, token);
	secret_at = token_len - TR_CHECK_CHARS - TR_SECRET_CHARS;
	at = len * hash[1] / 256;

	whole = exactly(len + token_len);
	memcpy(whole, text, at);
	memcpy(whole + at, token, token_len);
	memcpy(whole + at + token_len, text + at, len - at);
	HOLDS(tells(whole, len + token_len, secret, TR_SECRET_CHARS));
	does_not_show(whole, len + token_len, token + secret_at, token_len - secret_at);
	does_not_show(whole, at + token_len * hash[2] / 256, token + secret_at, token_len - secret_at);
	free(whole);

	at = token_len * hash[3] / 256;
	memcpy(rest + 3, token + at, token_len - at);
	does_not_show(rest, 3 + token_len - at, token + secret_at, token_len - secret_at);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data;
	size_t once_len;
	size_t twice_len;
	char *once = mask(text, size, &once_len);
	char *twice = mask(once, once_len, &twice_len);

	no_run_is_left(once, once_len);
	rest_is_untouched(text, size, once, once_len);
	HOLDS(twice_len == once_len && memcmp(twice, once, once_len) == 0);
	token_does_not_show(text, size);
	free(once);
	free(twice);
	return 0;
}
