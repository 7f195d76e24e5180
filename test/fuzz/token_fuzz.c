/*
 * token_fuzz.c
 *	  Any bytes as the text of a token: is it told right whether it is one, and
 *	  does what was read come out again byte for byte?
 *
 * The input is tried as it is, and once more with a check that is right for
 * it, because no fuzzer guesses a CRC.  What must come out follows from rules
 * that are written down here a second time, over slow_text.h.
 */
#include "fuzz.h"

#include "../unit/slow_text.h"

/*
 * Is this [a-z][a-z0-9]*, at most max long?
 */
static bool
is_prefix(const char *text, size_t len, size_t max)
{
	static const char lower[] = "abcdefghijklmnopqrstuvwxyz";
	static const char other[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	size_t i;

	if (len == 0 || len > max || memchr(lower, text[0], strlen(lower)) == NULL)
		return false;
	for (i = 1; i < len; i++)
	{
		if (memchr(other, text[i], strlen(other)) == NULL)
			return false;
	}
	return true;
}

/*
 * Is this a token?  The digits of base62 are in the order of their codes, so
 * ids compare as texts.
 */
static bool
is_token(const char *text, size_t len)
{
	const char *body = text + len - TR_BODY_CHARS;
	char check[TR_CHECK_CHARS];
	size_t i;

	if (len <= 1 + TR_BODY_CHARS || body[-1] != '_' ||
		!is_prefix(text, len - 1 - TR_BODY_CHARS, TR_TEXT_PREFIX_MAX))
		return false;
	for (i = 0; i < TR_BODY_CHARS; i++)
	{
		if (memchr(alphabet, body[i], strlen(alphabet)) == NULL)
			return false;
	}
	slow_check(slow_crc(body, CHECKED), check);
	return memcmp(body, ID_MAX, TR_ID_CHARS) <= 0 &&
		   memcmp(body + CHECKED, check, TR_CHECK_CHARS) == 0;
}

/*
 * What was read, written again: the same bytes, as a token and, where the
 * prefix could be one's, as a rotation key; and what people see of it.
 */
static void
comes_out_again(const char *text, size_t len, const TrTokenText *parsed)
{
	size_t prefix_len = len - 1 - TR_BODY_CHARS;
	char prefix[TR_PREFIX_MAX + 1] = {0};
	char id[TR_ID_CHARS];
	char *out = exactly(TR_TEXT_SIZE);

	HOLDS(parsed->secret == text + len - TR_CHECK_CHARS - TR_SECRET_CHARS);
	HOLDS(slow_base62(parsed->id, TR_ID_BYTES, id, TR_ID_CHARS));
	HOLDS(memcmp(id, text + prefix_len + 1, TR_ID_CHARS) == 0);

	if (prefix_len <= TR_PREFIX_MAX)
	{
		memcpy(prefix, text, prefix_len);
		HOLDS(tr_token_format(prefix, false, parsed->id, parsed->secret, out) == len);
		HOLDS(memcmp(out, text, len) == 0 && out[len] == '\0');
		HOLDS(tr_token_display(prefix, parsed->id, out) == prefix_len + 1 + TR_ID_CHARS);
		HOLDS(memcmp(out, text, prefix_len + 1 + TR_ID_CHARS) == 0);
	}
	if (prefix_len > 1 && text[prefix_len - 1] == 'r')
	{
		memset(prefix, 0, sizeof(prefix));
		memcpy(prefix, text, prefix_len - 1);
		HOLDS(tr_token_format(prefix, true, parsed->id, parsed->secret, out) == len);
		HOLDS(memcmp(out, text, len) == 0 && out[len] == '\0');
	}
	free(out);
}

/*
 * One text: a token or not?
 */
static void
look(const char *text, size_t len)
{
	TrTokenText parsed;
	bool token = tr_token_parse(text, len, &parsed);

	HOLDS(token == is_token(text, len));
	HOLDS(tr_prefix_valid(text, len) == is_prefix(text, len, TR_PREFIX_MAX));
	if (token)
		comes_out_again(text, len, &parsed);
}

/*
 * The other way round: an id, a secret and a prefix out of the input, written
 * and read.
 */
static void
goes_in_again(Input in)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t id[TR_ID_BYTES];
	uint8_t raw[TR_SECRET_BYTES];
	char secret[TR_SECRET_CHARS];
	char prefix[TR_PREFIX_MAX + 1] = {0};
	size_t prefix_len = 1 + input_byte(&in) % TR_PREFIX_MAX;
	bool rotation_key = input_byte(&in) & 1;
	TrTokenText parsed;
	size_t len;
	size_t i;
	char *text = exactly(TR_TEXT_SIZE);

	for (i = 0; i < prefix_len; i++)
		prefix[i] = letters[input_byte(&in) % (i == 0 ? 26 : 36)];
	input_bytes(&in, id, sizeof(id));
	input_bytes(&in, raw, sizeof(raw));
	tr_secret_encode(raw, secret);

	len = tr_token_format(prefix, rotation_key, id, secret, text);
	HOLDS(len == prefix_len + rotation_key + 1 + TR_BODY_CHARS);
	HOLDS(is_token(text, len));
	HOLDS(tr_token_parse(text, len, &parsed));
	HOLDS(memcmp(parsed.id, id, TR_ID_BYTES) == 0);
	HOLDS(memcmp(parsed.secret, secret, TR_SECRET_CHARS) == 0);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input in = {data, size};

	look((const char *) data, size);
	if (size > TR_BODY_CHARS)
	{
		char *repaired = exactly(size);

		memcpy(repaired, data, size);
		slow_check(slow_crc(repaired + size - TR_BODY_CHARS, CHECKED),
				   repaired + size - TR_CHECK_CHARS);
		look(repaired, size);
		free(repaired);
	}
	goes_in_again(in);
	return 0;
}
