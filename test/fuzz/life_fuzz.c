/*
 * life_fuzz.c
 *	  Any record, moment and rules: does what the lifecycle says of them fit
 *	  together?
 *
 * test/unit/lifecycle_product_test.c writes the rules down a second time and
 * compares.  Here are the promises that the rules are there for: what has ended
 * stays ended, time only ends, leeway and settings widen what they may and
 * nothing else.  Records may be absurd; where a promise is made only for those
 * that the server can write, that is said.
 */
#include "fuzz.h"

#include "core/lifecycle.h"

#define SECOND INT64_C(1000000)
#define DAY (INT64_C(86400) * SECOND)
#define T0 (INT64_C(25) * 365 * DAY)

/* Wide enough for any sum of moments. */
typedef __int128 Wide;

/* A record, and what is asked of it. */
typedef struct Case
{
	TrLife life;
	TrRules rules;
	int64_t now;
	int64_t later; /* not before now */
} Case;

/*
 * A moment: any, or one that is near another of this input, which is where
 * things happen.
 */
static int64_t
moment(Input *in, const int64_t *others, unsigned count)
{
	static const int64_t marks[] = {TR_NEVER, TR_FOREVER, 0, T0};
	unsigned what = input_byte(in);
	uint64_t base;
	uint8_t bytes[8];
	uint32_t aside;

	if (what == 255)
	{
		input_bytes(in, bytes, sizeof(bytes));
		memcpy(&base, bytes, sizeof(base));
		return (int64_t) base;
	}
	what %= 4 + count;
	base = (uint64_t) (what < 4 ? marks[what] : others[what - 4]);
	aside = input_byte(in);
	switch (aside % 4)
	{
		case 0:
			return (int64_t) base;
		case 1:
			return (int64_t) (base + aside / 4 - 32);
		case 2:
			return (int64_t) (base + (uint64_t) ((int64_t) (aside / 4) - 32) * (uint64_t) SECOND);
		default:
			return (int64_t) (base + (uint64_t) ((int64_t) (aside / 4) - 32) * (uint64_t) DAY);
	}
}

/*
 * Read a case.
 */
static Case
read_case(Input *in)
{
	Case c;
	int64_t m[8];
	unsigned i;
	uint8_t status = input_byte(in);
	uint8_t flags = input_byte(in);

	for (i = 0; i < 8; i++)
		m[i] = moment(in, m, i);
	memset(&c, 0, sizeof(c));
	c.life.status = status < 250 ? (TrStatus) (status % TR_STATUS_COUNT)
								 : (TrStatus) (status == 250 ? -1 : TR_STATUS_COUNT + status - 251);
	c.life.issued_at = m[0];
	c.life.expires_at = m[1];
	c.life.rotated_at = flags & 1 ? TR_NEVER : m[2];
	c.life.overlap_ends_at = flags & 2 ? TR_FOREVER : m[3];
	c.life.replay_ends_at = flags & 4 ? TR_NEVER : m[4];
	c.life.cutoff = flags & 8 ? m[5] : TR_NEVER;
	c.life.blocked = (flags & 0x30) == 0x30;
	c.rules.overlap_enforced = (flags & 64) == 0;
	c.rules.rotation_enabled = (flags & 128) == 0;
	c.rules.leeway = input_byte(in) & 1 ? 30 * SECOND : moment(in, m, 8);
	c.now = m[6] < m[7] ? m[6] : m[7];
	c.later = m[6] < m[7] ? m[7] : m[6];
	return c;
}

/*
 * Can a token in this state still be valid?
 */
static bool
is_live(const TrLife *life)
{
	return life->status == TR_ACTIVE || life->status == TR_ROTATING;
}

/*
 * Is this a verdict that time alone brings?
 */
static bool
is_of_time(TrReason verdict)
{
	return verdict == TR_NOT_YET_VALID || verdict == TR_OK || verdict == TR_OVERLAP_ENDED ||
		   verdict == TR_EXPIRED_REASON;
}

/*
 * Their order, in which a token goes through them.
 */
static int
stage(TrReason verdict)
{
	switch (verdict)
	{
		case TR_NOT_YET_VALID:
			return 0;
		case TR_OK:
			return 1;
		case TR_OVERLAP_ENDED:
			return 2;
		default:
			return 3;
	}
}

/*
 * A window that never was: whose policy wants the predecessor dead at once.
 */
static bool
has_no_overlap(const Case *c)
{
	return c->life.status == TR_ROTATING && c->rules.overlap_enforced &&
		   c->life.overlap_ends_at <= c->life.rotated_at && c->life.overlap_ends_at != TR_FOREVER;
}

/*
 * What has ended, or is nothing that anybody knows, is worth nothing, at any
 * time and under any rules; and no step leads out of it.
 */
