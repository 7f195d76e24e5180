/*
 * golden_test.c
 *	  Does the C code give the same bytes as programs in other languages?
 *
 * The vectors below were made once with Python (hashlib, hmac, zlib); those of
 * build/golden.txt, or of the file that is named as the argument, are made by
 * golden.pl whenever the tests run.
 */
#include "check.h"
#include "core/mask.h"
#include "core/secret.h"
#include "core/token_text.h"

#define GOLDEN_LEAST 200

static const char *golden_file = "build/golden.txt";

/* One vector; bytes as hexadecimal digits, in golden.pl's order. */
typedef struct Vector
{
	const char *prefix;
	const char *id;
	const char *raw; /* the secret's 32 bytes */
	const char *nonce;
	const char *successor;
	const char *secret;
	const char *token;
	const char *rotation_key; /* the token's text with <prefix>r */
	const char *display;
	const char *hash;
	const char *derived_token;
	const char *derived_key;
} Vector;

/* clang-format off */
static const Vector fixed[] = {
	{
		.prefix = "trk",
		.id = "000102030405060708090a0b0c0d0e0f",
		.raw = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		.nonce = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
		.successor = "101112131415161718191a1b1c1d1e1f",
		.secret = "003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf",
		.token = "trk_000SYW7RiJxkEgOGusQGwp003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf4b4tfz",
		.rotation_key = "trkr_000SYW7RiJxkEgOGusQGwp003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf4b4tfz",
		.display = "trk_000SYW7RiJxkEgOGusQGwp",
		.hash = "b0bd65ed3119037a4dcbf6b8138eb2f09de18490e98a773a68f9353f0c0331cd",
		.derived_token = "i2QtrfTS6oH6Dyv2cO32HcsU7ZKh3x1gqHDfHGSSrih",
		.derived_key = "vXvho4zjpCSpCeLRfDYQEQzoM1HiJnpL3oKM5bqBji3",
	},
	{
		.prefix = "trk",
		.id = "00000000000000000000000000000000",
		.raw = "0000000000000000000000000000000000000000000000000000000000000000",
		.nonce = "0000000000000000000000000000000000000000000000000000000000000000",
		.successor = "00000000000000000000000000000000",
		.secret = "0000000000000000000000000000000000000000000",
		.token = "trk_000000000000000000000000000000000000000000000000000000000000000004XygF3",
		.rotation_key = "trkr_000000000000000000000000000000000000000000000000000000000000000004XygF3",
		.display = "trk_0000000000000000000000",
		.hash = "b918b22a1581fedd39058065f00e6aad35bd561f20257151131a1ddcd21803de",
		.derived_token = "JdCEbhEBiIh1Dz4sHJvWYVrkk6bl1QSYyBLDn1hddFO",
		.derived_key = "bDlvoGXjMoYVQFsyK1X3Ezu75VuU3imtvSChioW5VEd",
	},
	{
		.prefix = "abcdefghijklmno",
		.id = "ffffffffffffffffffffffffffffffff",
		.raw = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		.nonce = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		.successor = "ffffffffffffffffffffffffffffffff",
		.secret = "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1",
		.token = "abcdefghijklmno_7n42DGM5Tflk9n8mt7Fhc7yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp148SISi",
		.rotation_key = "abcdefghijklmnor_7n42DGM5Tflk9n8mt7Fhc7yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp148SISi",
		.display = "abcdefghijklmno_7n42DGM5Tflk9n8mt7Fhc7",
		.hash = "3b0167f1f41de3789d5785086c07b95c2926ebaf91e83d23d3e405cba9d478df",
		.derived_token = "AwgrYYaj08hkNF8Jsq7slFsegqMEiTwsatPpv19Qe6u",
		.derived_key = "NT38NYrmzmdpeIQMwRkYjZ0pEpVYFKWjR7FhGSvBAoC",
	},
	{
		.prefix = "a",
		.id = "80000000000000000000000000000001",
		.raw = "8000000000000000000000000000000000000000000000000000000000000001",
		.nonce = "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100",
		.successor = "0123456789abcdef0123456789abcdef",
		.secret = "ULrwNTJa3CHVaAVmO8lHlO4Afd3drtx651MXvhT4GuX",
		.token = "a_3tX16dB2jpss4tZORYcqo5ULrwNTJa3CHVaAVmO8lHlO4Afd3drtx651MXvhT4GuX0KaRQU",
		.rotation_key = "ar_3tX16dB2jpss4tZORYcqo5ULrwNTJa3CHVaAVmO8lHlO4Afd3drtx651MXvhT4GuX0KaRQU",
		.display = "a_3tX16dB2jpss4tZORYcqo5",
		.hash = "0c8a3eac5f5975cfc1bed99d781b175524901f27a1447be1f9de3a6f350c406b",
		.derived_token = "CJtSNNAlG1N2sQyZ3hmUZlRi0MBmE8D277H9O8wbZEX",
		.derived_key = "dRmQBupJIbVTULvxbT7sHmp5KZqSytHKD5brJSE2DS1",
	},
};
/* clang-format on */

