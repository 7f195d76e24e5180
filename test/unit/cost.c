/*
 * cost.c
 *	  What the pure part of a validation costs, in ns for each call.
 */
#include <stdio.h>
#include <time.h>

#include "core/lifecycle.h"
#include "core/mac.h"
#include "core/secret.h"
#include "core/token_text.h"

#define CALLS 1000000
#define ROUNDS 7
#define TEXTS 1024

static char texts[TEXTS][TR_TEXT_SIZE];
static size_t lens[TEXTS];

/* Keeps the compiler from leaving out what nobody reads. */
static volatile unsigned sink;

/*
 * The time in ns.
 */
static double
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec * 1e9 + (double) now.tv_nsec;
}

/*
 * Make different tokens.
 */
static void
make_texts(void)
{
	uint8_t bytes[TR_SECRET_BYTES] = {0};
	char secret[TR_SECRET_CHARS];
	int i;

	for (i = 0; i < TEXTS; i++)
	{
		bytes[0] = (uint8_t) i;
		tr_sha256(bytes, sizeof(bytes), bytes);
		tr_secret_encode(bytes, secret);
		lens[i] = tr_token_format("trk", false, bytes, secret, texts[i]);
	}
}

/*
 * Parse.
 */
static void
parse(int i)
{
	TrTokenText parsed;

	sink += tr_token_parse(texts[i % TEXTS], lens[i % TEXTS], &parsed) + parsed.id[0];
}

/*
 * Hash.
 */
static void
hash(int i)
{
	uint8_t result[TR_HASH_BYTES];

	tr_secret_hash(texts[i % TEXTS] + 4 + TR_ID_CHARS, result);
	sink += result[0];
}

/*
 * Hash again, with a server key.
 */
static void
keyed_hash(int i)
{
	static const TrBytes scope = {"orders:read", 11};
	static const TrKey key = {.number = 1};
	const uint8_t *id = (const uint8_t *) texts[i % TEXTS];
	TrRow row = {.id = id, .family = id, .client = {"acme", 4}, .scopes = &scope, .scope_count = 1};
	uint8_t result[TR_HASH_BYTES];

	tr_mac(&key, TR_KEY_SECRET, &row, id, result);
	sink += result[0];
}

/*
 * Decide.
 */
static void
verdict(int i)
{
	static const TrRules rules = {
		.leeway = 30000000, .overlap_enforced = true, .rotation_enabled = true};
	TrLife life = {.status = i % 2,
				   .issued_at = 1,
				   .expires_at = 86400000000,
				   .rotated_at = TR_NEVER,
				   .overlap_ends_at = TR_FOREVER,
				   .replay_ends_at = TR_NEVER,
				   .cutoff = TR_NEVER};

	sink += tr_life_verdict(&life, i, &rules);
}

/*
 * Parse, hash, compare and decide, as a validation does.
 */
static void
all(int i)
{
	TrTokenText parsed;
	uint8_t result[TR_HASH_BYTES];

	if (tr_token_parse(texts[i % TEXTS], lens[i % TEXTS], &parsed) &&
		tr_secret_hash(parsed.secret, result) && !tr_hash_equal(result, result))
		sink += 1;
	verdict(i);
}

/*
 * Report the best of a few rounds.
 */
static void
measure(const char *name, void (*call)(int))
{
	double best = 1e9;
	int round;
	int i;

	for (round = 0; round < ROUNDS; round++)
	{
		double start = now_ns();
		double each;

		for (i = 0; i < CALLS; i++)
			call(i);
		each = (now_ns() - start) / CALLS;
		if (each < best)
			best = each;
	}
	printf("%-30s %7.1f ns\n", name, best);
}

int
main(void)
{
	make_texts();
	measure("tr_token_parse", parse);
	measure("tr_secret_hash", hash);
	measure("tr_mac", keyed_hash);
	measure("tr_life_verdict", verdict);
	measure("parse, hash, compare, verdict", all);
	return 0;
}
