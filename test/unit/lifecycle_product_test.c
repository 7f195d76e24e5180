/*
 * lifecycle_product_test.c
 *	  Is a token worth what it should be, whatever its state, times, leeway and
 *	  settings?  Over their product, against the rules written down a second
 *	  time, in numbers that cannot overflow.
 */
#include "lives.h"

/* --- the rules, a second time --- */

typedef __int128 Wide;

/*
 * The leeway of a token.
 */
static Wide
oracle_leeway(const TrLife *life, const TrRules *rules)
{
	Wide tenth = ((Wide) life->expires_at - life->issued_at) / 10;
	Wide leeway = rules->leeway < tenth ? rules->leeway : tenth;

	return leeway > 0 ? leeway : 0;
}

/*
 * Is the moment end + leeway reached?
 */
static bool
oracle_reached(int64_t end, Wide leeway, int64_t now)
{
	return end != TR_FOREVER && (Wide) end + leeway <= (Wide) now;
}

/*
 * Is the token rotating and its window over?
 */
static bool
oracle_window_over(const TrLife *life, int64_t now, const TrRules *rules)
{
	bool no_overlap = life->overlap_ends_at <= life->rotated_at;
	Wide leeway = no_overlap ? 0 : oracle_leeway(life, rules);

	return rules->overlap_enforced && life->status == TR_ROTATING &&
		   oracle_reached(life->overlap_ends_at, leeway, now);
}

/*
 * The verdict: every reason there is against the token, then the weightiest.
 */
static TrReason
oracle_verdict(const TrLife *life, int64_t now, const TrRules *rules)
{
	Wide leeway = oracle_leeway(life, rules);
	bool window_first = life->overlap_ends_at < life->expires_at;
	const struct
	{
		bool holds;
		TrReason reason;
	} against[] = {
		{life->status == TR_REVOKED, TR_REVOKED_REASON},
		{life->status == TR_EXPIRED && window_first, TR_OVERLAP_ENDED},
		{life->status == TR_EXPIRED, TR_EXPIRED_REASON},
		{life->cutoff > life->issued_at, TR_CUTOFF},
		{life->blocked, TR_BLOCKED},
		{(Wide) life->issued_at > (Wide) now + leeway, TR_NOT_YET_VALID},
		{oracle_reached(life->expires_at, leeway, now), TR_EXPIRED_REASON},
		{oracle_window_over(life, now, rules), TR_OVERLAP_ENDED},
		{true, TR_OK},
	};
	size_t i = 0;

	while (!against[i].holds)
		i++;
	return against[i].reason;
}

/*
 * Is an end due to be recorded, and which?  That one is asked for which the
 * verdict names once it is recorded, unless only the other is over.
 */
static bool
oracle_due(const TrLife *life, int64_t now, const TrRules *rules, TrStep *step)
{
	bool window_over = oracle_window_over(life, now, rules);
	bool life_over = oracle_reached(life->expires_at, oracle_leeway(life, rules), now);
	TrLife recorded = *life;
	bool says_window;

	recorded.status = TR_EXPIRED;
	says_window = oracle_verdict(&recorded, now, rules) == TR_OVERLAP_ENDED;
	if (window_over && life_over)
		*step = says_window ? TR_STEP_END_OVERLAP : TR_STEP_EXPIRE;
	else
		*step = window_over ? TR_STEP_END_OVERLAP : TR_STEP_EXPIRE;
	return (life->status == TR_ACTIVE || life->status == TR_ROTATING) && (window_over || life_over);
}

/*
 * When validity ends.
 */
static int64_t
oracle_valid_until(const TrLife *life, const TrRules *rules)
{
	int64_t end = life->expires_at;

	if (life->status == TR_ACTIVE || life->status == TR_REVOKED)
		return end;
	if (life->status == TR_ROTATING && !rules->overlap_enforced)
		return end;
	return life->overlap_ends_at < end ? life->overlap_ends_at : end;
}

/*
 * What a rotation does, by what is asked in which order.
 */
