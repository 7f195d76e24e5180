/*
 * lifecycle_test.c
 *	  Is a token worth what it should be?  By hand: the state machine, and what
 *	  happens at each boundary, to the microsecond.
 */
#include "lives.h"

static const TrRules normal = {
	.leeway = 30 * SECOND, .overlap_enforced = true, .rotation_enabled = true};

/*
 * A token that was rotated after 20 hours, with an overlap of this length and
 * 5 minutes for replays.
 */
static TrLife
rotated(int64_t overlap)
{
	TrLife life = fresh();

	life.status = TR_ROTATING;
	life.rotated_at = T0 + 20 * HOUR;
	life.overlap_ends_at = life.rotated_at + overlap;
	life.replay_ends_at = life.rotated_at + 5 * MINUTE;
	return life;
}

/* --- the state machine --- */

/*
 * The whole table: what is not allowed leads nowhere and leaves *to alone.
 */
static void
steps_one_by_one(void)
{
	/* The only ones that are allowed; the status that each leads to. */
	static const struct
	{
		TrStatus from;
		TrStep step;
		TrStatus to;
	} allowed[] = {
		{TR_ACTIVE, TR_STEP_ROTATE, TR_ROTATING},
		{TR_ACTIVE, TR_STEP_OPEN_WINDOW, TR_ROTATING},
		{TR_ACTIVE, TR_STEP_EXPIRE, TR_EXPIRED},
		{TR_ACTIVE, TR_STEP_REVOKE, TR_REVOKED},
		{TR_ROTATING, TR_STEP_CLAIM, TR_ROTATING},
		{TR_ROTATING, TR_STEP_CANCEL_ROTATION, TR_ACTIVE},
		{TR_ROTATING, TR_STEP_END_OVERLAP, TR_EXPIRED},
		{TR_ROTATING, TR_STEP_EXPIRE, TR_EXPIRED},
		{TR_ROTATING, TR_STEP_REVOKE, TR_REVOKED},
	};
	int from;
	int step;
	size_t i;

	for (from = 0; from < TR_STATUS_COUNT; from++)
	{
		for (step = 0; step < TR_STEP_COUNT; step++)
		{
			int expected = -1;
			TrStatus to = (TrStatus) 99;
			bool taken = tr_life_step((TrStatus) from, (TrStep) step, &to);

			for (i = 0; i < COUNT(allowed); i++)
			{
				if ((int) allowed[i].from == from && (int) allowed[i].step == step)
					expected = (int) allowed[i].to;
			}
			CHECK_FOR(taken == (expected >= 0), "from %d by %d", from, step);
			CHECK_FOR((int) to == (taken ? expected : 99), "from %d by %d to %d", from, step, to);
		}
	}
}

/*
 * A number that is no status, no step: worth nothing, allowed nothing.
 */
static void
unknown_states_go_nowhere(void)
{
	TrLife life = fresh();
	TrStatus to = (TrStatus) 99;
	TrStep step;
	TrReason reason;

	CHECK(!tr_life_step((TrStatus) TR_STATUS_COUNT, TR_STEP_REVOKE, &to) && (int) to == 99);
	CHECK(!tr_life_step((TrStatus) -1, TR_STEP_REVOKE, &to) && (int) to == 99);
	CHECK(!tr_life_step(TR_ACTIVE, (TrStep) TR_STEP_COUNT, &to) && (int) to == 99);
	CHECK(!tr_life_step(TR_ACTIVE, (TrStep) -1, &to) && (int) to == 99);

	life.status = (TrStatus) TR_STATUS_COUNT;
	CHECK(tr_life_verdict(&life, T0, &normal) != TR_OK);
	CHECK(!tr_life_due(&life, T0 + 48 * HOUR, &normal, &step));
	CHECK(tr_life_rotation(&life, T0, &normal, &reason) == TR_ROTATION_REFUSE);
}

/* --- the verdict at its boundaries --- */

/*
 * Does the one verdict replace the other at this very microsecond?
 */
