/*
 * leeway_test.c
 *	  What a clock that is off makes of a token, to the millisecond.
 */
#include "lives.h"

static const TrRules normal = {
	.leeway = 30 * SECOND, .overlap_enforced = true, .rotation_enabled = true};

/*
 * A clock that is off by so many milliseconds, at either end of a life, at the
 * end of a window, and there only: what is ended otherwise gets no leeway.
 */
static void
leeway_is_kept_to_the_millisecond(void)
{
	const int64_t ms = SECOND / 1000;
	TrLife life = fresh();
	TrLife rotating = fresh();
	TrLife cut = fresh();
	TrLife revoked = fresh();
	int64_t off;

	rotating.status = TR_ROTATING;
	rotating.rotated_at = T0 + 20 * HOUR;
	rotating.overlap_ends_at = rotating.rotated_at + 5 * MINUTE;
	cut.cutoff = T0 + 1;
	revoked.status = TR_REVOKED;
	for (off = 0; off <= 60 * SECOND; off += ms)
	{
		bool tolerated = off < 30 * SECOND;

		CHECK_FOR((tr_life_verdict(&life, T0 - off, &normal) == TR_OK) == (off <= 30 * SECOND),
				  "%lld us early", (long long) off);
		CHECK_FOR((tr_life_verdict(&life, life.expires_at + off, &normal) == TR_OK) == tolerated,
				  "%lld us after its life", (long long) off);
		CHECK_FOR((tr_life_verdict(&rotating, rotating.overlap_ends_at + off, &normal) == TR_OK) ==
					  tolerated,
				  "%lld us after its window", (long long) off);
		CHECK(tr_life_verdict(&cut, T0 - off, &normal) == TR_CUTOFF);
		CHECK(tr_life_verdict(&cut, T0 + off, &normal) == TR_CUTOFF);
		CHECK(tr_life_verdict(&revoked, T0 - off, &normal) == TR_REVOKED_REASON);
		CHECK(tr_life_verdict(&revoked, T0 + off, &normal) == TR_REVOKED_REASON);
	}
}

int
main(void)
{
	RUN(leeway_is_kept_to_the_millisecond);
	return check_done();
}