static void
ended_stays_ended(const Case *c)
{
	TrRules rules = c->rules;
	TrLife life = c->life;
	TrReason reason;
	TrStep due;
	int step;

	if (is_live(&life))
		return;
	for (step = -1; step <= TR_STEP_COUNT; step++)
	{
		TrStatus to = (TrStatus) 99;

		HOLDS(!tr_life_step(life.status, (TrStep) step, &to) && (int) to == 99);
	}
	HOLDS(!tr_life_due(&life, c->now, &rules, &due));
	rules.rotation_enabled = true;
	rules.overlap_enforced = !rules.overlap_enforced;
	HOLDS(tr_life_verdict(&life, c->now, &c->rules) != TR_OK);
	HOLDS(tr_life_verdict(&life, c->now, &c->rules) == tr_life_verdict(&life, c->later, &rules));
	HOLDS(tr_life_rotation(&life, c->now, &rules, &reason) != TR_ROTATION_MAKE);
	if (life.status != TR_EXPIRED)
	{
		HOLDS(tr_life_verdict(&life, c->now, &rules) == TR_REVOKED_REASON);
		HOLDS(tr_life_rotation(&life, c->now, &rules, &reason) == TR_ROTATION_REFUSE);
		HOLDS(reason == TR_REVOKED_REASON);
	}
}

/*
 * Revoking, blocking and cutting off end it; nothing of that weighs less later.
 */
static void
ends_can_be_forced(const Case *c)
{
	TrLife life = c->life;
	TrReason before = tr_life_verdict(&life, c->now, &c->rules);
	TrStatus to;

	if (tr_life_step(life.status, TR_STEP_REVOKE, &to))
	{
		life.status = to;
		HOLDS(tr_life_verdict(&life, c->later, &c->rules) == TR_REVOKED_REASON);
		life = c->life;
	}
	else
		HOLDS(!is_live(&life));

	life.blocked = true;
	HOLDS(tr_life_verdict(&life, c->now, &c->rules) != TR_OK);
	life = c->life;
	if (life.issued_at < TR_FOREVER)
	{
		life.cutoff = life.issued_at + 1;
		HOLDS(tr_life_verdict(&life, c->now, &c->rules) != TR_OK);
	}
	life.cutoff = c->life.cutoff > c->later ? c->life.cutoff : c->later;
	HOLDS(before == TR_OK || tr_life_verdict(&life, c->now, &c->rules) != TR_OK);
	HOLDS(c->life.cutoff <= c->life.issued_at ||
		  tr_life_verdict(&c->life, c->now, &c->rules) != TR_OK);
}

/*
 * Time takes a token from not yet valid to ok to ended, never back.
 */
static void
time_only_ends(const Case *c)
{
	TrReason now = tr_life_verdict(&c->life, c->now, &c->rules);
	TrReason later = tr_life_verdict(&c->life, c->later, &c->rules);
	TrStep step;

	HOLDS(is_of_time(now) == is_of_time(later));
	if (!is_of_time(now))
		HOLDS(now == later);
	else if (is_live(&c->life))
		HOLDS(stage(now) <= stage(later));
	HOLDS(!tr_life_due(&c->life, c->now, &c->rules, &step) ||
		  tr_life_due(&c->life, c->later, &c->rules, &step));
}

/*
 * valid_until is when validity ends, but for the leeway: valid before it, and
 * after it only by the leeway, which is at most a tenth of the life.
 */
static void
valid_until_is_the_end(const Case *c)
{
	const TrLife *life = &c->life;
	bool ok = tr_life_verdict(life, c->now, &c->rules) == TR_OK;
	int64_t until = tr_life_valid_until(life, &c->rules);
	Wide leeway = tr_life_leeway(life, &c->rules);
	Wide span = (Wide) life->expires_at - life->issued_at;

	HOLDS(leeway >= 0);
	HOLDS(leeway == 0 || (leeway <= span / 10 && leeway <= c->rules.leeway));
	HOLDS(until <= life->expires_at);
	HOLDS(until == life->expires_at || until == life->overlap_ends_at);
	if (ok)
	{
		HOLDS(until == TR_FOREVER || (Wide) c->now < (Wide) until + leeway);
		HOLDS((Wide) life->issued_at <= (Wide) c->now + leeway);
	}
	if (is_live(life) && !life->blocked && life->cutoff <= life->issued_at &&
		life->issued_at <= c->now && c->now < until)
		HOLDS(ok);
}

/*
 * More leeway and looser settings make valid what was not, but neither what was
 * ended by somebody nor a predecessor without overlap.
 */