static TrRotation
oracle_rotation(const TrLife *life, int64_t now, const TrRules *rules, TrReason *reason)
{
	TrReason verdict = oracle_verdict(life, now, rules);
	bool ended = verdict == TR_EXPIRED_REASON || verdict == TR_OVERLAP_ENDED;

	*reason = TR_OK;
	if (rules->rotation_enabled && verdict == TR_OK && life->rotated_at == TR_NEVER)
		return TR_ROTATION_MAKE;
	if (rules->rotation_enabled && (verdict == TR_OK || ended) && life->rotated_at != TR_NEVER &&
		life->replay_ends_at > now)
		return TR_ROTATION_REPLAY;
	*reason = verdict;
	if (verdict == TR_OK)
		*reason = TR_REPLAY_ENDED;
	if (!rules->rotation_enabled)
		*reason = TR_DISABLED;
	return TR_ROTATION_REFUSE;
}

/*
 * Compare everything that is computed for one token at one moment.
 */
static void
compare(const TrLife *life, int64_t now, const TrRules *rules)
{
	TrReason reason;
	TrReason expected_reason;
	TrStep step = TR_STEP_EXPIRE;
	TrStep expected_step;
	TrRotation rotation = tr_life_rotation(life, now, rules, &reason);
	bool due = tr_life_due(life, now, rules, &step);

	CHECK_FOR(tr_life_leeway(life, rules) == oracle_leeway(life, rules), LIFE_FORMAT,
			  LIFE_ARGS(life, now, rules));
	CHECK_FOR(tr_life_verdict(life, now, rules) == oracle_verdict(life, now, rules), LIFE_FORMAT,
			  LIFE_ARGS(life, now, rules));
	CHECK_FOR(tr_life_valid_until(life, rules) == oracle_valid_until(life, rules), LIFE_FORMAT,
			  LIFE_ARGS(life, now, rules));
	CHECK_FOR(rotation == oracle_rotation(life, now, rules, &expected_reason) &&
				  reason == expected_reason,
			  LIFE_FORMAT, LIFE_ARGS(life, now, rules));
	CHECK_FOR(due == oracle_due(life, now, rules, &expected_step) &&
				  (!due || step == expected_step),
			  LIFE_FORMAT, LIFE_ARGS(life, now, rules));
}

/* --- against the oracle --- */

/*
 * Compare at every moment at which anything changes for this token, and a
 * microsecond on either side.
 */
static void
compare_around(const TrLife *life, const TrRules *rules)
{
	int64_t l = tr_life_leeway(life, rules);
	int64_t turning[] = {life->issued_at - l,	life->issued_at,  life->overlap_ends_at,
						 life->overlap_ends_at, life->expires_at, life->expires_at,
						 life->replay_ends_at};
	size_t i;
	int aside;

	/* FOREVER and NEVER have no other side. */
	if (life->overlap_ends_at != TR_FOREVER)
		turning[3] += l;
	if (life->expires_at != TR_FOREVER)
		turning[5] += l;
	for (i = 0; i < COUNT(turning); i++)
	{
		for (aside = -1; aside <= 1; aside++)
		{
			if ((aside > 0 && turning[i] == TR_FOREVER) || (aside < 0 && turning[i] == TR_NEVER))
				continue;
			compare(life, turning[i] + aside, rules);
		}
	}
}

/*
 * All of these windows, cutoffs, blocks and replay windows for one life under
 * one set of rules.
 */
static void
compare_windows(TrLife life, const TrRules *rules)
{
	static const int64_t overlaps[] = {-1, 0, 1, 7 * SECOND, 4 * HOUR, 5 * HOUR, TR_FOREVER};
	static const int64_t cutoffs[] = {TR_NEVER, T0 - 1, T0, T0 + 1, TR_FOREVER};
	static const int64_t replays[] = {TR_NEVER, T0 + 20 * HOUR + 5 * MINUTE, TR_FOREVER};
	size_t o;
	size_t c;
	int rest;

	for (o = 0; o < COUNT(overlaps); o++)
	{
		for (c = 0; c < COUNT(cutoffs); c++)
		{
			for (rest = 0; rest < 2 * 2 * 3; rest++)
			{
				int64_t opened = T0 + 20 * HOUR;

				life.blocked = rest & 1;
				life.rotated_at = rest & 2 ? opened : TR_NEVER;
				life.replay_ends_at = replays[rest / 4];
				life.overlap_ends_at =
					overlaps[o] == TR_FOREVER ? TR_FOREVER : opened + overlaps[o];
				life.cutoff = cutoffs[c];
				compare_around(&life, rules);
			}
		}
	}
}

