/*
 * tasks.c
 *	  What a worker does in a database that has the extension: see tasks.h.
 *
 * A series of steps, each in short transactions.  No step relies on another one
 * having been done.
 *
 * What came through shared memory is removed from there right after the commit
 * of what it became, with interrupts held off, so that nothing but a crash (in
 * which shared memory is lost, too) gets between.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/lmgr.h"
#include "postmaster/interrupt.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/visits.h"
#include "server/tasks.h"
#include "state/audit.h"
#include "state/ring.h"
#include "state/store.h"
#include "state/upkeep.h"
#include "state/usage.h"
#include "verbs/note.h"
#include "verbs/sweep.h"

/* Milliseconds that a visit may last, and each of its steps. */
#define BUDGET 2000
#define STEP_BUDGET 250

/* Rows that one transaction handles. */
#define EVENT_BATCH 64
#define ROW_BATCH 500
#define CACHE_BATCH 2000

/* Tokens whose usage is flushed in one visit. */
#define USAGE_MAX 8192

/* In microseconds: visits that no event asks for need not be closer. */
#define TIMED_PAUSE USECS_PER_SEC

/* This visit. */
static instr_time begun;
static instr_time step_begun;
static TimestampTz next_visit;

/*
 * Have so many milliseconds passed since then?
 */
static bool
passed(instr_time since, double milliseconds)
{
	instr_time spent;

	INSTR_TIME_SET_CURRENT(spent);
	INSTR_TIME_SUBTRACT(spent, since);
	return INSTR_TIME_GET_MILLISEC(spent) >= milliseconds;
}

/*
 * The next visit is due at this time at the latest.
 */
static void
visit_by(TimestampTz when)
{
	next_visit = Min(next_visit, when);
}

/*
 * May the step go on?  If not, the next visit continues it soon.  A step that
 * never comes to its end, under a flood of events, leaves time to the others.
 */
static bool
go_on(void)
{
	/* told to leave: whatever has caught the first cancel does not catch this one */
	if (ShutdownRequestPending)
		QueryCancelPending = InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
	if (!passed(step_begun, STEP_BUDGET) && !passed(begun, BUDGET))
		return true;
	visit_by(GetCurrentTimestamp() + TR_VISIT_PAUSE);
	return false;
}

/*
 * Something will be due by the clock.  What was due already when the step began
 * was left because somebody has it locked: a nap later is early enough.
 */
static void
visit_by_clock(TimestampTz when, TimestampTz step_began)
{
	if (when > step_began)
		visit_by(Max(when, GetCurrentTimestamp() + TIMED_PAUSE));
}

/*
 * Begin a transaction with a section in it.  DROP EXTENSION locks the extension
 * before anything else, so under its lock nothing of it goes away.
 */
static void
begin(TrSection *section)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	LockDatabaseObject(ExtensionRelationId, tr_catalog()->extension, 0, AccessShareLock);
	tr_section_begin(section);
}

/*
 * Commit it.  Interrupts are held off from then on, until settled().
 */
static void
commit(TrSection *section)
{
	tr_section_end(section);
	HOLD_INTERRUPTS();
	CommitTransactionCommand();
}

/*
 * What the commit made known has been taken out of shared memory.
 */
static void
settled(void)
{
	RESUME_INTERRUPTS();
}

/*
 * Say that it is the worker who tells of an event, for sessions that it does
 * not know.
 */
static void
sign(TrEvent *event)
{
	strlcpy(event->actor, TR_WORKER_ROLE, sizeof(event->actor));
	strlcpy(event->role, TR_WORKER_ROLE, sizeof(event->role));
}

/*
 * Audit the proven events.
 */
static void
drain_proven(void)
{
	TrEvent *events = palloc(EVENT_BATCH * sizeof(TrEvent));
	int tickets[EVENT_BATCH];
	TrSection section;
	int count;
	int i;

	while ((count = tr_ring_peek(events, tickets, EVENT_BATCH)) > 0 && go_on())
	{
		begin(&section);
		for (i = 0; i < count; i++)
			tr_audit_write(&events[i], NULL);
		commit(&section);
		TR_STOP_POINT("events_committed");
		tr_ring_done(tickets, count);
		settled();
	}
	pfree(events);
}

/*
 * Audit junk: one row for each kind of it.
 */
