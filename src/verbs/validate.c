/*
 * validate.c
 *	  tr_validate and tr_validate_many: the hot path.
 *
 * No SPI, no executor: parse, hash, look up, compare, weigh.  Everything is
 * read under one snapshot taken now, so that no isolation level hides a
 * revocation.  Nothing is written: it works in READ ONLY transactions and on
 * hot standbys.
 *
 * Degraded mode.  On a standby, and on a primary that cannot write (the circuit
 * is open), a token keeps only those of its scopes that its policy allows then
 * (degraded_scopes).  A standby that is too far behind accepts no others.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "frame/activity.h"
#include "frame/catalog.h"
#include "frame/circuit.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/verdict.h"
#include "frame/visits.h"
#include "state/cache.h"
#include "state/cutoff.h"
#include "state/policy.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/args.h"
#include "verbs/note.h"
#include "verbs/present.h"
#include "verbs/use.h"

#define COLUMNS 11

/* What validation found out. */
typedef struct Validation
{
	TrReason reason;
	bool parsed; /* the id is known */
	bool proven; /* the secret matched: token is filled */
	bool looked_up;
	TrStat level; /* that answered, if it was looked up */
	uint8 id[TR_ID_BYTES];
	TrToken token;
	TimestampTz valid_until;
	bool degraded; /* its scopes are what degraded mode leaves */
} Validation;

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
count_leeway(const Validation *validation, TimestampTz now, TrCounters *counters)
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
count_verdict(const Validation *validation, TimestampTz now)
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
weigh(const TrPresented *presented, TimestampTz now, bool standby, Validation *validation)
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

/*
 * Validate one token, NULL included, and count or record the outcome.
 */
static void
validate(const text *value, const text *origin, Validation *validation)
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

/*
 * The columns of the answer.
 */
static void
answer(Validation *validation, Datum *values, bool *nulls)
{
	TrToken *token = &validation->token;
	bool valid = validation->reason == TR_OK;
	int i;

	values[0] = BoolGetDatum(valid);
	values[1] = CStringGetTextDatum(tr_reason_text(validation->reason));
	values[2] = PointerGetDatum(validation->id);
	nulls[0] = nulls[1] = false;
	nulls[2] = !validation->parsed;
	for (i = 3; i < COLUMNS; i++)
		nulls[i] = i < 8 ? !valid : !validation->proven;
	if (!validation->proven)
		return;
	values[3] = PointerGetDatum(token->client_id);
	values[4] = PointerGetDatum(token->owner);
	values[5] = PointerGetDatum(token->policy);
	values[6] = token->scopes;
	values[7] = token->metadata;
	values[8] = CStringGetTextDatum(
		tr_status_text(tr_status_of_verdict(validation->reason, token->life.status)));
	values[9] = TimestampTzGetDatum(validation->valid_until);
	values[10] = TimestampTzGetDatum(token->refresh_at);
}

PG_FUNCTION_INFO_V1(tr_validate);

/*
 * tr_validate(token, origin): one row.
 */
Datum
tr_validate(PG_FUNCTION_ARGS)
{
	static const Oid columns[COLUMNS] = {
		BOOLOID,	  TEXTOID,	UUIDOID, TEXTOID,		 TEXTOID,		 TEXTOID,
		TEXTARRAYOID, JSONBOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	};
	static TrAnswer kept = {.columns = columns, .count = COLUMNS};
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	Validation validation;

	tr_activity_mask();
	tr_catalog();
	validate(tr_arg_text(fcinfo, 0), tr_arg_text(fcinfo, 1), &validation);
	answer(&validation, values, nulls);
	return HeapTupleGetDatum(heap_form_tuple(tr_answer_desc(fcinfo, &kept), values, nulls));
}

PG_FUNCTION_INFO_V1(tr_validate_many);

/*
 * tr_validate_many(tokens): a row an element, in order.
 */
Datum
tr_validate_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ArrayType *tokens = DatumGetArrayTypeP(tr_arg(fcinfo, 0, "tokens"));
	Datum values[COLUMNS + 1];
	bool nulls[COLUMNS + 1];
	Datum *elements;
	bool *isnull;
	int count;
	int i;

	tr_activity_mask();
	tr_catalog();
	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(tokens, TEXTOID, -1, false, TYPALIGN_INT, &elements, &isnull, &count);
	for (i = 0; i < count; i++)
	{
		Validation validation;

		CHECK_FOR_INTERRUPTS();
		validate(isnull[i] ? NULL : DatumGetTextPP(elements[i]), NULL, &validation);
		values[0] = Int32GetDatum(i + 1);
		nulls[0] = false;
		answer(&validation, values + 1, nulls + 1);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
