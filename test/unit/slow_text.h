/*
 * slow_text.h
 *	  Token texts, made here digit by digit and bit by bit.
 *
 * So that a text with a deliberate fault can carry a right check, and that the
 * quick code has something to agree with.
 */
#ifndef TR_SLOW_TEXT_H
#define TR_SLOW_TEXT_H

#include "check.h"
#include "core/token_text.h"

#define PREFIX "trk"
#define CHECKED (TR_ID_CHARS + TR_SECRET_CHARS)

/* The last id, and one more. */
#define ID_MAX "7n42DGM5Tflk9n8mt7Fhc7"		  /* 2^128 - 1 */
#define ID_TOO_LARGE "7n42DGM5Tflk9n8mt7Fhc8" /* 2^128 */

static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static const uint8_t some_id[TR_ID_BYTES] = {0x1e, 0x6b, 0xa0, 0x33, 0x5c, 0x9f, 0x47, 0x11,
											 0xb2, 0xd8, 0x04, 0x7a, 0xe5, 0x90, 0xc3, 0x28};
static const char some_secret[] = "HhSYcEqSlP8WPlJmT3KUwWEcKvdfWdZXCAmEhKSDfuG";

/*
 * CRC-32, one bit at a time.
 */
static inline uint32_t
slow_crc(const char *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;
	size_t i;
	int bit;

	for (i = 0; i < len; i++)
	{
		crc ^= (uint8_t) bytes[i];
		for (bit = 0; bit < 8; bit++)
			crc = crc & 1 ? (crc >> 1) ^ UINT32_C(0xedb88320) : crc >> 1;
	}
	return ~crc;
}

/*
 * A number of len bytes as that many base62 digits, by long division.  Returns
 * false when it needs more digits.
 */
static inline bool
slow_base62(const uint8_t *bytes, size_t len, char *out, size_t chars)
{
	uint8_t number[64];
	unsigned left = 0;
	size_t i;

	memcpy(number, bytes, len);
	while (chars-- > 0)
	{
		unsigned rest = 0;

		for (i = 0; i < len; i++)
		{
			rest = rest * 256 + number[i];
			number[i] = (uint8_t) (rest / 62);
			rest %= 62;
		}
		out[chars] = alphabet[rest];
	}
	for (i = 0; i < len; i++)
		left |= number[i];
	return left == 0;
}

/*
 * A check value, which may be more than 32 bits, as six characters.
 */
static inline void
slow_check(uint64_t value, char out[TR_CHECK_CHARS])
{
	uint8_t bytes[8];
	int i;

	for (i = 0; i < 8; i++)
		bytes[i] = (uint8_t) (value >> (56 - 8 * i));
	if (!slow_base62(bytes, 8, out, TR_CHECK_CHARS))
		abort();
}

/*
 * Write <prefix>_<checked><right check> with its terminating zero; returns the
 * length.  checked may be anything.
 */
static inline size_t
make_text(const char *prefix, const char checked[CHECKED], char *out)
{
	size_t len = strlen(prefix);

	memcpy(out, prefix, len);
	out[len++] = '_';
	memcpy(out + len, checked, CHECKED);
	slow_check(slow_crc(checked, CHECKED), out + len + CHECKED);
	len += TR_BODY_CHARS;
	out[len] = '\0';
	return len;
}

#endif /* TR_SLOW_TEXT_H */