static void
drain_junk(void)
{
	TrJunk *junk = palloc(EVENT_BATCH * sizeof(TrJunk));
	int tickets[EVENT_BATCH];
	TrSection section;
	TrEvent event;
	int count;
	int i;

	while ((count = tr_ring_junk_peek(junk, tickets, EVENT_BATCH)) > 0 && go_on())
	{
		begin(&section);
		for (i = 0; i < count; i++)
		{
			tr_event_begin(&event, junk[i].event);
			sign(&event);
			event.at = junk[i].last_at;
			strlcpy(event.role, junk[i].role, sizeof(event.role));
			strlcpy(event.reason, junk[i].reason, sizeof(event.reason));
			tr_audit_write(&event, psprintf("{\"count\": " UINT64_FORMAT
											", \"first_at\": \"%s\", \"last_at\": \"%s\"}",
											junk[i].count, tr_event_moment(junk[i].first_at),
											tr_event_moment(junk[i].last_at)));
		}
		commit(&section);
		tr_ring_junk_done(junk, tickets, count);
		settled();
	}
	pfree(junk);
}

/*
 * Audit how much could not be recorded.
 */
static void
report_losses(void)
{
	TrDatabase *here = tr_visits_here();
	uint64 lost_proven = pg_atomic_read_u64(&here->lost_proven);
	uint64 lost_junk = pg_atomic_read_u64(&here->lost_junk);
	uint64 lost_usage = pg_atomic_read_u64(&here->lost_usage);
	TrSection section;
	TrEvent event;

	if (lost_proven == 0 && lost_junk == 0 && lost_usage == 0)
		return;

	begin(&section);
	tr_event_begin(&event, TR_EVENT_EVENTS_LOST);
	sign(&event);
	tr_audit_write(&event, psprintf("{\"proven\": " UINT64_FORMAT ", \"junk\": " UINT64_FORMAT
									", \"usage\": " UINT64_FORMAT "}",
									lost_proven, lost_junk, lost_usage));
	commit(&section);
	pg_atomic_fetch_sub_u64(&here->lost_proven, (int64) lost_proven);
	pg_atomic_fetch_sub_u64(&here->lost_junk, (int64) lost_junk);
	pg_atomic_fetch_sub_u64(&here->lost_usage, (int64) lost_usage);
	settled();
}

/*
 * Record the ends of overlap windows and lives.
 */
static void
sweep(void)
{
	TrSection section;
	TimestampTz began;
	TimestampTz next;
	int ended;

	do
	{
		began = GetCurrentTimestamp();
		begin(&section);
		ended = tr_sweep_run(NULL, ROW_BATCH, &next);
		commit(&section);
		settled();
	} while (ended == ROW_BATCH && go_on());
	visit_by_clock(next, began);
}

/*
 * Erase the nonces whose replay window has ended.
 */
static void
erase_nonces(void)
{
	TrSection section;
	TimestampTz began;
	TimestampTz next;
	int erased;

	do
	{
		began = GetCurrentTimestamp();
		begin(&section);
		erased = tr_upkeep_erase_nonces(began, ROW_BATCH);
		next = tr_upkeep_next_nonce();
		commit(&section);
		settled();
	} while (erased == ROW_BATCH && go_on());
	visit_by_clock(next, began);
}

/*
 * Audit the acceptances of one token, where the setting asks for that.
 */
static void
audit_usage(const TrUsage *usage)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TrToken token;
	TrEvent event;

	if (tr_store_read(usage->token, snapshot, &token))
	{
		tr_note_begin(&event, TR_EVENT_VALIDATED, &token);
		sign(&event);
		event.at = usage->last_at;
		tr_audit_write(&event, psprintf("{\"count\": " UINT64_FORMAT "}", usage->count));
	}
	UnregisterSnapshot(snapshot);
}

/*
 * Flush these entries in one transaction.  Returns how many were stored; they
 * are moved to the front.
 */
static int
flush_batch(TrUsage *usage, int *tickets, int count)
{
	bool flushed[ROW_BATCH];
	TrSection section;
	int stored = 0;
	int i;

	begin(&section);
	tr_upkeep_flush(usage, count, flushed);
	for (i = 0; i < count; i++)
	{
		if (!flushed[i])
			continue;
		if (tr_audit_validations == TR_AUDIT_ALL)
			audit_usage(&usage[i]);
		usage[stored] = usage[i];
		tickets[stored++] = tickets[i];
	}
	commit(&section);
	tr_usage_done(usage, tickets, stored);
	settled();
	return stored;
}

/*
 * Flush usage.  It is copied once: what cannot be stored now is not tried again
 * before the next visit.
 */
static void
flush_usage(void)
{
	int max = Min(tr_ring_size * TR_USAGE_FACTOR, USAGE_MAX);
	TrUsage *usage = palloc(max * sizeof(TrUsage));
	int *tickets = palloc(max * sizeof(int));
	int count = tr_usage_peek(usage, tickets, max);
	int stored = 0;
	int i;

	for (i = 0; i < count && (i == 0 || go_on()); i += ROW_BATCH)
		stored += flush_batch(usage + i, tickets + i, Min(count - i, ROW_BATCH));
	if (count == USAGE_MAX && stored > 0)
		visit_by(GetCurrentTimestamp() + TR_VISIT_PAUSE);
	pfree(usage);
	pfree(tickets);
}

