/*
 * health.c
 *	  tr_health: how this database's tokens are doing, for a probe.
 *
 * It looks at what every backend can see, waits for no lock, and takes what is
 * wrong for an answer, not for an error.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/circuit.h"
#include "frame/interval.h"
#include "frame/keys.h"
#include "frame/settings.h"
#include "frame/visits.h"
#include "state/ring.h"
#include "state/sink.h"
#include "state/stats.h"
#include "state/store_bulk.h"
#include "state/upkeep.h"
#include "state/usage.h"
#include "verbs/args.h"
#include "verbs/seal.h"

/* In microseconds: from when on being late is worth a word, and a page. */
#define LATE USECS_PER_MINUTE
#define VERY_LATE (10 * USECS_PER_MINUTE)

/* What nobody calls setting a clock, as in server/clock.c. */
#define NOISE USECS_PER_SEC

/* Failures of visits in a row that are no accident any more. */
#define MANY_FAILURES 3

/* Reasons that can be given at once; there are fewer. */
#define MAX_REASONS 32

/* Columns of the answer in their order. */
enum
{
	COL_VERDICT,
	COL_REASONS,
	COL_IN_RECOVERY,
	COL_LAUNCHER,
	COL_LAST_VISIT,
	COL_VISIT_LAG,
	COL_FAILED_VISITS,
	COL_LAST_ERROR,
	COL_LAST_ERROR_AT,
	COL_CACHE_COMPLETE,
	COL_OLDEST_END,
	COL_RING_SIZE,
	COL_PROVEN_WAITING,
	COL_JUNK_WAITING,
	COL_USAGE_WAITING,
	COL_USAGE_ROOM,
	COL_PROVEN_LOST,
	COL_JUNK_LOST,
	COL_USAGE_LOST,
	COL_CLOCK_BEHIND,
	COL_STALENESS,
	COL_SEAL_LAG,
	COL_AUDIT_FILE_LAG,
	COL_ROTATION_ENABLED,
	COL_OVERLAP_ENFORCEMENT,
	COLUMNS
};

typedef enum Severity
{
	FINE,
	WARNING_LEVEL,
	CRITICAL,
} Severity;

/* The answer while it is made. */
typedef struct Health
{
	TimestampTz now;
	Severity worst;
	Datum reasons[MAX_REASONS];
	int count;
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
} Health;

/*
 * Fill a column; they are NULL to begin with.
 */
static void
set(Health *health, int column, Datum value)
{
	health->values[column] = value;
	health->nulls[column] = false;
}

/*
 * Give a reason, where something is so.
 */
static void
complain(Health *health, bool is_so, Severity severity, const char *reason)
{
	if (!is_so || health->count == MAX_REASONS)
		return;
	health->reasons[health->count++] = CStringGetTextDatum(reason);
	health->worst = Max(health->worst, severity);
}

/*
 * The same for what is late, by so many microseconds.
 */
static void
complain_late(Health *health, int64 late, const char *reason)
{
	complain(health, late > LATE, late > VERY_LATE ? CRITICAL : WARNING_LEVEL, reason);
}

/*
 * Launcher, worker and clock, where there are any: on a primary.
 */
static void
look_at_worker(Health *health)
{
	TrVisitState state;
	int64 lag;

	tr_visits_state(&state, health->now);
	set(health, COL_LAUNCHER, BoolGetDatum(state.launcher));
	complain(health, !state.launcher, CRITICAL, "launcher_down");
	set(health, COL_CLOCK_BEHIND, tr_interval_datum(Max(state.clock_behind, 0)));
	complain(health, state.clock_behind > Max(tr_rules().leeway, NOISE), WARNING_LEVEL,
			 "clock_set_back");
	complain(health, !state.known, CRITICAL, "too_many_databases");
	if (!state.known)
		return;

	lag = state.due >= health->now ? 0 : health->now - state.due;
	set(health, COL_VISIT_LAG, tr_interval_datum(lag));
	complain_late(health, lag, "visits_late");
	if (state.last_visit != TR_NEVER)
		set(health, COL_LAST_VISIT, TimestampTzGetDatum(state.last_visit));
	set(health, COL_FAILED_VISITS, Int32GetDatum(state.failures));
	if (state.locked_at != 0)
		complain_late(health, health->now - state.locked_at, "visits_locked");
	complain(health, state.failures > 0, state.failures >= MANY_FAILURES ? CRITICAL : WARNING_LEVEL,
			 "visits_fail");
	if (state.error != 0)
	{
		set(health, COL_LAST_ERROR, CStringGetTextDatum(unpack_sql_state(state.error)));
		set(health, COL_LAST_ERROR_AT, TimestampTzGetDatum(state.error_at));
	}
}

