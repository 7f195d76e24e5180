/*
 * keys_fuzz.c
 *	  Any text of server keys: is it read as a plain reading of the documented
 *	  format says, and is nothing kept of what is refused?
 */
#include "fuzz.h"

#include "core/keyring.h"
#include "core/secret.h"

static const char digits[] = "0123456789abcdef";

/*
 * A blank within a line.
 */
static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/*
 * Read a line by what it must look like, character by character: blanks, digits,
 * blanks, 64 digits, blanks.  0: nothing in it; -1: wrong; else its number.
 */
static int64_t
slow_line(const char *text, size_t len, uint8_t key[TR_KEY_BYTES])
{
	int64_t number = 0;
	size_t at = 0;
	size_t first;
	int i;

	while (at < len && is_blank(text[at]))
		at++;
	if (at == len || text[at] == '#')
		return 0;
	for (first = at; at < len && text[at] >= '0' && text[at] <= '9'; at++)
		number = number > INT32_MAX ? number : number * 10 + (text[at] - '0');
	if (at == first || text[first] == '0' || at - first > 10 || number > INT32_MAX || at == len ||
		!is_blank(text[at]))
		return -1;
	while (at < len && is_blank(text[at]))
		at++;
	for (i = 0; i < 2 * TR_KEY_BYTES; i++, at++)
	{
		char lower = at < len && text[at] >= 'A' && text[at] <= 'F' ? text[at] + 32
																	: (at < len ? text[at] : '\0');
		const char *digit = lower == '\0' ? NULL : strchr(digits, lower);

		if (digit == NULL)
			return -1;
		key[i / 2] = (uint8_t) (key[i / 2] << 4 | (digit - digits));
	}
	while (at < len && is_blank(text[at]))
		at++;
	return at == len ? number : -1;
}

/*
 * What reading must come to, by its first fault, and the numbers that were read.
 */
static TrKeyFault
slow_read(const char *text, size_t len, int64_t *numbers, int *count)
{
	size_t at = 0;

	*count = 0;
	if (len > TR_KEYS_TEXT_MAX)
		return TR_KEYS_TOO_LONG;
	while (at < len)
	{
		uint8_t key[TR_KEY_BYTES];
		size_t end = at;
		int64_t number;
		int i;

		while (end < len && text[end] != '\n')
			end++;
		number = slow_line(text + at, end - at, key);
		at = end + 1;
		if (number < 0)
			return TR_KEYS_LINE;
		if (number == 0)
			continue;
		for (i = 0; i < *count; i++)
			if (numbers[i] == number)
				return TR_KEYS_TWICE;
		if (*count == TR_KEYS_MAX)
			return TR_KEYS_TOO_MANY;
		numbers[(*count)++] = number;
	}
	return *count == 0 ? TR_KEYS_EMPTY : TR_KEYS_GOOD;
}

/*
 * The ring holds these numbers, in order, and nothing else.
 */
static void
check_ring(const TrKeyring *ring, const int64_t *numbers, int count)
{
	int i;

	HOLDS(ring->count == count);
	for (i = 0; i < count; i++)
	{
		const TrKey *key = tr_keyring_find(ring, (int32_t) numbers[i]);

		HOLDS(key != NULL && key->number == numbers[i]);
		HOLDS(i == 0 || ring->keys[i].number > ring->keys[i - 1].number);
		HOLDS(memcmp(key->subkeys[0], key->subkeys[1], TR_KEY_BYTES) != 0);
	}
	HOLDS(tr_keyring_find(ring, 0) == (count == 0 ? NULL : &ring->keys[count - 1]));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const TrKeyring empty;
	int64_t numbers[TR_KEYS_MAX];
	TrKeyring *ring = exactly(sizeof(*ring));
	char *text = exactly(size);
	TrKeyFault expected;
	TrKeyFault fault;
	int count;
	int line = -1;

	if (size > 0)
		memcpy(text, data, size);
	expected = slow_read(text, size, numbers, &count);
	fault = tr_keyring_read(text, size, ring, &line);
	HOLDS(fault == expected);
	HOLDS((line > 0) ==
		  (fault == TR_KEYS_LINE || fault == TR_KEYS_TWICE || fault == TR_KEYS_TOO_MANY));
	if (fault == TR_KEYS_GOOD)
		check_ring(ring, numbers, count);
	else
		HOLDS(memcmp(ring, &empty, sizeof(empty)) == 0);
	free(text);
	free(ring);
	return 0;
}