/*
 * Check the secret's characters, its hash and what is derived from it.
 */
static void
check_secret(const Vector *v, const uint8_t id[TR_ID_BYTES])
{
	uint8_t raw[TR_SECRET_BYTES];
	uint8_t nonce[TR_NONCE_BYTES];
	uint8_t successor[TR_ID_BYTES];
	uint8_t hash[TR_HASH_BYTES];
	uint8_t expected[TR_HASH_BYTES];
	char secret[TR_SECRET_CHARS];
	char derived[TR_SECRET_CHARS];

	check_unhex(v->raw, raw, sizeof(raw));
	check_unhex(v->nonce, nonce, sizeof(nonce));
	check_unhex(v->successor, successor, sizeof(successor));
	check_unhex(v->hash, expected, sizeof(expected));

	tr_secret_encode(raw, secret);
	CHECK_FOR(memcmp(secret, v->secret, TR_SECRET_CHARS) == 0, "%s", v->token);
	CHECK_FOR(tr_secret_hash(secret, hash), "%s", v->token);
	CHECK_FOR(tr_hash_equal(hash, expected), "%s", v->token);

	CHECK(tr_secret_derive(TR_DERIVED_TOKEN, secret, nonce, id, successor, derived));
	CHECK_FOR(memcmp(derived, v->derived_token, TR_SECRET_CHARS) == 0, "%s", v->token);
	CHECK(tr_secret_derive(TR_DERIVED_ROTATION_KEY, secret, nonce, id, successor, derived));
	CHECK_FOR(memcmp(derived, v->derived_key, TR_SECRET_CHARS) == 0, "%s", v->token);
}

/*
 * Check one of the two texts, both ways.
 */
static void
check_text(const Vector *v, const uint8_t id[TR_ID_BYTES], bool rotation_key, const char *expected)
{
	char text[TR_TEXT_SIZE];
	TrTokenText parsed;
	size_t len = tr_token_format(v->prefix, rotation_key, id, v->secret, text);

	CHECK_FOR(len == strlen(expected) && strcmp(text, expected) == 0, "%s", expected);
	CHECK_FOR(tr_token_parse(expected, strlen(expected), &parsed), "%s", expected);
	CHECK_FOR(memcmp(parsed.id, id, TR_ID_BYTES) == 0, "%s", expected);
	CHECK_FOR(memcmp(parsed.secret, v->secret, TR_SECRET_CHARS) == 0, "%s", expected);
}

/*
 * Check all that a vector says.
 */
static void
check_vector(const Vector *v)
{
	uint8_t id[TR_ID_BYTES];
	char display[TR_DISPLAY_SIZE];
	char masked[4 * TR_TEXT_SIZE];
	size_t len;

	check_unhex(v->id, id, sizeof(id));
	check_secret(v, id);
	check_text(v, id, false, v->token);
	check_text(v, id, true, v->rotation_key);

	CHECK_FOR(tr_prefix_valid(v->prefix, strlen(v->prefix)), "%s", v->prefix);
	len = tr_token_display(v->prefix, id, display);
	CHECK_FOR(len == strlen(v->display) && strcmp(display, v->display) == 0, "%s", v->display);
	tr_token_mask(v->token, strlen(v->token), masked);
	CHECK_FOR(strncmp(masked, display, len) == 0 && strcmp(masked + len, "_[redacted]") == 0, "%s",
			  masked);
}

/*
 * The few that stand above.
 */
static void
vectors_fixed_here(void)
{
	size_t i;

	for (i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
		check_vector(&fixed[i]);
}

/*
 * Split a line into a vector's fields.
 */
static bool
split(char *line, Vector *v)
{
	const char **fields[] = {&v->prefix,	&v->id,		&v->raw,		   &v->nonce,
							 &v->successor, &v->secret, &v->token,		   &v->rotation_key,
							 &v->display,	&v->hash,	&v->derived_token, &v->derived_key};
	size_t i;

	for (i = 0; i < sizeof(fields) / sizeof(*fields); i++)
	{
		*fields[i] = strtok(i == 0 ? line : NULL, " \n");
		if (*fields[i] == NULL)
			return false;
	}
	return strtok(NULL, " \n") == NULL;
}

/*
 * Those that golden.pl has made.
 */
static void
vectors_from_perl(void)
{
	FILE *file = fopen(golden_file, "r");
	char line[2048];
	int count = 0;

	CHECK_FOR(file != NULL, "%s (made by make check)", golden_file);
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		Vector v;
		bool whole = split(line, &v);

		count++;
		CHECK_FOR(whole, "line %d of %s", count, golden_file);
		if (whole)
			check_vector(&v);
	}
	fclose(file);
	CHECK_FOR(count >= GOLDEN_LEAST, "%d vectors", count);
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		golden_file = argv[1];
	RUN(vectors_fixed_here);
	RUN(vectors_from_perl);
	return check_done();
}