static void
turns(const TrLife *life, const TrRules *rules, int64_t at, TrReason before, TrReason from_then)
{
	CHECK_FOR(tr_life_verdict(life, at - 1, rules) == before, LIFE_FORMAT,
			  LIFE_ARGS(life, at - 1, rules));
	CHECK_FOR(tr_life_verdict(life, at, rules) == from_then, LIFE_FORMAT,
			  LIFE_ARGS(life, at, rules));
	CHECK_FOR(tr_life_verdict(life, at + 1, rules) == from_then, LIFE_FORMAT,
			  LIFE_ARGS(life, at + 1, rules));
}

/*
 * The leeway widens both ends of a life.
 */
static void
active_token_ends_with_its_time(void)
{
	TrLife life = fresh();
	TrRules strict = normal;

	strict.leeway = 0;
	turns(&life, &normal, T0 - 30 * SECOND, TR_NOT_YET_VALID, TR_OK);
	turns(&life, &normal, T0 + 24 * HOUR + 30 * SECOND, TR_OK, TR_EXPIRED_REASON);
	turns(&life, &strict, T0, TR_NOT_YET_VALID, TR_OK);
	turns(&life, &strict, T0 + 24 * HOUR, TR_OK, TR_EXPIRED_REASON);
}

/*
 * A token of one second must not live for 31.
 */
static void
leeway_is_at_most_a_tenth_of_a_life(void)
{
	TrLife life = fresh();

	life.expires_at = T0 + SECOND;
	CHECK(tr_life_leeway(&life, &normal) == SECOND / 10);
	turns(&life, &normal, T0 - SECOND / 10, TR_NOT_YET_VALID, TR_OK);
	turns(&life, &normal, T0 + SECOND + SECOND / 10, TR_OK, TR_EXPIRED_REASON);

	life.expires_at = T0 + 5 * MINUTE;
	CHECK(tr_life_leeway(&life, &normal) == 30 * SECOND);
	life.expires_at = T0 + 5 * MINUTE - 1;
	CHECK(tr_life_leeway(&life, &normal) == 30 * SECOND - 1);
	life.expires_at = T0 + 5 * MINUTE + 10;
	CHECK(tr_life_leeway(&life, &normal) == 30 * SECOND);
	life.expires_at = T0 + 9;
	CHECK(tr_life_leeway(&life, &normal) == 0);
	life.expires_at = T0;
	CHECK(tr_life_leeway(&life, &normal) == 0);
	life.expires_at = T0 - HOUR;
	CHECK(tr_life_leeway(&life, &normal) == 0);
}

/*
 * The window's leeway, and windows of one microsecond and of the whole life.
 */
static void
rotated_token_ends_with_its_window(void)
{
	TrLife life = rotated(5 * MINUTE);
	TrRules rules = normal;

	turns(&life, &rules, T0 + 20 * HOUR + 5 * MINUTE + 30 * SECOND, TR_OK, TR_OVERLAP_ENDED);
	turns(&life, &rules, T0 + 24 * HOUR + 30 * SECOND, TR_OVERLAP_ENDED, TR_EXPIRED_REASON);
	rules.leeway = 0;
	turns(&life, &rules, T0 + 20 * HOUR + 5 * MINUTE, TR_OK, TR_OVERLAP_ENDED);

	/* A window as long as the life. */
	life.overlap_ends_at = life.expires_at;
	turns(&life, &rules, T0 + 24 * HOUR, TR_OK, TR_EXPIRED_REASON);

	/* One microsecond of overlap is an overlap: it gets its leeway. */
	life = rotated(1);
	turns(&life, &normal, T0 + 20 * HOUR + 1 + 30 * SECOND, TR_OK, TR_OVERLAP_ENDED);
}

/*
 * An overlap of 0 kills the predecessor in that microsecond.
 */
static void
overlap_of_0_gets_no_leeway(void)
{
	TrLife life = rotated(0);

	turns(&life, &normal, T0 + 20 * HOUR, TR_OK, TR_OVERLAP_ENDED);
	life.overlap_ends_at--;
	turns(&life, &normal, T0 + 20 * HOUR - 1, TR_OK, TR_OVERLAP_ENDED);
}

