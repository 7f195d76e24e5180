/*
 * mac_test.c
 *	  Are keyed hashes the documented ones, and does everything take part?
 *
 * The expected values are those of golden_mac.pl, which is written from the
 * documentation.
 */
#include "check.h"
#include "core/mac.h"

#define GOLDEN_LEAST 500
#define SCOPES_MAX 32

static const char *golden_file = "build/golden_mac.txt";

/* What a vector says. */
typedef struct Vector
{
	TrRow row;
	uint8_t server_key[TR_KEY_BYTES];
	uint8_t id[TR_ID_BYTES];
	uint8_t family[TR_ID_BYTES];
	uint8_t secret[TR_HASH_BYTES];
	uint8_t client[512];
	uint8_t scope_bytes[4096];
	TrBytes scopes[SCOPES_MAX];
	uint8_t subkeys[TR_KEY_USES][TR_KEY_BYTES];
	uint8_t macs[TR_KEY_USES][TR_HASH_BYTES];
} Vector;

/*
 * The next word of a line.
 */
static char *
word(char *line)
{
	char *found = strtok(line, " \n");

	if (found == NULL)
		abort();
	return found;
}

/*
 * Read "x" and hexadecimal digits; returns how many bytes.
 */
static size_t
read_hex(const char *text, uint8_t *out)
{
	size_t len = strlen(text) / 2;

	check_unhex(text, out, len);
	return len;
}

/*
 * Read scopes: each a comma and hexadecimal digits.
 */
static void
read_scopes(char *text, Vector *v)
{
	uint8_t *at = v->scope_bytes;

	while (*text == ',')
	{
		char *next = text + 1 + strcspn(text + 1, ",");
		TrBytes *scope = &v->scopes[v->row.scope_count++];
		char kept = *next;

		*next = '\0';
		scope->at = at;
		scope->len = read_hex(text + 1, at);
		*next = kept;
		at += scope->len;
		text = next;
	}
}

/*
 * Read a line.
 */
static void
read_vector(char *line, Vector *v)
{
	int use;

	memset(v, 0, sizeof(*v));
	check_unhex(word(line), v->server_key, TR_KEY_BYTES);
	check_unhex(word(NULL), v->id, TR_ID_BYTES);
	check_unhex(word(NULL), v->family, TR_ID_BYTES);
	v->row.issued_at = strtoll(word(NULL), NULL, 10);
	v->row.expires_at = strtoll(word(NULL), NULL, 10);
	v->row.rotation_key = *word(NULL) == '1';
	check_unhex(word(NULL), v->secret, TR_HASH_BYTES);
	v->row.id = v->id;
	v->row.family = v->family;
	v->row.client.len = read_hex(word(NULL) + 1, v->client);
	v->row.client.at = v->client;
	read_scopes(word(NULL) + 1, v);
	v->row.scopes = v->scopes;
	for (use = 0; use < TR_KEY_USES; use++)
		check_unhex(word(NULL), v->subkeys[use], TR_KEY_BYTES);
	for (use = 0; use < TR_KEY_USES; use++)
		check_unhex(word(NULL), v->macs[use], TR_HASH_BYTES);
}

/*
 * The keyring of one key, as a file has it.
 */
static bool
read_key(const uint8_t bytes[TR_KEY_BYTES], TrKeyring *ring)
{
	char text[2 * TR_KEY_BYTES + 8] = "7 ";
	int line;
	int i;

	for (i = 0; i < TR_KEY_BYTES; i++)
		sprintf(text + 2 + 2 * i, "%02x", bytes[i]);
	return tr_keyring_read(text, strlen(text), ring, &line) == TR_KEYS_GOOD && ring->count == 1;
}

/*
 * Check all that a vector says.
 */
static void
check_vector(const Vector *v, int line)
{
	TrKeyring ring;
	uint8_t mac[TR_HASH_BYTES];
	int use;

	CHECK_FOR(read_key(v->server_key, &ring), "line %d", line);
	for (use = 0; use < TR_KEY_USES; use++)
	{
		CHECK_FOR(memcmp(ring.keys[0].subkeys[use], v->subkeys[use], TR_KEY_BYTES) == 0,
				  "line %d, use %d", line, use);
		CHECK_FOR(tr_mac(&ring.keys[0], use, &v->row, v->secret, mac), "line %d", line);
		CHECK_FOR(memcmp(mac, v->macs[use], TR_HASH_BYTES) == 0, "line %d, use %d", line, use);
	}
}

static void
vectors_from_perl(void)
{
	FILE *file = fopen(golden_file, "r");
	static char line[16384];
	static Vector v;
	int count = 0;

	CHECK_FOR(file != NULL, "%s (made by make check)", golden_file);
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		read_vector(line, &v);
		check_vector(&v, ++count);
	}
	fclose(file);
	CHECK_FOR(count >= GOLDEN_LEAST, "%d vectors", count);
}