static void
rules_widen_time_only(const Case *c)
{
	TrReason verdict = tr_life_verdict(&c->life, c->now, &c->rules);
	TrRules wider = c->rules;
	TrReason now;

	wider.leeway = c->rules.leeway > TR_FOREVER / 2 ? TR_FOREVER : c->rules.leeway + SECOND;
	now = tr_life_verdict(&c->life, c->now, &wider);
	HOLDS(verdict != TR_OK || now == TR_OK);
	HOLDS(is_of_time(verdict) == is_of_time(now));
	wider.leeway = TR_FOREVER;
	HOLDS(!has_no_overlap(c) || c->now < c->life.overlap_ends_at ||
		  tr_life_verdict(&c->life, c->now, &wider) != TR_OK);

	wider = c->rules;
	wider.overlap_enforced = false;
	now = tr_life_verdict(&c->life, c->now, &wider);
	HOLDS(verdict != TR_OK || now == TR_OK);
	HOLDS(is_of_time(verdict) == is_of_time(now));
	HOLDS(now != TR_OK || c->life.expires_at == TR_FOREVER ||
		  (Wide) c->now < (Wide) c->life.expires_at + tr_life_leeway(&c->life, &wider));
}

/*
 * What is due is over, can be recorded, and then is what the record says.
 */
static void
due_is_over(const Case *c)
{
	TrReason verdict = tr_life_verdict(&c->life, c->now, &c->rules);
	TrLife recorded = c->life;
	TrStep step;
	TrStatus to;

	if (!tr_life_due(&c->life, c->now, &c->rules, &step))
	{
		HOLDS(!is_live(&c->life) || (verdict != TR_EXPIRED_REASON && verdict != TR_OVERLAP_ENDED));
		return;
	}
	HOLDS(verdict != TR_OK);
	HOLDS(tr_life_step(c->life.status, step, &to) && to == TR_EXPIRED);
	HOLDS(step == TR_STEP_END_OVERLAP || step == TR_STEP_EXPIRE);
	recorded.status = to;
	verdict = tr_life_verdict(&recorded, c->now, &c->rules);
	/* a window ends no later than its token, in what the server writes */
	if (step == TR_STEP_END_OVERLAP && c->life.overlap_ends_at < c->life.expires_at)
		HOLDS(verdict == TR_OVERLAP_ENDED);
	HOLDS(tr_life_valid_until(&recorded, &c->rules) <= c->life.expires_at);
}

/*
 * A successor is made of what is valid and has none; a replay hands out again
 * what there is, in its time, and to nobody whose token was ended.
 */
static void
rotation_follows_the_verdict(const Case *c)
{
	TrReason verdict = tr_life_verdict(&c->life, c->now, &c->rules);
	bool has_successor = c->life.rotated_at != TR_NEVER;
	TrReason reason = TR_REASON_COUNT;
	TrReason reason_later;
	TrRotation rotation = tr_life_rotation(&c->life, c->now, &c->rules, &reason);
	TrRotation later = tr_life_rotation(&c->life, c->later, &c->rules, &reason_later);
	bool replay = rotation == TR_ROTATION_REPLAY;

	HOLDS((rotation == TR_ROTATION_REFUSE) == (reason != TR_OK));
	HOLDS(reason < TR_REASON_COUNT);
	HOLDS((rotation == TR_ROTATION_MAKE) ==
		  (c->rules.rotation_enabled && verdict == TR_OK && !has_successor));
	HOLDS(!replay || (c->rules.rotation_enabled && has_successor));
	HOLDS(!replay || c->now < c->life.replay_ends_at);
	HOLDS(!replay || verdict == TR_OK || verdict == TR_EXPIRED_REASON ||
		  verdict == TR_OVERLAP_ENDED);
	HOLDS(reason == TR_DISABLED || reason == TR_REPLAY_ENDED || reason == verdict || replay);
	HOLDS(reason != TR_REPLAY_ENDED || later == TR_ROTATION_REFUSE);
}

/*
 * A life, step by step: once over, it stays over.
 */
static void
walk(Input *in, Case c)
{
	bool over = false;
	int steps = 8;

	c.life.status = TR_ACTIVE;
	while (steps-- > 0)
	{
		TrStep step = (TrStep) (input_byte(in) % TR_STEP_COUNT);
		TrStatus from = c.life.status;

		if (!tr_life_step(from, step, &c.life.status))
			HOLDS(c.life.status == from);
		else
			HOLDS(!over);
		over = c.life.status == TR_REVOKED || c.life.status == TR_EXPIRED;
		HOLDS(over || is_live(&c.life));
		HOLDS(!over || tr_life_verdict(&c.life, c.now, &c.rules) != TR_OK);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input in = {data, size};
	const Case c = read_case(&in);

	ended_stays_ended(&c);
	ends_can_be_forced(&c);
	time_only_ends(&c);
	valid_until_is_the_end(&c);
	rules_widen_time_only(&c);
	due_is_over(&c);
	rotation_follows_the_verdict(&c);
	walk(&in, c);
	return 0;
}