/*
 * The emergency switch, which revives no recorded end.
 */
static void
overlap_not_enforced_lasts_as_long_as_the_token(void)
{
	TrLife life = rotated(0);
	TrRules rules = normal;

	rules.overlap_enforced = false;
	turns(&life, &rules, T0 + 24 * HOUR + 30 * SECOND, TR_OK, TR_EXPIRED_REASON);
	CHECK(tr_life_valid_until(&life, &rules) == life.expires_at);

	/* It revives nothing. */
	life.status = TR_EXPIRED;
	CHECK(tr_life_verdict(&life, T0 + 20 * HOUR, &rules) == TR_OVERLAP_ENDED);
	CHECK(tr_life_valid_until(&life, &rules) == life.overlap_ends_at);
}

/*
 * A window that the server opened: rotating, and nobody has come yet.
 */
static void
window_without_successor_is_claimed_or_ends(void)
{
	TrLife life = rotated(10 * MINUTE);
	TrReason reason;

	life.rotated_at = TR_NEVER;
	life.replay_ends_at = TR_NEVER;
	turns(&life, &normal, T0 + 20 * HOUR + 10 * MINUTE + 30 * SECOND, TR_OK, TR_OVERLAP_ENDED);
	CHECK(tr_life_rotation(&life, T0 + 20 * HOUR, &normal, &reason) == TR_ROTATION_MAKE);
	CHECK(reason == TR_OK);
	CHECK(tr_life_rotation(&life, T0 + 21 * HOUR, &normal, &reason) == TR_ROTATION_REFUSE);
	CHECK(reason == TR_OVERLAP_ENDED);
}

/*
 * Once recorded, an end is an end at whatever time: also on a clock set back.
 */
static void
recorded_ends_stay(void)
{
	TrLife life = fresh();
	int64_t now;

	for (now = T0 - HOUR; now <= T0 + 48 * HOUR; now += HOUR)
	{
		life = fresh();
		life.status = TR_REVOKED;
		CHECK(tr_life_verdict(&life, now, &normal) == TR_REVOKED_REASON);
		life.status = TR_EXPIRED;
		CHECK(tr_life_verdict(&life, now, &normal) == TR_EXPIRED_REASON);
		life = rotated(5 * MINUTE);
		life.status = TR_EXPIRED;
		CHECK(tr_life_verdict(&life, now, &normal) == TR_OVERLAP_ENDED);
		life.overlap_ends_at = life.expires_at;
		CHECK(tr_life_verdict(&life, now, &normal) == TR_EXPIRED_REASON);
	}
}

/*
 * A cutoff spares what is issued at its very moment, and weighs more than a
 * block, which weighs more than the time.
 */
static void
cutoffs_and_blocks(void)
{
	TrLife life = fresh();

	life.cutoff = T0;
	CHECK(tr_life_verdict(&life, T0, &normal) == TR_OK);
	life.cutoff = T0 + 1;
	CHECK(tr_life_verdict(&life, T0, &normal) == TR_CUTOFF);
	life.blocked = true;
	CHECK(tr_life_verdict(&life, T0, &normal) == TR_CUTOFF);
	life.cutoff = T0 - 1;
	CHECK(tr_life_verdict(&life, T0, &normal) == TR_BLOCKED);
	CHECK(tr_life_verdict(&life, T0 + 48 * HOUR, &normal) == TR_BLOCKED);
	CHECK(tr_life_verdict(&life, T0 - HOUR, &normal) == TR_BLOCKED);
	life.status = TR_REVOKED;
	CHECK(tr_life_verdict(&life, T0, &normal) == TR_REVOKED_REASON);
}

/* --- rotation, recording, valid_until by hand --- */

/*
 * Is this what a rotation does, and says?
 */
static bool
rotation_is(const TrLife *life, int64_t now, const TrRules *rules, TrRotation expected,
			TrReason expected_reason)
{
	TrReason reason;

	return tr_life_rotation(life, now, rules, &reason) == expected && reason == expected_reason;
}

/*
 * One token's rotations in the order of time.
 */
