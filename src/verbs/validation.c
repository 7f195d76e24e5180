/*
 * validation.c
 *	  Validating a token: see validation.h.
 *
 * The hot path: no SPI, no executor.  Parse, hash, look up, compare, weigh.
 * Everything is read under one snapshot taken now, so that no isolation level
 * hides a revocation.  Nothing is written: it works in READ ONLY transactions
 * and on hot standbys.
 *
 * Degraded mode.  On a standby, and on a primary that cannot write (the circuit
 * is open), a token keeps only those of its scopes that its policy allows then
 * (degraded_scopes).  A standby that is too far behind accepts no others.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "frame/circuit.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/visits.h"
#include "state/cache.h"
#include "state/cutoff.h"
#include "state/policy.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/note.h"
#include "verbs/present.h"
#include "verbs/use.h"
#include "verbs/validation.h"

/*
 * Is this a standby that is too far behind to be believed?  The primary's
 * launcher commits a heartbeat, so silence means lag.
 */
static bool
is_stale(TimestampTz now)
{
	TimestampTz newest;

	if (tr_max_staleness < 0)
		return false;
	newest = GetLatestXTime();
	return newest == 0 || now - newest > (int64) tr_max_staleness * USECS_PER_SEC;
}

/*
 * Find the record: in the cache where it is to be trusted (on a standby it does
 * not exist), else in the table.  Tells where.
 */
static TrStat
look_up(const uint8 *id, Snapshot snapshot, bool standby, TrToken *token)
{
	TrDatabase *here = standby ? NULL : tr_visits_here();

	if (here != NULL && pg_atomic_read_u32(&here->cache_trusted) != 0 &&
		tr_cache_read(id, snapshot, token))
		return TR_STAT_LOOKUP_CACHE;
	return tr_store_read(id, snapshot, token) ? TR_STAT_LOOKUP_TOKEN : TR_STAT_LOOKUP_NONE;
}

/*
 * Would a valid token be refused but for the leeway?
 */
static void
count_leeway(const TrValidation *validation, TimestampTz now, TrCounters *counters)
{
	const TrLife *life = &validation->token.life;
	TrRules strict = tr_rules();

	if (now < validation->valid_until && life->issued_at <= now)
		return;
	strict.leeway = 0;
	tr_stats_add(counters, TR_STAT_LEEWAY + tr_life_verdict(life, now, &strict), 1);
}

/*
 * Count a verdict, and which level answered.
 */
static void
count_verdict(const TrValidation *validation, TimestampTz now)
{
	TrCounters *counters = tr_stats_of(validation->proven ? validation->token.policy : NULL);

	tr_stats_add(counters, TR_STAT_VALIDATED + validation->reason, 1);
	if (validation->looked_up)
		tr_stats_add(counters, validation->level, 1);
	if (validation->reason == TR_OK)
		count_leeway(validation, now, counters);
}

/*
 * Weigh a token that was presented well-formed.
 */
static void
weigh(const TrPresented *presented, TimestampTz now, bool standby, TrValidation *validation)
{
	bool degraded = standby || tr_circuit_is_open();
	TrToken *token = &validation->token;
	TrRules rules = tr_rules();
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool found;

	validation->level = look_up(presented->text.id, snapshot, standby, token);
	validation->looked_up = true;
	found = validation->level != TR_STAT_LOOKUP_NONE;
	TR_STOP_POINT("validate_found");
	validation->reason = tr_present_match(presented, found, token);
	if (validation->reason == TR_OK)
	{
		validation->proven = true;
		tr_cutoff_apply(token, snapshot);
		validation->reason = tr_life_verdict(&token->life, now, &rules);
		validation->valid_until = tr_life_valid_until(&token->life, &rules);
		if (degraded && validation->reason == TR_OK)
			validation->degraded = tr_policy_degrade(token->policy, snapshot, &token->scopes);
	}
	UnregisterSnapshot(snapshot);
}

void
tr_validation(const text *value, const text *origin, TrValidation *validation)
{
	TimestampTz now = GetCurrentTimestamp();
	bool standby = RecoveryInProgress();
	TrPresented presented;

	validation->proven = false;
	validation->looked_up = false;
	validation->degraded = false;
	validation->parsed = tr_present(value, &presented);
	if (!validation->parsed)
		validation->reason = TR_MALFORMED;
	else
	{
		memcpy(validation->id, presented.text.id, TR_ID_BYTES);
		weigh(&presented, now, standby, validation);
		/* what it knows is too old to accept by, unless a policy says so, or to refuse */
		if (standby && !validation->degraded && is_stale(now))
		{
			validation->reason = TR_STALE;
			validation->proven = false;
			validation->looked_up = false;
		}
	}
	count_verdict(validation, now);

	if (validation->reason != TR_OK)
		tr_note_refused_validation(validation->reason,
								   validation->proven ? &validation->token : NULL, origin);
	else if (!standby)
		tr_use_note(&validation->token, now);
}
