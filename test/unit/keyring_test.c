/*
 * keyring_test.c
 *	  Is the text of the server's keys read as documented, and nothing else?
 */
#include "check.h"
#include "core/keyring.h"
#include "core/secret.h"

#define A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define B "FFEEDDCCBBAA99887766554433221100FFEEDDCCBBAA99887766554433221100"

static TrKeyring ring;
static int line;

/*
 * Read a text, from memory of exactly its length.
 */
static TrKeyFault
read_text(const char *text)
{
	char *copy = check_copy(text, strlen(text));
	TrKeyFault fault = tr_keyring_read(copy, strlen(text), &ring, &line);

	free(copy);
	return fault;
}

/*
 * Are these the numbers of the ring?
 */
static bool
holds(int count, int first, int second)
{
	return ring.count == count && (count < 1 || ring.keys[0].number == first) &&
		   (count < 2 || ring.keys[1].number == second);
}

static void
good_texts(void)
{
	CHECK(read_text("1 " A) == TR_KEYS_GOOD && holds(1, 1, 0) && line == 0);
	CHECK(read_text("1 " A "\n") == TR_KEYS_GOOD && holds(1, 1, 0));
	CHECK(read_text("# made\n\n \t\n1 " A "\n  2\t " B " \r\n#end") == TR_KEYS_GOOD &&
		  holds(2, 1, 2));
	CHECK(read_text("2147483647 " A "\n3 " B) == TR_KEYS_GOOD && holds(2, 3, 2147483647));
	CHECK(read_text("\t 10 " A "\n9 " A) == TR_KEYS_GOOD && holds(2, 9, 10));
}

/*
 * Is this line refused?  Where it stands is told, and nothing is kept.
 */
static void
refused(const char *bad)
{
	char text[512];

	snprintf(text, sizeof(text), "1 " A "\n%s\n3 " A "\n", bad);
	CHECK_FOR(read_text(text) == TR_KEYS_LINE && line == 2, "%s", bad);
	CHECK_FOR(ring.count == 0 && tr_keyring_find(&ring, 0) == NULL, "%s", bad);
	CHECK_FOR(ring.keys[0].number == 0, "%s", bad);
}

static void
bad_lines(void)
{
	static const char *const bad[] = {
		"2",
		"x",
		"2 x",
		A,
		"2" A,
		A " 2",
		"0 " A,
		"02 " A,
		"-2 " A,
		"+2 " A,
		"2. " A,
		"2147483648 " A,
		"4294967298 " A,
		"99999999999 " A,
		"2 " A "0",
		"2 " A " x",
		"2 " A " #",
		"2 0x" A,
		"2 " A "\v",
		"2\f" A,
		"\v",
		"2 g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"2 0011223344556677 8899aabbccddeeff00112233445566778899aabbccddeef",
		"2\xc2\xa0" A,
	};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		refused(bad[i]);
}

static void
other_faults(void)
{
	static char text[TR_KEYS_TEXT_MAX + 2];
	int i;

	CHECK(read_text("") == TR_KEYS_EMPTY && line == 0);
	CHECK(read_text("# 1 " A "\n\n") == TR_KEYS_EMPTY && line == 0);
	CHECK(read_text("1 " A "\n\n1 " B) == TR_KEYS_TWICE && line == 3 && ring.count == 0);
	CHECK(tr_keyring_read("1 " A "\0", 67, &ring, &line) == TR_KEYS_LINE);

	memset(text, '\n', sizeof(text));
	memcpy(text, "1 " A, 66);
	CHECK(tr_keyring_read(text, TR_KEYS_TEXT_MAX, &ring, &line) == TR_KEYS_GOOD);
	CHECK(tr_keyring_read(text, TR_KEYS_TEXT_MAX + 1, &ring, &line) == TR_KEYS_TOO_LONG);
	CHECK(ring.count == 0);

	text[0] = '\0';
	for (i = 1; i <= TR_KEYS_MAX; i++)
		sprintf(text + strlen(text), "%d " A "\n", i);
	CHECK(read_text(text) == TR_KEYS_GOOD && ring.count == TR_KEYS_MAX);
	strcat(text, "99 " A);
	CHECK(read_text(text) == TR_KEYS_TOO_MANY && line == TR_KEYS_MAX + 1 && ring.count == 0);
}

/*
 * Keys are found by number; the newest is the highest, wherever it stands.
 */
static void
finding(void)
{
	CHECK(read_text("5 " A "\n2 " B "\n4 " A) == TR_KEYS_GOOD);
	CHECK(tr_keyring_find(&ring, 0)->number == 5);
	CHECK(tr_keyring_find(&ring, 2)->number == 2);
	CHECK(tr_keyring_find(&ring, 4)->number == 4);
	CHECK(tr_keyring_find(&ring, 3) == NULL);
	CHECK(tr_keyring_find(&ring, -1) == NULL);
}

/*
 * Subkeys tell uses and keys apart; digits of either case are the same key.
 */
static void
subkeys(void)
{
	TrKeyring other;
	int use;

	CHECK(read_text("1 " A "\n2 " B) == TR_KEYS_GOOD);
	other = ring;
	for (use = 0; use < TR_KEY_USES; use++)
	{
		CHECK(memcmp(ring.keys[0].subkeys[use], ring.keys[1].subkeys[use], TR_KEY_BYTES) != 0);
		CHECK(memcmp(ring.keys[0].subkeys[use], ring.keys[0].subkeys[(use + 1) % TR_KEY_USES],
					 TR_KEY_BYTES) != 0);
	}
	CHECK(read_text("1 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF\n"
					"2 ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100") ==
		  TR_KEYS_GOOD);
	CHECK(memcmp(&ring, &other, sizeof(ring)) == 0);
}

int
main(void)
{
	RUN(good_texts);
	RUN(bad_lines);
	RUN(other_faults);
	RUN(finding);
	RUN(subkeys);
	return check_done();
}
