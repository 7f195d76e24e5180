/*
 * lifecycle.c
 *	  The life of a token: its states, and the one function that says whether
 *	  it is valid.
 *
 * Moments are never added up, only their distances compared, so that no
 * combination of TR_NEVER, TR_FOREVER and a leeway can overflow.
 */
#include "core/lifecycle.h"

#define NO (-1)

/* The state machine: where each step leads. */
/* clang-format off */
static const int8_t next_status[TR_STATUS_COUNT][TR_STEP_COUNT] = {
	/*					rotate			open window		claim			cancel			end overlap		expire			revoke	   */
	[TR_ACTIVE]		= {TR_ROTATING,		TR_ROTATING,	NO,				NO,				NO,				TR_EXPIRED,		TR_REVOKED},
	[TR_ROTATING]	= {NO,				NO,				TR_ROTATING,	TR_ACTIVE,		TR_EXPIRED,		TR_EXPIRED,		TR_REVOKED},
	[TR_REVOKED]	= {NO,				NO,				NO,				NO,				NO,				NO,				NO},
	[TR_EXPIRED]	= {NO,				NO,				NO,				NO,				NO,				NO,				NO},
};
/* clang-format on */

/*
 * How far ahead of the moment from is the moment to?  from must not be later;
 * the distance of any two fits into 64 bits without a sign.
 */
static inline uint64_t
distance(int64_t from, int64_t to)
{
	return (uint64_t) to - (uint64_t) from;
}

/*
 * Is end + leeway <= now?  What lasts for ever never ends.
 */
static inline bool
over(int64_t end, int64_t leeway, int64_t now)
{
	return end <= now && end != TR_FOREVER && distance(end, now) >= (uint64_t) leeway;
}

/*
 * Is this moment > now + leeway?
 */
static inline bool
ahead(int64_t moment, int64_t leeway, int64_t now)
{
	return moment > now && distance(now, moment) > (uint64_t) leeway;
}

/*
 * Does (or did) the overlap window end before the token's own time?
 */
static inline bool
window_ends_first(const TrLife *life)
{
	return life->overlap_ends_at < life->expires_at;
}

/*
 * Is the token in an overlap window that is over?  A window of no length gets
 * no leeway: its policy wants the predecessor dead at once.
 */
static inline bool
window_over(const TrLife *life, int64_t leeway, int64_t now, const TrRules *rules)
{
	if (life->status != TR_ROTATING || !rules->overlap_enforced)
		return false;
	if (life->overlap_ends_at <= life->rotated_at)
		leeway = 0;
	return over(life->overlap_ends_at, leeway, now);
}

/*
 * May a token in this state take this step, and where does it lead?
 */
bool
tr_life_step(TrStatus from, TrStep step, TrStatus *to)
{
	if ((unsigned) from >= TR_STATUS_COUNT || (unsigned) step >= TR_STEP_COUNT ||
		next_status[from][step] == NO)
		return false;
	*to = (TrStatus) next_status[from][step];
	return true;
}

/*
 * The leeway that a token gets: never negative, at most a tenth of its life.
 */
int64_t
tr_life_leeway(const TrLife *life, const TrRules *rules)
{
	uint64_t most;

	if (rules->leeway <= 0 || life->expires_at <= life->issued_at)
		return 0;
	most = distance(life->issued_at, life->expires_at) / 10;
	return (uint64_t) rules->leeway <= most ? rules->leeway : (int64_t) most;
}

/*
 * What the token is worth at the moment now: the first line that fits.  What
 * is neither active nor rotating nor expired counts as revoked, so that a
 * status that nobody knows is worth nothing.
 */
