/*
 * mask_fuzz.c
 *	  Any text, masked: is nothing left that could be a secret, and everything
 *	  else left as it was?
 */
#include "fuzz.h"

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
 * Mask into memory of exactly the room that was asked for; the caller frees
 * it.
 */
static char *
mask(const char *text, size_t len, size_t *masked_len)
{
	char *out = exactly(tr_mask_room(len));

	*masked_len = tr_token_mask(text, len, out);
	HOLDS(*masked_len < tr_mask_room(len));
	HOLDS(out[*masked_len] == '\0');
	return out;
}

/*
 * No run of more than an id's characters after a '_' is left.
 */
static void
no_run_is_left(const char *masked, size_t len)
{
	size_t run = TR_ID_CHARS + 1; /* digits since the last '_' */
	size_t i;

	for (i = 0; i < len; i++)
	{
		if (masked[i] == '_')
			run = 0;
		else if (!is_digit(masked[i]))
			run = TR_ID_CHARS + 1;
		else if (run <= TR_ID_CHARS)
			HOLDS(++run <= TR_ID_CHARS);
	}
}

/*
 * What came out is what went in, but for marks, each in the place of at least
 * one digit that followed 22 others and a '_'.
 */
static void
rest_is_untouched(const char *text, size_t len, const char *masked, size_t masked_len)
{
	size_t from = 0;
	size_t to = 0;

	while (to < masked_len)
	{
		size_t run = 0;

		while (run < from && is_digit(text[from - 1 - run]))
			run++;
		if (run == TR_ID_CHARS && from > run && text[from - 1 - run] == '_' && from < len &&
			is_digit(text[from]))
		{
			HOLDS(masked_len - to >= strlen(MARK) && memcmp(masked + to, MARK, strlen(MARK)) == 0);
			to += strlen(MARK);
			while (from < len && is_digit(text[from]))
				from++;
			continue;
		}
		HOLDS(from < len && masked[to] == text[from]);
		to++;
		from++;
	}
	HOLDS(from == len);
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
 * Nothing of this secret shows in these characters, masked.
 */
static void
does_not_show(const char *text, size_t len, const char *secret, size_t secret_len)
{
	size_t masked_len;
	char *masked = mask(text, len, &masked_len);

	HOLDS(!tells(masked, masked_len, secret, secret_len));
	free(masked);
}

/*
 * A token in the midst of the input, whole, and cut off wherever the input
 * says.  Its secret follows from the input, which therefore cannot hold it.
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