/* A row and a secret, for what follows. */
static const uint8_t some_id[TR_ID_BYTES] = "0123456789abcdef";
static const uint8_t some_family[TR_ID_BYTES] = "fedcba9876543210";
static const uint8_t some_secret[TR_HASH_BYTES] = "abcdefghijklmnopqrstuvwxyz01234";
static const TrBytes some_scopes[] = {{"orders:read", 11}, {"orders:write", 12}};
static const TrRow some_row = {some_id, some_family, 1000,		  2000,
							   false,	{"acme", 4}, some_scopes, 2};

/*
 * The keyed hash under some key.
 */
static void
mac_of(TrKeyUse use, const TrRow *row, const uint8_t *secret, uint8_t out[TR_HASH_BYTES])
{
	static const uint8_t bytes[TR_KEY_BYTES] = "a key of thirty-two bytes, it is";
	TrKeyring ring;

	CHECK(read_key(bytes, &ring));
	CHECK(tr_mac(&ring.keys[0], use, row, secret, out));
}

/*
 * Whatever is changed gives another hash, and no two changes the same one.
 */
static void
everything_takes_part(void)
{
	static const TrBytes joined[] = {{"orders:readorders:write", 23}};
	static const TrBytes swapped[] = {{"orders:write", 12}, {"orders:read", 11}};
	static const TrBytes shifted[] = {{"orders:reado", 12}, {"rders:write", 11}};
	static const TrBytes more[] = {{"orders:read", 11}, {"orders:write", 12}, {"", 0}};
	TrRow rows[] = {
		some_row, some_row, some_row, some_row, some_row, some_row, some_row,
		some_row, some_row, some_row, some_row, some_row, some_row, some_row,
	};
	int count = sizeof(rows) / sizeof(*rows);
	uint8_t macs[sizeof(rows) / sizeof(*rows) + 3][TR_HASH_BYTES];
	int i;
	int j;

	rows[1].id = some_family;
	rows[2].family = some_id;
	rows[3].issued_at++;
	rows[4].expires_at++;
	rows[5].rotation_key = true;
	rows[6].client = (TrBytes){"acm", 3};
	rows[7].client = (TrBytes){"acme\0", 5};
	rows[8].scope_count = 1;
	rows[9].scope_count = 0;
	rows[10].scopes = joined;
	rows[10].scope_count = 1;
	rows[11].scopes = swapped;
	rows[12].scopes = shifted;
	rows[13].scopes = more;
	rows[13].scope_count = 3;
	for (i = 0; i < count; i++)
		mac_of(TR_KEY_SECRET, &rows[i], some_secret, macs[i]);
	mac_of(TR_KEY_SECRET, &some_row, some_secret, macs[count]);
	CHECK(memcmp(macs[0], macs[count], TR_HASH_BYTES) == 0);
	mac_of(TR_KEY_ROTATION, &some_row, some_secret, macs[count]);
	mac_of(TR_KEY_ROW, &some_row, some_secret, macs[count + 1]);
	mac_of(TR_KEY_SECRET, &some_row, macs[0], macs[count + 2]);
	for (i = 0; i < count + 3; i++)
		for (j = 0; j < i; j++)
			CHECK_FOR(memcmp(macs[i], macs[j], TR_HASH_BYTES) != 0, "%d and %d", i, j);
}

/*
 * The hash of a row has no secret in it.
 */
static void
a_row_needs_no_secret(void)
{
	uint8_t with[TR_HASH_BYTES];
	uint8_t without[TR_HASH_BYTES];

	mac_of(TR_KEY_ROW, &some_row, some_secret, with);
	mac_of(TR_KEY_ROW, &some_row, NULL, without);
	CHECK(memcmp(with, without, TR_HASH_BYTES) == 0);
}

/*
 * The pieces of a long message, against the same in one piece.
 */
static void
pieces_make_no_difference(void)
{
	static const uint8_t key[TR_KEY_BYTES] = "another key of thirty-two bytes.";
	uint8_t whole[TR_HASH_BYTES];
	uint8_t pieces[TR_HASH_BYTES];
	char text[1000];
	size_t step;
	size_t at;

	memset(text, 'x', sizeof(text));
	CHECK(tr_hmac_begin(key) && tr_hmac_add(text, sizeof(text)) && tr_hmac_end(key, whole));
	for (step = 1; step <= sizeof(text); step += 37)
	{
		CHECK(tr_hmac_begin(key));
		for (at = 0; at < sizeof(text); at += step)
			CHECK(tr_hmac_add(text + at, at + step > sizeof(text) ? sizeof(text) - at : step));
		CHECK(tr_hmac_end(key, pieces));
		CHECK_FOR(memcmp(pieces, whole, TR_HASH_BYTES) == 0, "in steps of %d", (int) step);
	}
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		golden_file = argv[1];
	RUN(vectors_from_perl);
	RUN(everything_takes_part);
	RUN(a_row_needs_no_secret);
	RUN(pieces_make_no_difference);
	return check_done();
}