static void
rotation_makes_then_replays_then_refuses(void)
{
	TrLife life = fresh();
	int64_t replay_end = T0 + 20 * HOUR + 5 * MINUTE;
	int64_t end = T0 + 24 * HOUR + 30 * SECOND;

	CHECK(rotation_is(&life, T0, &normal, TR_ROTATION_MAKE, TR_OK));
	CHECK(rotation_is(&life, end - 1, &normal, TR_ROTATION_MAKE, TR_OK));
	CHECK(rotation_is(&life, end, &normal, TR_ROTATION_REFUSE, TR_EXPIRED_REASON));

	life = rotated(HOUR);
	CHECK(rotation_is(&life, T0 + 20 * HOUR, &normal, TR_ROTATION_REPLAY, TR_OK));
	CHECK(rotation_is(&life, replay_end - 1, &normal, TR_ROTATION_REPLAY, TR_OK));
	CHECK(rotation_is(&life, replay_end, &normal, TR_ROTATION_REFUSE, TR_REPLAY_ENDED));
	CHECK(rotation_is(&life, T0 + 22 * HOUR, &normal, TR_ROTATION_REFUSE, TR_OVERLAP_ENDED));
	CHECK(rotation_is(&life, end, &normal, TR_ROTATION_REFUSE, TR_EXPIRED_REASON));
}

/*
 * The predecessor is dead at once, but its holder may fetch the answer.
 */
static void
lost_answer_is_replayed_after_an_overlap_of_0(void)
{
	TrLife life = rotated(0);
	int64_t replay_end = T0 + 20 * HOUR + 5 * MINUTE;

	CHECK(tr_life_verdict(&life, replay_end - 1, &normal) == TR_OVERLAP_ENDED);
	CHECK(rotation_is(&life, replay_end - 1, &normal, TR_ROTATION_REPLAY, TR_OK));
	CHECK(rotation_is(&life, replay_end, &normal, TR_ROTATION_REFUSE, TR_OVERLAP_ENDED));
	life.status = TR_EXPIRED;
	CHECK(rotation_is(&life, replay_end - 1, &normal, TR_ROTATION_REPLAY, TR_OK));
	CHECK(rotation_is(&life, replay_end, &normal, TR_ROTATION_REFUSE, TR_OVERLAP_ENDED));
}

/*
 * Neither for the cut off, the blocked, the early, nor while rotation is off.
 */
static void
nothing_is_replayed_for_the_revoked(void)
{
	TrLife life = rotated(HOUR);
	TrRules off = normal;
	int64_t now = T0 + 20 * HOUR;

	off.rotation_enabled = false;
	CHECK(rotation_is(&life, now, &off, TR_ROTATION_REFUSE, TR_DISABLED));
	life.cutoff = T0 + 1;
	CHECK(rotation_is(&life, now, &normal, TR_ROTATION_REFUSE, TR_CUTOFF));
	life = rotated(HOUR);
	life.blocked = true;
	CHECK(rotation_is(&life, now, &normal, TR_ROTATION_REFUSE, TR_BLOCKED));
	life = rotated(HOUR);
	CHECK(rotation_is(&life, T0 - HOUR, &normal, TR_ROTATION_REFUSE, TR_NOT_YET_VALID));
	life.status = TR_REVOKED;
	CHECK(rotation_is(&life, now, &normal, TR_ROTATION_REFUSE, TR_REVOKED_REASON));
	life = fresh();
	CHECK(rotation_is(&life, now, &off, TR_ROTATION_REFUSE, TR_DISABLED));
}

/*
 * What was refused, of a token that ended an hour ago: is it a reuse?
 */
static bool
reused(const TrLife *life, TrReason refused, bool rotated_on, bool used, int64_t ttl)
{
	return tr_life_reused(life, refused, rotated_on, used, ttl,
						  tr_life_valid_until(life, &normal) + HOUR, &normal);
}

/*
 * Two hold what one should: the successor was rotated, or used.
 */
