/*
 * keyring.c
 *	  The server's keys: see keyring.h.
 *
 * A subkey is HKDF-Expand (RFC 5869) of one block: HMAC-SHA-256 with the key,
 * which is uniformly random and so needs no Extract, over the use's label and
 * the byte 1.
 */
#include "core/keyring.h"

#include <string.h>

#include "core/secret.h"

#define NUMBER_DIGITS 10
#define KEY_DIGITS (2 * TR_KEY_BYTES)

/* No label is the beginning of another. */
static const char *const labels[TR_KEY_USES] = {
	[TR_KEY_SECRET] = "token_rotation subkey secret v1\001",
	[TR_KEY_ROTATION] = "token_rotation subkey rotation key v1\001",
	[TR_KEY_ROW] = "token_rotation subkey row v1\001",
};

/*
 * Take the next word of a line; its length, 0 at the line's end.
 */
static size_t
next_word(const char **at, const char *end, const char **word)
{
	while (*at < end && (**at == ' ' || **at == '\t' || **at == '\r'))
		(*at)++;
	*word = *at;
	while (*at < end && **at != ' ' && **at != '\t' && **at != '\r')
		(*at)++;
	return (size_t) (*at - *word);
}

/*
 * Read a key's number: 1 to 2147483647 in decimal digits, the first not 0.
 */
static bool
read_number(const char *word, size_t len, int32_t *number)
{
	int64_t value = 0;
	size_t i;

	if (len == 0 || len > NUMBER_DIGITS || word[0] == '0')
		return false;
	for (i = 0; i < len; i++)
	{
		if (word[i] < '0' || word[i] > '9')
			return false;
		value = value * 10 + (word[i] - '0');
	}
	*number = (int32_t) value;
	return value <= INT32_MAX;
}

/*
 * The value of a hexadecimal digit; -1: it is none.
 */
static int
digit_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/*
 * Read a key's bytes.
 */
static bool
read_bytes(const char *word, size_t len, uint8_t bytes[TR_KEY_BYTES])
{
	size_t i;

	if (len != KEY_DIGITS)
		return false;
	for (i = 0; i < TR_KEY_BYTES; i++)
	{
		int high = digit_value(word[2 * i]);
		int low = digit_value(word[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t) (high << 4 | low);
	}
	return true;
}

/*
 * Derive the subkeys of a key.
 */
static bool
derive(const uint8_t bytes[TR_KEY_BYTES], TrKey *key)
{
	int use;

	for (use = 0; use < TR_KEY_USES; use++)
		if (!tr_hmac_begin(bytes) || !tr_hmac_add(labels[use], strlen(labels[use])) ||
			!tr_hmac_end(bytes, key->subkeys[use]))
			return false;
	return true;
}

/*
 * Put a key into its place.
 */
static TrKeyFault
add_key(TrKeyring *ring, int32_t number, const uint8_t bytes[TR_KEY_BYTES])
{
	int place = ring->count;

	if (tr_keyring_find(ring, number) != NULL)
		return TR_KEYS_TWICE;
	if (ring->count == TR_KEYS_MAX)
		return TR_KEYS_TOO_MANY;
	while (place > 0 && ring->keys[place - 1].number > number)
	{
		ring->keys[place] = ring->keys[place - 1];
		place--;
	}
	ring->count++;
	ring->keys[place].number = number;
	return derive(bytes, &ring->keys[place]) ? TR_KEYS_GOOD : TR_KEYS_CRYPTO;
}

/*
 * Read one line.
 */
static TrKeyFault
read_line(const char *at, const char *end, TrKeyring *ring)
{
	uint8_t bytes[TR_KEY_BYTES];
	TrKeyFault fault = TR_KEYS_LINE;
	const char *word;
	int32_t number;
	size_t len = next_word(&at, end, &word);

	if (len == 0 || word[0] == '#')
		return TR_KEYS_GOOD;
	if (read_number(word, len, &number))
	{
		len = next_word(&at, end, &word);
		if (read_bytes(word, len, bytes) && next_word(&at, end, &word) == 0)
			fault = add_key(ring, number, bytes);
	}
	tr_wipe(bytes, sizeof(bytes));
	return fault;
}

TrKeyFault
tr_keyring_read(const char *text, size_t len, TrKeyring *ring, int *line)
{
	const char *end = text + len;
	TrKeyFault fault = TR_KEYS_GOOD;
	int number = 0;

	memset(ring, 0, sizeof(*ring));
	*line = 0;
	if (len > TR_KEYS_TEXT_MAX)
		return TR_KEYS_TOO_LONG;
	while (text < end && fault == TR_KEYS_GOOD)
	{
		const char *line_end = memchr(text, '\n', (size_t) (end - text));

		number++;
		fault = read_line(text, line_end == NULL ? end : line_end, ring);
		text = line_end == NULL ? end : line_end + 1;
	}
	if (fault != TR_KEYS_GOOD)
	{
		*line = number;
		tr_wipe(ring, sizeof(*ring));
	}
	else if (ring->count == 0)
		fault = TR_KEYS_EMPTY;
	return fault;
}

const TrKey *
tr_keyring_find(const TrKeyring *ring, int32_t number)
{
	int i;

	for (i = ring->count - 1; i >= 0; i--)
		if (number == 0 || ring->keys[i].number == number)
			return &ring->keys[i];
	return NULL;
}
