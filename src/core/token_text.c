/*
 * token_text.c
 *	  Reading and writing the text of tokens.
 *
 * A number is an array of 32-bit limbs, least significant first, and is taken
 * to and from base62 five digits at a time: 62^5 is the largest power of 62
 * that fits into a limb, so that every step is one 64-bit operation.  Texts
 * have a fixed width, therefore each number has exactly one text.
 */
#include "core/token_text.h"

#include <string.h>
#include <zlib.h>

#define BASE 62
#define CHUNK_CHARS 5
#define CHUNK_BASE UINT32_C(916132832) /* 62^5 */

#define ID_LIMBS (TR_ID_BYTES / 4)
#define SECRET_LIMBS (TR_SECRET_BYTES / 4)

/* What the check covers: id and secret. */
#define CHECKED_CHARS (TR_ID_CHARS + TR_SECRET_CHARS)

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* For each character its value as a digit plus one; 0: not a digit. */
/* clang-format off */
static const uint8_t digit_plus_one[256] = {
	['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5,
	['5'] = 6, ['6'] = 7, ['7'] = 8, ['8'] = 9, ['9'] = 10,
	['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16, ['G'] = 17,
	['H'] = 18, ['I'] = 19, ['J'] = 20, ['K'] = 21, ['L'] = 22, ['M'] = 23, ['N'] = 24,
	['O'] = 25, ['P'] = 26, ['Q'] = 27, ['R'] = 28, ['S'] = 29, ['T'] = 30, ['U'] = 31,
	['V'] = 32, ['W'] = 33, ['X'] = 34, ['Y'] = 35, ['Z'] = 36,
	['a'] = 37, ['b'] = 38, ['c'] = 39, ['d'] = 40, ['e'] = 41, ['f'] = 42, ['g'] = 43,
	['h'] = 44, ['i'] = 45, ['j'] = 46, ['k'] = 47, ['l'] = 48, ['m'] = 49, ['n'] = 50,
	['o'] = 51, ['p'] = 52, ['q'] = 53, ['r'] = 54, ['s'] = 55, ['t'] = 56, ['u'] = 57,
	['v'] = 58, ['w'] = 59, ['x'] = 60, ['y'] = 61, ['z'] = 62,
};
/* clang-format on */

/*
 * How many of the first characters of text are base62?
 */
static size_t
base62_span(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && digit_plus_one[(unsigned char) text[n]] != 0)
		n++;
	return n;
}

/*
 * Read bytes, most significant first, into limbs.
 */
static void
limbs_read(const uint8_t *bytes, int count, uint32_t *limbs)
{
	int i;

	for (i = count - 1; i >= 0; i--, bytes += 4)
		limbs[i] = (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 |
				   (uint32_t) bytes[2] << 8 | (uint32_t) bytes[3];
}

/*
 * Write limbs as bytes, most significant first.
 */
static void
limbs_write(const uint32_t *limbs, int count, uint8_t *bytes)
{
	int i;

	for (i = count - 1; i >= 0; i--)
	{
		*bytes++ = (uint8_t) (limbs[i] >> 24);
		*bytes++ = (uint8_t) (limbs[i] >> 16);
		*bytes++ = (uint8_t) (limbs[i] >> 8);
		*bytes++ = (uint8_t) limbs[i];
	}
}

/*
 * Divide by 62^5 in place; returns the remainder.
 */
static uint32_t
limbs_divide(uint32_t *limbs, int count)
{
	uint64_t rest = 0;
	int i;

	for (i = count - 1; i >= 0; i--)
	{
		rest = rest << 32 | limbs[i];
		limbs[i] = (uint32_t) (rest / CHUNK_BASE);
		rest %= CHUNK_BASE;
	}
	return (uint32_t) rest;
}

/*
 * Multiply by 62^5 and add chunk, in place.  false: the number outgrew its
 * limbs.
 */
static bool
limbs_multiply_add(uint32_t *limbs, int count, uint32_t chunk)
{
	uint64_t carry = chunk;
	int i;

	for (i = 0; i < count; i++)
	{
		carry += (uint64_t) limbs[i] * CHUNK_BASE;
		limbs[i] = (uint32_t) carry;
		carry >>= 32;
	}
	return carry == 0;
}

/*
 * Write a number as base62, from its last digit to its first.  Uses the limbs
 * up.
 */
static void
base62_write(uint32_t *limbs, int count, char *out, int chars)
{
	int at = chars;

	while (at > 0)
	{
		uint32_t chunk = limbs_divide(limbs, count);
		int start = at > CHUNK_CHARS ? at - CHUNK_CHARS : 0;

		while (at > start)
		{
			out[--at] = digits[chunk % BASE];
			chunk /= BASE;
		}
	}
}

/*
 * Write an id as its 22 characters.
 */
static void
id_write(const uint8_t id[TR_ID_BYTES], char *out)
{
	uint32_t limbs[ID_LIMBS];

	limbs_read(id, ID_LIMBS, limbs);
	base62_write(limbs, ID_LIMBS, out, TR_ID_CHARS);
}

/*
 * Read an id from 22 characters that are known to be base62.  false: it is
 * 2^128 or more.
 */
static bool
id_read(const char *text, uint8_t id[TR_ID_BYTES])
{
	uint32_t limbs[ID_LIMBS] = {0};
	int at = 0;
	int end = TR_ID_CHARS % CHUNK_CHARS; /* only the first chunk is short */

	for (; end <= TR_ID_CHARS; end += CHUNK_CHARS)
	{
		uint32_t chunk = 0;

		for (; at < end; at++)
			chunk = chunk * BASE + digit_plus_one[(unsigned char) text[at]] - 1;
		if (!limbs_multiply_add(limbs, ID_LIMBS, chunk))
			return false;
	}
	limbs_write(limbs, ID_LIMBS, id);
	return true;
}

/*
 * Write the check of the 65 characters of id and secret.
 */
static void
check_write(const char *checked, char out[TR_CHECK_CHARS])
{
	uint32_t crc = (uint32_t) crc32(0, (const Bytef *) checked, CHECKED_CHARS);

	base62_write(&crc, 1, out, TR_CHECK_CHARS);
}

/*
 * Is this [a-z][a-z0-9]*, at least one and at most max characters?
 */
static bool
prefix_fits(const char *prefix, size_t len, size_t max)
{
	size_t i;

	if (len < 1 || len > max || prefix[0] < 'a' || prefix[0] > 'z')
		return false;
	for (i = 1; i < len; i++)
	{
		if (!(prefix[i] >= 'a' && prefix[i] <= 'z') && !(prefix[i] >= '0' && prefix[i] <= '9'))
			return false;
	}
	return true;
}

/*
 * Is this what a policy may have as its prefix?
 */
bool
tr_prefix_valid(const char *prefix, size_t len)
{
	return prefix_fits(prefix, len, TR_PREFIX_MAX);
}

/*
 * Read a token.  Everything but the prefix has a fixed width, so that the
 * length alone says where the parts are; the check then rejects all but
 * deliberate forgeries, for which the remaining tests are.
 */
bool
tr_token_parse(const char *text, size_t len, TrTokenText *out)
{
	const char *body;
	size_t prefix_len;
	char check[TR_CHECK_CHARS];

	if (len < 1 + 1 + TR_BODY_CHARS || len > TR_TEXT_MAX)
		return false;
	prefix_len = len - 1 - TR_BODY_CHARS;
	body = text + prefix_len + 1;

	check_write(body, check);
	if (memcmp(check, body + CHECKED_CHARS, TR_CHECK_CHARS) != 0)
		return false;

	if (text[prefix_len] != '_' || !prefix_fits(text, prefix_len, TR_TEXT_PREFIX_MAX))
		return false;
	if (base62_span(body, CHECKED_CHARS) != CHECKED_CHARS)
		return false;

	out->secret = body + TR_ID_CHARS;
	return id_read(body, out->id);
}

/*
 * Write <prefix>[r]_<id>, without a terminating zero; returns its length.  A
 * prefix that is too long (no valid one is) is cut rather than written past
 * the end of out.
 */
static size_t
public_part_write(const char *prefix, bool rotation_key, const uint8_t id[TR_ID_BYTES], char *out)
{
	size_t len = strnlen(prefix, TR_PREFIX_MAX);

	memcpy(out, prefix, len);
	if (rotation_key)
		out[len++] = 'r';
	out[len++] = '_';
	id_write(id, out + len);
	return len + TR_ID_CHARS;
}

/*
 * Write a token or a rotation key.
 */
size_t
tr_token_format(const char *prefix, bool rotation_key, const uint8_t id[TR_ID_BYTES],
				const char secret[TR_SECRET_CHARS], char out[TR_TEXT_SIZE])
{
	size_t len = public_part_write(prefix, rotation_key, id, out);

	memcpy(out + len, secret, TR_SECRET_CHARS);
	len += TR_SECRET_CHARS;
	check_write(out + len - CHECKED_CHARS, out + len);
	len += TR_CHECK_CHARS;
	out[len] = '\0';
	return len;
}

/*
 * Write what people see of a token.
 */
size_t
tr_token_display(const char *prefix, const uint8_t id[TR_ID_BYTES], char out[TR_DISPLAY_SIZE])
{
	size_t len = public_part_write(prefix, false, id, out);

	out[len] = '\0';
	return len;
}

/*
 * Write 32 bytes as the characters of a secret.  (explicit_bzero rather than
 * tr_wipe: secret.c stands above this file.)
 */
void
tr_secret_encode(const uint8_t raw[TR_SECRET_BYTES], char out[TR_SECRET_CHARS])
{
	uint32_t limbs[SECRET_LIMBS];

	limbs_read(raw, SECRET_LIMBS, limbs);
	base62_write(limbs, SECRET_LIMBS, out, TR_SECRET_CHARS);
	explicit_bzero(limbs, sizeof(limbs));
}