TrReason
tr_life_verdict(const TrLife *life, int64_t now, const TrRules *rules)
{
	const int64_t leeway = tr_life_leeway(life, rules);

	if (life->status == TR_EXPIRED)
		return window_ends_first(life) ? TR_OVERLAP_ENDED : TR_EXPIRED_REASON;
	if (life->status != TR_ACTIVE && life->status != TR_ROTATING)
		return TR_REVOKED_REASON;
	if (life->issued_at < life->cutoff)
		return TR_CUTOFF;
	if (life->blocked)
		return TR_BLOCKED;
	if (ahead(life->issued_at, leeway, now))
		return TR_NOT_YET_VALID;
	if (over(life->expires_at, leeway, now))
		return TR_EXPIRED_REASON;
	if (window_over(life, leeway, now, rules))
		return TR_OVERLAP_ENDED;
	return TR_OK;
}

/*
 * When the token's validity ends.  Its window counts while it is enforced, and
 * once the end is recorded: no setting takes that back.
 */
int64_t
tr_life_valid_until(const TrLife *life, const TrRules *rules)
{
	bool window_counts =
		life->status == TR_EXPIRED || (life->status == TR_ROTATING && rules->overlap_enforced);

	return window_counts && window_ends_first(life) ? life->overlap_ends_at : life->expires_at;
}

/*
 * Should the end of this token be recorded now, and which?  Where both its
 * window and its own time are over, the earlier one is its end, however late
 * the caller comes; that is also what the verdict says once it is recorded.
 */
bool
tr_life_due(const TrLife *life, int64_t now, const TrRules *rules, TrStep *step)
{
	const int64_t leeway = tr_life_leeway(life, rules);
	bool expired;
	bool window_ended;

	if (life->status != TR_ACTIVE && life->status != TR_ROTATING)
		return false;

	expired = over(life->expires_at, leeway, now);
	window_ended = window_over(life, leeway, now, rules);
	if (!expired && !window_ended)
		return false;

	if (window_ended && (!expired || window_ends_first(life)))
		*step = TR_STEP_END_OVERLAP;
	else
		*step = TR_STEP_EXPIRE;
	return true;
}

/*
 * Does this verdict forbid a replay, too?  Of the others, the ends of a window
 * or of a life leave the successor as it was: a lost answer may be fetched.
 */
static inline bool
forbids_replay(TrReason verdict)
{
	return verdict == TR_REVOKED_REASON || verdict == TR_CUTOFF || verdict == TR_BLOCKED ||
		   verdict == TR_NOT_YET_VALID;
}

/*
 * Refuse a rotation, for this reason.
 */
static inline TrRotation
refuse(TrReason why, TrReason *reason)
{
	*reason = why;
	return TR_ROTATION_REFUSE;
}

/*
 * What happens when the holder asks for rotation: the first line that fits.
 */
TrRotation
tr_life_rotation(const TrLife *life, int64_t now, const TrRules *rules, TrReason *reason)
{
	const TrReason verdict = tr_life_verdict(life, now, rules);
	const bool has_successor = life->rotated_at != TR_NEVER;

	*reason = TR_OK;
	if (!rules->rotation_enabled)
		return refuse(TR_DISABLED, reason);
	if (!has_successor && verdict == TR_OK)
		return TR_ROTATION_MAKE;
	if (!has_successor || forbids_replay(verdict))
		return refuse(verdict, reason);
	if (now < life->replay_ends_at)
		return TR_ROTATION_REPLAY;
	return refuse(verdict == TR_OK ? TR_REPLAY_ENDED : verdict, reason);
}

/*
 * Was this rotation a reuse: the first line that fits.
 */
bool
tr_life_reused(const TrLife *life, TrReason refused, bool successor_rotated, bool successor_used,
			   int64_t ttl, int64_t now, const TrRules *rules)
{
	const int64_t ended = tr_life_valid_until(life, rules);

	if (refused != TR_OVERLAP_ENDED && refused != TR_EXPIRED_REASON)
		return false;
	if (life->rotated_at == TR_NEVER)
		return false;
	if (now >= ended && (uint64_t) now - (uint64_t) ended >= (uint64_t) ttl)
		return false;
	return successor_rotated || successor_used;
}