/*
 * What waits in shared memory, and what did not fit.
 */
static void
look_at_rings(Health *health)
{
	TrDatabase *here = tr_visits_here();
	int proven;
	int junk;
	int room;
	int usage = tr_usage_depth(&room);

	tr_ring_depth(&proven, &junk);
	set(health, COL_RING_SIZE, Int32GetDatum(tr_ring_size));
	set(health, COL_PROVEN_WAITING, Int32GetDatum(proven));
	set(health, COL_JUNK_WAITING, Int32GetDatum(junk));
	set(health, COL_USAGE_WAITING, Int32GetDatum(usage));
	set(health, COL_USAGE_ROOM, Int32GetDatum(room));
	complain(health, proven >= tr_ring_size, CRITICAL, "ring_full");
	complain(health, proven < tr_ring_size && proven > tr_ring_size / 2, WARNING_LEVEL,
			 "ring_filling");
	complain(health, junk >= tr_ring_size, WARNING_LEVEL, "junk_full");
	complain(health, tr_stats_full(), WARNING_LEVEL, "statistics_full");
	if (here != NULL)
	{
		uint64 lost_proven = pg_atomic_read_u64(&here->lost_proven);
		uint64 lost_junk = pg_atomic_read_u64(&here->lost_junk);
		uint64 lost_usage = pg_atomic_read_u64(&here->lost_usage);

		set(health, COL_PROVEN_LOST, Int64GetDatum((int64) lost_proven));
		set(health, COL_JUNK_LOST, Int64GetDatum((int64) lost_junk));
		set(health, COL_USAGE_LOST, Int64GetDatum((int64) lost_usage));
		complain(health, lost_proven + lost_junk + lost_usage > 0, WARNING_LEVEL, "events_lost");
	}
}

/*
 * Can a table and its indexes be read without waiting?  The locks stay until
 * the end of the transaction, like a SELECT's.
 */
static bool
readable(Oid table)
{
	Relation rel;
	ListCell *cell;
	bool free = true;

	if (!ConditionalLockRelationOid(table, AccessShareLock))
		return false;
	rel = table_open(table, NoLock);
	foreach (cell, RelationGetIndexList(rel))
		free = free && ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock);
	table_close(rel, NoLock);
	return free;
}

/*
 * Ends that nobody has recorded, and the cache where there is one.  What is
 * locked stays NULL.
 */
static void
look_at_tables(Health *health, bool standby)
{
	const TrCatalog *catalog = tr_catalog();
	TrDatabase *here = tr_visits_here();
	bool token = readable(catalog->token);
	bool cache = !standby && readable(catalog->cache);
	bool complete = false;
	TimestampTz oldest = TR_FOREVER;
	TrSection section;

	complain(health, !token || (!cache && !standby), CRITICAL, "tables_locked");
	complain(health, !OidIsValid(catalog->worker), CRITICAL, "worker_role_missing");
	tr_section_begin(&section);
	if (token)
		oldest = tr_store_oldest_end(health->now - tr_rules().leeway, tr_overlap_enforcement);
	if (cache)
		complete =
			here != NULL && pg_atomic_read_u32(&here->cache_trusted) != 0 && tr_upkeep_complete();
	tr_section_end(&section);

	if (oldest != TR_FOREVER)
		set(health, COL_OLDEST_END, TimestampTzGetDatum(oldest));
	if (oldest != TR_FOREVER && !standby)
		complain_late(health, health->now - oldest - tr_rules().leeway, "ends_overdue");
	if (cache)
		set(health, COL_CACHE_COMPLETE, BoolGetDatum(complete));
	complain(health, cache && !complete, WARNING_LEVEL, "cache_incomplete");
}

