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

#include "commands/async.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "core/chain.h"
#include "core/lifecycle.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/visits.h"
#include "server/cache_steps.h"
#include "server/circuit_step.h"
#include "server/step.h"
#include "server/tasks.h"
#include "state/audit.h"
#include "state/pending.h"
#include "state/ring.h"
#include "state/sink.h"
#include "state/stats.h"
#include "state/store.h"
#include "state/upkeep.h"
#include "state/usage.h"
#include "verbs/due.h"
#include "verbs/first_use.h"
#include "verbs/note.h"
#include "verbs/reuse.h"
#include "verbs/seal.h"
#include "verbs/sweep.h"

/* Rows that one transaction handles. */
#define EVENT_BATCH 64
#define ROW_BATCH 500
#define DUE_BATCH 200

/* Tokens whose usage is flushed in one visit. */
#define USAGE_MAX 8192

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
 * Audit a proven event.  false: it has to wait for somebody.
 */
static bool
settle(TrEvent *event)
{
	if (strcmp(event->event, TR_EVENT_REUSE) == 0)
		return tr_reuse_again(event);
	tr_audit_write(event, NULL);
	return true;
}

/*
 * Audit these events in one transaction; those that have to wait go behind the
 * others.  Returns how many were settled.
 */
static int
settle_batch(TrEvent *events, int *tickets, int count)
{
	int waiting[EVENT_BATCH];
	TrSection section;
	int settled = 0;
	int left = 0;
	int i;

	tr_step_begin(&section);
	for (i = 0; i < count; i++)
	{
		if (settle(&events[i]))
			tickets[settled++] = tickets[i];
		else
			waiting[left++] = tickets[i];
	}
	tr_step_commit(&section);
	TR_STOP_POINT("events_committed");
	tr_ring_done(tickets, settled);
	tr_ring_defer(waiting, left);
	tr_step_settled();
	return settled;
}

/*
 * Audit the proven events.  When as many in a row had to wait as there can be, no
 * others are left.
 */
static void
drain_proven(void)
{
	TrEvent *events = palloc(EVENT_BATCH * sizeof(TrEvent));
	int tickets[EVENT_BATCH];
	int in_a_row = 0;
	int count;

	while (in_a_row <= tr_ring_size / TR_RING_WAITING_SHARE &&
		   (count = tr_ring_peek(events, tickets, EVENT_BATCH)) > 0 && tr_step_go_on())
		in_a_row = settle_batch(events, tickets, count) > 0 ? 0 : in_a_row + count;
	if (in_a_row > 0)
		tr_step_visit_by(GetCurrentTimestamp() + USECS_PER_SEC);
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

	while ((count = tr_ring_junk_peek(junk, tickets, EVENT_BATCH)) > 0 && tr_step_go_on())
	{
		tr_step_begin(&section);
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
		tr_step_commit(&section);
		tr_ring_junk_done(junk, tickets, count);
		tr_step_settled();
	}
	pfree(junk);
}

/*
 * Count for tr_stat what is audited as lost.
 */
static void
count_losses(uint64 lost_proven, uint64 lost_junk, uint64 lost_usage)
{
	TrCounters *counters = tr_stats_of(NULL);

	tr_stats_add(counters, TR_STAT_LOST_PROVEN, lost_proven);
	tr_stats_add(counters, TR_STAT_LOST_JUNK, lost_junk);
	tr_stats_add(counters, TR_STAT_LOST_USAGE, lost_usage);
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

	tr_step_begin(&section);
	tr_event_begin(&event, TR_EVENT_EVENTS_LOST);
	sign(&event);
	tr_audit_write(&event, psprintf("{\"proven\": " UINT64_FORMAT ", \"junk\": " UINT64_FORMAT
									", \"usage\": " UINT64_FORMAT "}",
									lost_proven, lost_junk, lost_usage));
	tr_step_commit(&section);
	count_losses(lost_proven, lost_junk, lost_usage);
	pg_atomic_fetch_sub_u64(&here->lost_proven, (int64) lost_proven);
	pg_atomic_fetch_sub_u64(&here->lost_junk, (int64) lost_junk);
	pg_atomic_fetch_sub_u64(&here->lost_usage, (int64) lost_usage);
	tr_step_settled();
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
		tr_step_begin(&section);
		ended = tr_sweep_run(NULL, ROW_BATCH, &next);
		tr_step_commit(&section);
		tr_step_settled();
	} while (ended == ROW_BATCH && tr_step_go_on());
	tr_step_visit_by_clock(next, began);
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
		tr_step_begin(&section);
		erased = tr_upkeep_erase_nonces(began, ROW_BATCH);
		next = tr_upkeep_next_nonce();
		tr_step_commit(&section);
		tr_step_settled();
	} while (erased == ROW_BATCH && tr_step_go_on());
	tr_step_visit_by_clock(next, began);
}

/*
 * Audit the acceptances of one token, where the setting asks for that.
 */
static void
audit_usage(const TrUsage *usage)
{
	TrToken token;
	TrEvent event;

	if (tr_store_read_now(usage->token, &token))
	{
		tr_note_begin(&event, TR_EVENT_VALIDATED, &token);
		sign(&event);
		event.at = usage->last_at;
		tr_audit_write(&event, psprintf("{\"count\": " UINT64_FORMAT "}", usage->count));
	}
}