/*
 * Compare the cache with token, once after each start of the server: it
 * survives a clean restart, and who knows what happened meanwhile.  A row that
 * cannot be judged because its token is locked stops this until the next visit.
 */
static void
reconcile_cache(TrDatabase *here)
{
	uint8 cursor[TR_ID_BYTES];
	bool moved;

	do
	{
		TrSection section;
		int count;

		memcpy(cursor, here->reconcile_cursor, TR_ID_BYTES);
		begin(&section);
		count = tr_upkeep_reconcile(cursor, CACHE_BATCH);
		commit(&section);
		moved = memcmp(cursor, here->reconcile_cursor, TR_ID_BYTES) != 0;
		memcpy(here->reconcile_cursor, cursor, TR_ID_BYTES);
		if (count < CACHE_BATCH)
			pg_atomic_write_u32(&here->cache_trusted, 1);
		settled();
		if (count < CACHE_BATCH)
			return;
	} while (moved && go_on());
}

/*
 * Fill the cache from where the visit before stopped.  A pass that had to leave
 * tokens out, because they were locked, is followed by another one.
 */
static void
fill_cache(TrDatabase *here)
{
	int count;

	do
	{
		uint8 cursor[TR_ID_BYTES];
		TrSection section;
		int skipped = here->fill_skipped;

		memcpy(cursor, here->fill_cursor, TR_ID_BYTES);
		begin(&section);
		count = tr_upkeep_fill(cursor, CACHE_BATCH, &skipped);
		TR_STOP_POINT("cache_copied");
		if (count < CACHE_BATCH)
		{
			if (skipped == 0)
				tr_upkeep_set_complete();
			memset(cursor, 0, TR_ID_BYTES);
			skipped = 0;
		}
		commit(&section);
		memcpy(here->fill_cursor, cursor, TR_ID_BYTES);
		here->fill_skipped = skipped > 0;
		settled();
	} while (count == CACHE_BATCH && go_on());
}

/*
 * Bring the cache into order.
 */
static void
keep_cache(void)
{
	TrDatabase *here = tr_visits_here();
	TrSection section;
	uint32 by_hand;
	bool complete;

	if (pg_atomic_read_u32(&here->cache_trusted) == 0)
		reconcile_cache(here);
	if (pg_atomic_read_u32(&here->cache_trusted) == 0)
		return;

	/* the count first: what it counts is seen by what is read after it */
	by_hand = pg_atomic_read_u32(&here->by_hand);
	pg_memory_barrier();
	begin(&section);
	if (by_hand != here->by_hand_seen)
		tr_upkeep_unset_complete();
	complete = tr_upkeep_complete();
	commit(&section);
	settled();
	if (by_hand != here->by_hand_seen)
		memset(here->fill_cursor, 0, TR_ID_BYTES);
	here->by_hand_seen = by_hand;
	if (!complete)
		fill_cache(here);
}

/*
 * The most urgent things first.  Proven events are looked for again before each
 * step, because while their ring is full, replays are refused.
 *
 * A visit that runs out of time is continued by the next one, and each does one
 * step at least: otherwise, where the first steps always take long, the last
 * ones would never have their turn.  After an error the order is the usual one.
 */
TimestampTz
tr_tasks_run(const char **doing)
{
	static const struct
	{
		const char *name;
		void (*run)(void);
	} steps[] = {
		{"auditing refusals", drain_junk}, {"auditing losses", report_losses},
		{"ending overlap windows", sweep}, {"erasing nonces", erase_nonces},
		{"storing usage", flush_usage},	   {"keeping the cache", keep_cache},
	};
	TrDatabase *here = tr_visits_here();
	int first = here->first_step;
	int done;

	here->first_step = 0;
	INSTR_TIME_SET_CURRENT(begun);
	next_visit = TR_FOREVER;
	for (done = 0; done < (int) lengthof(steps); done++)
	{
		int i = (first + done) % (int) lengthof(steps);

		*doing = "auditing events";
		INSTR_TIME_SET_CURRENT(step_begun);
		drain_proven();

		INSTR_TIME_SET_CURRENT(step_begun);
		if (!go_on() && done > 0)
		{
			here->first_step = i;
			break;
		}
		*doing = steps[i].name;
		pgstat_report_activity(STATE_RUNNING, *doing);
		steps[i].run();
	}
	return next_visit;
}
