/*
 * risk_test.c
 *	  What risk takes off a life, and what patterns match.
 */
#include "core/risk.h"

#include "check.h"

#define SECOND INT64_C(1000000)
#define HOUR (3600 * SECOND)
#define CENTURY (INT64_C(100) * 366 * 24 * HOUR)

/*
 * A score and what is left of 24 hours, of which at least one stays.
 */
static void
shortens_in_a_straight_line(void)
{
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, 0) == 24 * HOUR);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, 1) == 24 * HOUR - 23 * HOUR / 100);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, 40) == 24 * HOUR - 23 * HOUR * 40 / 100);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, 50) == 24 * HOUR - 23 * HOUR / 2);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, 99) == 24 * HOUR - 23 * HOUR * 99 / 100);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, 100) == HOUR);
	CHECK(tr_risk_ttl(24 * HOUR, 0, 100) == 0);
	/* 1 us of a span of 199 us at 1 %: rounded in the holder's favour */
	CHECK(tr_risk_ttl(199, 0, 1) == 198);
	CHECK(tr_risk_ttl(99, 0, 1) == 99);
}

/*
 * What makes no sense shortens nothing, and no score goes beyond the ends.
 */
static void
never_lengthens_nor_falls_below(void)
{
	CHECK(tr_risk_ttl(HOUR, HOUR, 100) == HOUR);
	CHECK(tr_risk_ttl(HOUR, 2 * HOUR, 100) == HOUR);
	CHECK(tr_risk_ttl(HOUR, INT64_MAX, 100) == HOUR);
	CHECK(tr_risk_ttl(HOUR, -1, 100) == HOUR);
	CHECK(tr_risk_ttl(HOUR, INT64_MIN, 50) == HOUR);
	CHECK(tr_risk_ttl(INT64_MIN, INT64_MAX, 50) == INT64_MIN);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, -1) == 24 * HOUR);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, INT32_MIN) == 24 * HOUR);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, 101) == HOUR);
	CHECK(tr_risk_ttl(24 * HOUR, HOUR, INT32_MAX) == HOUR);
}

/*
 * Against 128 bits, from a microsecond to the longest there is.
 */
static void
is_exact_at_every_size(void)
{
	uint64_t seed = 5;
	int i;

	for (i = 0; i < 1000000; i++)
	{
		int64_t ttl = (int64_t) (check_random(&seed) >> (1 + check_random(&seed) % 63));
		int64_t min_ttl = (int64_t) (check_random(&seed) >> (1 + check_random(&seed) % 63));
		int score = (int) (check_random(&seed) % 101);
		int64_t life = tr_risk_ttl(ttl, min_ttl, score);
		int64_t more = tr_risk_ttl(ttl, min_ttl, score + 1);
		int64_t expected =
			min_ttl >= ttl ? ttl : ttl - (int64_t) ((__int128) (ttl - min_ttl) * score / 100);

		CHECK_FOR(life == expected, "%lld, %lld, %d", (long long) ttl, (long long) min_ttl, score);
		CHECK(life <= ttl && (min_ttl >= ttl || life >= min_ttl));
		CHECK(more <= life);
	}
	CHECK(tr_risk_ttl(INT64_MAX, 0, 99) == INT64_MAX - (int64_t) ((__int128) INT64_MAX * 99 / 100));
	CHECK(tr_risk_ttl(CENTURY, SECOND, 100) == SECOND);
}

/*
 * Sums of scores.
 */
static void
sums_end_at_a_hundred(void)
{
	CHECK(tr_risk_add(0, 0) == 0);
	CHECK(tr_risk_add(0, 40) == 40);
	CHECK(tr_risk_add(40, 59) == 99);
	CHECK(tr_risk_add(40, 60) == 100);
	CHECK(tr_risk_add(40, 61) == 100);
	CHECK(tr_risk_add(100, 100) == 100);
	CHECK(tr_risk_add(100, 0) == 100);
	CHECK(tr_risk_add(1, INT32_MAX) == 100);
}

/*
 * Does the pattern match the name, both in memory of just their length?
 */
static bool
matches(const char *pattern, const char *name)
{
	char *p = check_copy(pattern, strlen(pattern));
	char *n = check_copy(name, strlen(name));
	bool found = tr_risk_pattern_matches(p, strlen(pattern), n, strlen(name));

	free(p);
	free(n);
	return found;
}

static void
patterns_match_whole_names_or_their_beginning(void)
{
	CHECK(matches("admin", "admin"));
	CHECK(!matches("admin", "Admin"));
	CHECK(!matches("admin", "admin:"));
	CHECK(!matches("admin", "admi"));
	CHECK(!matches("admin", ""));
	CHECK(matches("admin:*", "admin:write"));
	CHECK(matches("admin:*", "admin:"));
	CHECK(matches("admin:*", "admin:*"));
	CHECK(!matches("admin:*", "admin"));
	CHECK(!matches("admin:*", "superadmin:write"));
	CHECK(matches("*", "anything"));
	CHECK(matches("*", ""));
	CHECK(!matches("", "a"));
}

static void
a_star_stands_at_the_end_only(void)
{
	CHECK(tr_risk_pattern_valid("admin", 5, 255));
	CHECK(tr_risk_pattern_valid("admin:*", 7, 255));
	CHECK(tr_risk_pattern_valid("*", 1, 255));
	CHECK(!tr_risk_pattern_valid("", 0, 255));
	CHECK(!tr_risk_pattern_valid("**", 2, 255));
	CHECK(!tr_risk_pattern_valid("*admin", 6, 255));
	CHECK(!tr_risk_pattern_valid("ad*min", 6, 255));
	CHECK(!tr_risk_pattern_valid("ad*min*", 7, 255));
	CHECK(tr_risk_pattern_valid("abc", 3, 3));
	CHECK(!tr_risk_pattern_valid("abcd", 4, 3));
}

int
main(void)
{
	RUN(shortens_in_a_straight_line);
	RUN(never_lengthens_nor_falls_below);
	RUN(is_exact_at_every_size);
	RUN(sums_end_at_a_hundred);
	RUN(patterns_match_whole_names_or_their_beginning);
	RUN(a_star_stands_at_the_end_only);
	return check_done();
}