/*
 * Open the windows that wait for the first use of one of these tokens.  Those whose
 * family somebody holds are moved to the end: returns how many others there are.
 */
static int
open_windows(TrUsage *usage, int *tickets, int count)
{
	bool waits[ROW_BATCH];
	int ready = count;
	int i;

	if (tr_pending_find(usage, count, waits) == 0)
		return count;
	for (i = count - 1; i >= 0; i--)
	{
		TrUsage held = usage[i];
		int ticket = tickets[i];

		if (!waits[i] || tr_first_use_try(held.token, held.first_at))
			continue;
		ready--;
		usage[i] = usage[ready];
		tickets[i] = tickets[ready];
		usage[ready] = held;
		tickets[ready] = ticket;
	}
	if (ready < count)
		tr_step_visit_by(GetCurrentTimestamp() + USECS_PER_SEC);
	return ready;
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

	tr_step_begin(&section);
	count = open_windows(usage, tickets, count);
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
	tr_step_commit(&section);
	tr_usage_done(usage, tickets, stored);
	tr_step_settled();
	return stored;
}

/*
 * Flush usage.  It is copied once: what cannot be stored now is not tried again
 * before the next visit.
 */
static void
flush_usage(void)
{
	int max = Min(tr_usage_size, USAGE_MAX);
	TrUsage *usage = palloc(max * sizeof(TrUsage));
	int *tickets = palloc(max * sizeof(int));
	int count = tr_usage_peek(usage, tickets, max);
	int stored = 0;
	int i;

	for (i = 0; i < count && (i == 0 || tr_step_go_on()); i += ROW_BATCH)
		stored += flush_batch(usage + i, tickets + i, Min(count - i, ROW_BATCH));
	if (count == USAGE_MAX && stored > 0)
		tr_step_visit_by(GetCurrentTimestamp() + TR_VISIT_PAUSE);
	pfree(usage);
	pfree(tickets);
}

/*
 * Tell of moments that have passed.  They need no visit of their own: a warning may
 * be a nap late.
 */
static void
tell_due(void)
{
	TrSection section;
	bool more;

	do
	{
		tr_step_begin(&section);
		more = tr_due_run(DUE_BATCH);
		tr_step_commit(&section);
		tr_step_settled();
	} while (more && tr_step_go_on());
}

/*
 * Seal the audit trail, rows that the steps before have written included.
 */
static void
seal(void)
{
	TrDatabase *here = tr_visits_here();
	TrSection section;
	TimestampTz began;
	TimestampTz next;
	bool more;

	do
	{
		began = GetCurrentTimestamp();
		tr_step_begin(&section);
		if (tr_seal_run(TR_SEAL_MAX_ROWS, &more, &next) > 0)
			here->sealed = true;
		tr_step_commit(&section);
		tr_step_settled();
	} while (more && tr_step_go_on());
	tr_step_visit_by_clock(next, began);
}

/*
 * Write what is sealed to the file, where there is one.
 */
static void
write_file(void)
{
	TrSection section;
	TrSink sink;

	do
	{
		tr_step_begin(&section);
		sink = tr_sink_run();
		tr_step_commit(&section);
		tr_step_settled();
	} while (sink == TR_SINK_WROTE && tr_step_go_on());
	if (sink == TR_SINK_FAILED)
	{
		tr_stats_add(tr_stats_of(NULL), TR_STAT_AUDIT_FILE_FAILED, 1);
		tr_step_visit_by(GetCurrentTimestamp() + tr_worker_nap * INT64CONST(1000));
	}
}

/*
 * Is there no room for a notification?  The last page of the queue is never filled.
 */
static bool
queue_is_full(void)
{
	return DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0)) > 0.999;
}

/*
 * Tell whoever listens that there are new events.  In a transaction of its own: the
 * lock that a NOTIFY takes, for the whole server, is held for that only.  Anybody can
 * fill the queue; then nobody is woken until there is room, and an error here would
 * put off the next visit.
 */
static void
wake_consumers(void)
{
	TrDatabase *here = tr_visits_here();
	TrSection section;

	if (!here->sealed)
		return;
	tr_step_begin(&section);
	if (!queue_is_full())
	{
		Async_Notify("token_rotation", NULL);
		here->sealed = false;
	}
	tr_step_commit(&section);
	tr_step_settled();
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
		{"auditing refusals", drain_junk},		{"auditing losses", report_losses},
		{"ending overlap windows", sweep},		{"erasing nonces", erase_nonces},
		{"storing usage", flush_usage},			{"keeping the cache", tr_cache_keep},
		{"telling what is due", tell_due},		{"sealing the audit", seal},
		{"writing the audit file", write_file}, {"waking consumers", wake_consumers},
	};
	TrDatabase *here = tr_visits_here();
	int first = here->first_step;
	int done;

	here->first_step = 0;
	tr_step_visit_begins();
	*doing = "looking after the circuit";
	tr_circuit_keep();
	for (done = 0; done < (int) lengthof(steps); done++)
	{
		int i = (first + done) % (int) lengthof(steps);

		*doing = "auditing events";
		tr_step_begins();
		drain_proven();

		tr_step_begins();
		if (!tr_step_go_on() && done > 0)
		{
			here->first_step = i;
			break;
		}
		*doing = steps[i].name;
		pgstat_report_activity(STATE_RUNNING, *doing);
		steps[i].run();
	}
	return tr_step_next_visit();
}