/*
 * The product for one status: lives, leeways, settings, then the windows.
 */
static void
compare_status(TrStatus status)
{
	static const int64_t lives[] = {0, 9, SECOND, 20 * HOUR, 24 * HOUR, TR_FOREVER};
	static const int64_t leeways[] = {-1, 0, 1, 30 * SECOND, 100 * HOUR};
	size_t i;
	size_t j;
	int settings;

	for (i = 0; i < COUNT(lives); i++)
	{
		for (j = 0; j < COUNT(leeways); j++)
		{
			for (settings = 0; settings < 4; settings++)
			{
				TrRules rules = {.leeway = leeways[j],
								 .overlap_enforced = settings & 1,
								 .rotation_enabled = (settings & 2) != 0};
				TrLife life = fresh();

				life.status = status;
				life.expires_at = lives[i] == TR_FOREVER ? TR_FOREVER : T0 + lives[i];
				compare_windows(life, &rules);
			}
		}
	}
}

/*
 * The product, a status at a time.
 */
static void
every_active_token(void)
{
	compare_status(TR_ACTIVE);
}

/*
 * The same for those in a window, real or absurd.
 */
static void
every_rotating_token(void)
{
	compare_status(TR_ROTATING);
}

/*
 * The same: nothing is left of them.
 */
static void
every_revoked_token(void)
{
	compare_status(TR_REVOKED);
}

/*
 * The same: only a replay is left of them.
 */
static void
every_expired_token(void)
{
	compare_status(TR_EXPIRED);
}

/*
 * A moment from the ends of the scale, or from near another one.
 */
static int64_t
extreme(uint64_t *seed)
{
	static const int64_t moments[] = {TR_NEVER,
									  TR_NEVER + 1,
									  TR_NEVER + 100 * SECOND,
									  -1,
									  0,
									  1,
									  T0,
									  T0 + 10,
									  T0 + HOUR,
									  TR_FOREVER - 100 * SECOND,
									  TR_FOREVER - 1,
									  TR_FOREVER};
	uint64_t draw = check_random(seed) % (COUNT(moments) + 1);

	return draw < COUNT(moments) ? moments[draw] : (int64_t) check_random(seed);
}

/*
 * Whatever stands in the record and in the settings, right or absurd: no
 * overflow (the sanitizer watches), and the rules hold.
 */
static void
no_moment_overflows(void)
{
	uint64_t seed = 11;
	int i;

	for (i = 0; i < 400000; i++)
	{
		uint64_t flags = check_random(&seed);
		TrLife life = {.status = (TrStatus) (flags % TR_STATUS_COUNT),
					   .issued_at = extreme(&seed),
					   .expires_at = extreme(&seed),
					   .rotated_at = extreme(&seed),
					   .overlap_ends_at = extreme(&seed),
					   .replay_ends_at = extreme(&seed),
					   .cutoff = flags & 16 ? TR_NEVER : extreme(&seed),
					   .blocked = (flags >> 8) % 8 == 0};
		TrRules rules = {.leeway = flags & 32 ? extreme(&seed) : 30 * SECOND,
						 .overlap_enforced = (flags & 64) != 0,
						 .rotation_enabled = (flags >> 16) % 8 != 0};

		compare(&life, extreme(&seed), &rules);
	}
}

int
main(void)
{
	RUN(every_active_token);
	RUN(every_rotating_token);
	RUN(every_revoked_token);
	RUN(every_expired_token);
	RUN(no_moment_overflows);
	return check_done();
}