static void
a_dead_token_is_reused(void)
{
	TrLife life = rotated(5 * MINUTE);

	CHECK(reused(&life, TR_OVERLAP_ENDED, true, false, 24 * HOUR));
	CHECK(reused(&life, TR_OVERLAP_ENDED, false, true, 24 * HOUR));
	CHECK(reused(&life, TR_OVERLAP_ENDED, true, true, 24 * HOUR));
	CHECK(reused(&life, TR_EXPIRED_REASON, false, true, 24 * HOUR));
	/* a lost answer, asked for late */
	CHECK(!reused(&life, TR_OVERLAP_ENDED, false, false, 24 * HOUR));
	CHECK(!reused(&life, TR_EXPIRED_REASON, false, false, 24 * HOUR));
	life = fresh();
	CHECK(!reused(&life, TR_EXPIRED_REASON, true, true, 24 * HOUR));
}

/*
 * An old token from a log is no switch: the ttl counts from the end of the
 * window, to the microsecond.
 */
static void
what_ended_long_ago_is_not_reused(void)
{
	TrLife life = rotated(5 * MINUTE);

	CHECK(!reused(&life, TR_OVERLAP_ENDED, true, true, HOUR));
	CHECK(reused(&life, TR_OVERLAP_ENDED, true, true, HOUR + 1));
	CHECK(!reused(&life, TR_OVERLAP_ENDED, true, true, 0));
	/* what has not ended by its own time, but by the leeway, or on a clock that was set back */
	CHECK(tr_life_reused(&life, TR_OVERLAP_ENDED, true, true, HOUR,
						 tr_life_valid_until(&life, &normal) - 1, &normal));
}

/*
 * Any other refusal says that there is nothing to end, or that nothing is dead.
 */
static void
only_what_ended_by_itself_is_reused(void)
{
	TrLife life = rotated(5 * MINUTE);
	int reason;

	for (reason = 0; reason < TR_REASON_COUNT; reason++)
		CHECK_FOR(reused(&life, reason, true, true, 24 * HOUR) ==
					  (reason == TR_OVERLAP_ENDED || reason == TR_EXPIRED_REASON),
				  "reason %d", reason);
}

/*
 * Is this end due at that moment, and not a microsecond before?
 */
static bool
due_from(const TrLife *life, const TrRules *rules, int64_t at, TrStep expected)
{
	TrStep step = TR_STEP_ROTATE;

	if (tr_life_due(life, at - 1, rules, &step) || step != TR_STEP_ROTATE)
		return false;
	return tr_life_due(life, at, rules, &step) && step == expected;
}

/*
 * Each end from its microsecond on, as the right one of the two.
 */
static void
ends_are_due_when_they_are_over(void)
{
	TrLife life = fresh();
	TrRules unenforced = normal;
	TrStep step;

	unenforced.overlap_enforced = false;
	CHECK(due_from(&life, &normal, T0 + 24 * HOUR + 30 * SECOND, TR_STEP_EXPIRE));
	life = rotated(5 * MINUTE);
	CHECK(due_from(&life, &normal, T0 + 20 * HOUR + 5 * MINUTE + 30 * SECOND, TR_STEP_END_OVERLAP));
	CHECK(due_from(&life, &unenforced, T0 + 24 * HOUR + 30 * SECOND, TR_STEP_EXPIRE));
	life = rotated(0);
	CHECK(due_from(&life, &normal, T0 + 20 * HOUR, TR_STEP_END_OVERLAP));
	life = rotated(4 * HOUR);
	CHECK(due_from(&life, &normal, T0 + 24 * HOUR + 30 * SECOND, TR_STEP_EXPIRE));

	/* However late: it is the end that came first. */
	life = rotated(5 * MINUTE);
	CHECK(tr_life_due(&life, T0 + 480 * HOUR, &normal, &step) && step == TR_STEP_END_OVERLAP);

	/* Cutoffs and blocks play no part. */
	life = fresh();
	life.cutoff = TR_FOREVER;
	life.blocked = true;
	CHECK(!tr_life_due(&life, T0, &normal, &step));
	CHECK(due_from(&life, &normal, T0 + 24 * HOUR + 30 * SECOND, TR_STEP_EXPIRE));
}