/*
 * The server's keys, which are of all databases.
 */
static void
look_at_keys(Health *health)
{
	TrKeysState keys = tr_keys_state();
	bool missing = keys.missing || (keys.wanted && !keys.any);

	complain(health, missing, CRITICAL, "server_key_missing");
	complain(health, keys.unread && !missing, WARNING_LEVEL, "server_key_unread");
}

/*
 * How long something has been waiting that the worker does every other visit, and
 * that nothing but naps wakes it up for.
 */
static void
set_waiting(Health *health, int column, TimestampTz since, const char *reason)
{
	int64 waited = since >= health->now ? 0 : health->now - since;

	set(health, column, tr_interval_datum(waited));
	if (!RecoveryInProgress())
		complain_late(health, waited - tr_worker_nap * INT64CONST(1000), reason);
}

/*
 * How far the seals and the audit file are behind the trail.
 */
static void
look_at_trail(Health *health, bool standby)
{
	const TrCatalog *catalog = tr_catalog();
	TrSection section;

	if (!readable(catalog->audit) || !readable(catalog->audit_seal) ||
		!readable(catalog->audit_sink))
	{
		complain(health, true, CRITICAL, "trail_locked");
		return;
	}
	tr_section_begin(&section);
	set_waiting(health, COL_SEAL_LAG, tr_seal_waiting_since(), "seals_late");
	if (!standby && *tr_audit_file != '\0')
		set_waiting(health, COL_AUDIT_FILE_LAG, tr_sink_waiting_since(), "audit_file_late");
	tr_section_end(&section);
}

/*
 * How far a standby is behind.
 */
static void
look_at_replay(Health *health)
{
	TimestampTz newest = GetLatestXTime();
	int64 limit = (int64) tr_max_staleness * USECS_PER_SEC;
	int64 behind = newest == 0 ? PG_INT64_MAX : Max(health->now - newest, 0);

	if (newest != 0)
		set(health, COL_STALENESS, tr_interval_datum(behind));
	if (tr_max_staleness < 0)
		return;
	complain(health, behind > limit, CRITICAL, "stale");
	complain(health, behind <= limit && behind > limit / 2, WARNING_LEVEL, "replay_lags");
}

PG_FUNCTION_INFO_V1(tr_health);

/*
 * tr_health(): one row.
 */
Datum
tr_health(PG_FUNCTION_ARGS)
{
	static TrAnswer kept;
	static const char *const verdicts[] = {"ok", "warning", "critical"};
	Health health = {.now = GetCurrentTimestamp()};
	bool standby = RecoveryInProgress();

	tr_catalog();
	memset(health.nulls, true, sizeof(health.nulls));
	if (standby)
		look_at_replay(&health);
	else
		look_at_worker(&health);
	look_at_rings(&health);
	look_at_tables(&health, standby);
	look_at_trail(&health, standby);
	look_at_keys(&health);
	complain(&health, tr_circuit_is_open(), CRITICAL, "circuit_open");
	complain(&health, tr_circuit_read_only(), WARNING_LEVEL, "read_only");
	complain(&health, !tr_rotation_enabled, WARNING_LEVEL, "rotation_disabled");
	complain(&health, !tr_overlap_enforcement, WARNING_LEVEL, "overlap_not_enforced");

	set(&health, COL_IN_RECOVERY, BoolGetDatum(standby));
	set(&health, COL_ROTATION_ENABLED, BoolGetDatum(tr_rotation_enabled));
	set(&health, COL_OVERLAP_ENFORCEMENT, BoolGetDatum(tr_overlap_enforcement));
	set(&health, COL_VERDICT, CStringGetTextDatum(verdicts[health.worst]));
	set(&health, COL_REASONS,
		PointerGetDatum(
			construct_array(health.reasons, health.count, TEXTOID, -1, false, TYPALIGN_INT)));
	return HeapTupleGetDatum(
		heap_form_tuple(tr_answer_desc(fcinfo, &kept), health.values, health.nulls));
}