/*
 * What is due is what the verdict refuses, and the state machine allows it.
 */
static void
what_is_due_can_be_recorded(void)
{
	static const int64_t overlaps[] = {-1, 0, 1, 5 * MINUTE, 4 * HOUR, 5 * HOUR};
	size_t i;
	int64_t now;

	for (i = 0; i < COUNT(overlaps); i++)
	{
		for (now = T0; now < T0 + 30 * HOUR; now += MINUTE)
		{
			TrLife life = overlaps[i] < 0 ? fresh() : rotated(overlaps[i]);
			TrReason verdict = tr_life_verdict(&life, now, &normal);
			TrStep step;
			TrStatus to;
			bool due = tr_life_due(&life, now, &normal, &step);

			CHECK(due == (verdict != TR_OK));
			CHECK(!due || (tr_life_step(life.status, step, &to) && to == TR_EXPIRED));
		}
	}
}

/*
 * The earlier of the two ends, as its holder should plan for it.
 */
static void
valid_until_leaves_the_leeway_out(void)
{
	TrLife life = fresh();

	CHECK(tr_life_valid_until(&life, &normal) == T0 + 24 * HOUR);
	life = rotated(5 * MINUTE);
	CHECK(tr_life_valid_until(&life, &normal) == T0 + 20 * HOUR + 5 * MINUTE);
	life = rotated(5 * HOUR);
	CHECK(tr_life_valid_until(&life, &normal) == T0 + 24 * HOUR);
	life = rotated(0);
	CHECK(tr_life_valid_until(&life, &normal) == T0 + 20 * HOUR);
}

/*
 * The ends of the scale, and leeways nobody should set.
 */
static void
for_ever_and_never(void)
{
	TrLife life = fresh();
	TrRules rules = normal;

	life.expires_at = TR_FOREVER;
	CHECK(tr_life_leeway(&life, &rules) == 30 * SECOND);
	CHECK(tr_life_verdict(&life, TR_FOREVER - 1, &rules) == TR_OK);
	CHECK(tr_life_verdict(&life, TR_FOREVER, &rules) == TR_OK);
	CHECK(tr_life_valid_until(&life, &rules) == TR_FOREVER);
	rules.leeway = INT64_MAX;
	CHECK(tr_life_verdict(&life, TR_FOREVER - 1, &rules) == TR_OK);
	CHECK(tr_life_verdict(&life, TR_NEVER, &rules) == TR_NOT_YET_VALID);
	rules.leeway = -1;
	CHECK(tr_life_leeway(&life, &rules) == 0);
	rules.leeway = INT64_MIN;
	CHECK(tr_life_leeway(&life, &rules) == 0);
	life = rotated(0);
	life.replay_ends_at = TR_FOREVER;
	CHECK(rotation_is(&life, TR_FOREVER - 1, &normal, TR_ROTATION_REPLAY, TR_OK));
}

int
main(void)
{
	RUN(steps_one_by_one);
	RUN(unknown_states_go_nowhere);
	RUN(active_token_ends_with_its_time);
	RUN(leeway_is_at_most_a_tenth_of_a_life);
	RUN(rotated_token_ends_with_its_window);
	RUN(overlap_of_0_gets_no_leeway);
	RUN(overlap_not_enforced_lasts_as_long_as_the_token);
	RUN(window_without_successor_is_claimed_or_ends);
	RUN(recorded_ends_stay);
	RUN(cutoffs_and_blocks);
	RUN(rotation_makes_then_replays_then_refuses);
	RUN(lost_answer_is_replayed_after_an_overlap_of_0);
	RUN(nothing_is_replayed_for_the_revoked);
	RUN(a_dead_token_is_reused);
	RUN(what_ended_long_ago_is_not_reused);
	RUN(only_what_ended_by_itself_is_reused);
	RUN(ends_are_due_when_they_are_over);
	RUN(what_is_due_can_be_recorded);
	RUN(valid_until_leaves_the_leeway_out);
	RUN(for_ever_and_never);
	return check_done();
}
