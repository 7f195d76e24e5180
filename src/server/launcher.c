/*
 * launcher.c
 *	  The background process that starts the workers.
 *
 * It is connected to no database, so that it blocks none: it sees the shared
 * catalogs only.  It keeps the table of databases (frame/visits.c) in step with
 * pg_database and sends a worker wherever a visit is due.  Between turns it
 * sleeps on its latch, which is set by who asks for a visit, by the postmaster
 * when a worker has ended, and by signals.
 *
 * A database that somebody is dropping, renaming or copying is locked; it is
 * not visited until that is over.
 *
 * The heartbeat: standbys tell by the newest commit that they replayed how far
 * they are behind (token_rotation.max_staleness), so a primary where nothing
 * happens has to commit something.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/lifecycle.h"
#include "frame/circuit.h"
#include "frame/settings.h"
#include "frame/visits.h"
#include "server/clock.h"
#include "server/launcher.h"
#include "server/redact.h"
#include "state/ring.h"
#include "state/stats.h"
#include "state/usage.h"

#define LIBRARY "token_rotation"
#define LAUNCHER_NAME "token_rotation launcher"
#define WORKER_NAME "token_rotation worker"

/* Seconds until the postmaster starts a launcher that has died again. */
#define RESTART_TIME 5

/* In microseconds. */
#define HEARTBEAT (10 * USECS_PER_SEC)
#define LOCKED_PAUSE (USECS_PER_SEC / 2)  /* after which to try a locked database again */
#define NO_SLOT_PAUSE (5 * USECS_PER_SEC) /* after which to try to start a worker again */

/* A worker that was started and has not ended. */
typedef struct Running
{
	BackgroundWorkerHandle *handle; /* NULL: the slot is free */
	Oid database;
} Running;

static Running *slots; /* max_worker_processes of them */
static int running = 0;

/* After a failure to start a worker: until when not to try again. */
static TimestampTz blocked_until = 0;
static bool blocked_logged = false;

/*
 * What both kinds of process have in common.
 */
static void
describe(BackgroundWorker *worker, const char *name, const char *function)
{
	memset(worker, 0, sizeof(*worker));
	strlcpy(worker->bgw_name, name, BGW_MAXLEN);
	strlcpy(worker->bgw_type, name, BGW_MAXLEN);
	strlcpy(worker->bgw_library_name, LIBRARY, BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
}

void
tr_launcher_register(void)
{
	BackgroundWorker worker;

	describe(&worker, LAUNCHER_NAME, "tr_launcher_main");
	worker.bgw_restart_time = RESTART_TIME;
	RegisterBackgroundWorker(&worker);
}

/*
 * The rows of pg_database, in the current memory context, ordered by oid.
 */
static int
read_databases(TrFound **databases)
{
	Relation rel = table_open(DatabaseRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	int room = 64;
	int count = 0;
	TrFound *found = palloc(room * sizeof(TrFound));
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (count == room)
			found = repalloc(found, (room *= 2) * sizeof(TrFound));
		found[count].database = form->oid;
		found[count].is_template = form->datistemplate;
		found[count++].closed = !form->datallowconn || database_is_invalid_form(form);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	qsort(found, count, sizeof(TrFound), oid_cmp);
	*databases = found;
	return count;
}

/*
 * Forget the databases that are gone.
 */
static void
forget_vanished(const Oid *known, int known_count, const TrFound *found, int found_count)
{
	int i;

	for (i = 0; i < known_count; i++)
	{
		if (bsearch(&known[i], found, found_count, sizeof(TrFound), oid_cmp) != NULL)
			continue;
		tr_ring_forget(known[i]);
		tr_usage_forget(known[i]);
		tr_stats_forget(known[i]);
		tr_visits_forget(known[i]);
	}
}

/*
 * Keep the table of databases in step with pg_database.  What is known is read
 * before the catalog, so that a database cannot be taken for gone because it is
 * younger than the catalog snapshot.
 */
static void
take_stock(void)
{
	static bool full_logged = false;
	static Oid known[TR_MAX_DATABASES];
	TrFound *found;
	int found_count;
	int known_count = tr_visits_known(known);
	bool room;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	found_count = read_databases(&found);
	forget_vanished(known, known_count, found, found_count);
	room = tr_visits_learn(found, found_count);
	CommitTransactionCommand();

	if (!room && !full_logged)
		ereport(LOG, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					  errmsg("token_rotation cannot visit all databases"),
					  errdetail("Its worker visits at most %d.", TR_MAX_DATABASES)));
	full_logged = !room;
}

/*
 * Is the database there, and nobody dropping, renaming or copying it?  Tells
 * its tablespace, by which the worker finds out whether that is still so.
 */
static bool
is_free(Oid database, Oid *tablespace)
{
	LOCKTAG tag;
	HeapTuple tuple = NULL;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
	{
		AcceptInvalidationMessages();
		tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	}
	if (HeapTupleIsValid(tuple))
	{
		*tablespace = ((Form_pg_database) GETSTRUCT(tuple))->dattablespace;
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	return HeapTupleIsValid(tuple);
}

/*
 * Take note of workers that have ended.
 */
static void
reap(TimestampTz now)
{
	int i;

	for (i = 0; i < max_worker_processes && running > 0; i++)
	{
		pid_t pid;

		if (slots[i].handle == NULL ||
			GetBackgroundWorkerPid(slots[i].handle, &pid) != BGWH_STOPPED)
			continue;
		pfree(slots[i].handle);
		slots[i].handle = NULL;
		running--;
		if (tr_visits_ended(slots[i].database, now))
			tr_stats_add(tr_stats_of_database(slots[i].database), TR_STAT_VISIT_FAILED, 1);
	}
}

/*
 * Start a worker.  false: the server has no room for one.
 */
static bool
start_worker(Oid database, Oid tablespace)
{
	BackgroundWorker worker;
	int i = 0;

	describe(&worker, WORKER_NAME, "tr_worker_main");
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	memcpy(worker.bgw_extra, &tablespace, sizeof(tablespace));
	worker.bgw_notify_pid = MyProcPid;

	while (i < max_worker_processes && slots[i].handle != NULL)
		i++;
	if (i == max_worker_processes)
		return false;
	/* not later: the worker may be done before we go on, and would have reported to nobody */
	tr_visits_started(database, i);
	if (!RegisterDynamicBackgroundWorker(&worker, &slots[i].handle))
	{
		tr_visits_started(database, -1);
		return false;
	}
	slots[i].database = database;
	running++;
	return true;
}

/*
 * Say once, until a worker could be started again, that there was no room.
 */
static void
block(TimestampTz now)
{
	if (!blocked_logged)
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("token_rotation cannot start a worker"),
					  errdetail("All background worker slots are in use; it tries again."),
					  errhint("You might need to increase max_worker_processes.")));
	blocked_logged = true;
	blocked_until = now + NO_SLOT_PAUSE;
}

/*
 * Send workers where visits are due.  Returns when the next one is; TR_FOREVER
 * also while nobody more may be sent, for a worker's end wakes us.
 */
static TimestampTz
send_workers(TimestampTz now)
{
	while (running < tr_max_workers)
	{
		TimestampTz when;
		Oid database = tr_visits_next(now, &when);
		Oid tablespace;

		if (when > now)
			return when;
		if (blocked_until > now && blocked_until <= now + NO_SLOT_PAUSE)
			return blocked_until;

		if (!is_free(database, &tablespace))
			tr_visits_put_off(database, now + LOCKED_PAUSE);
		else if (start_worker(database, tablespace))
			blocked_logged = false;
		else
			block(now);
	}
	return TR_FOREVER;
}

/*
 * Commit something every HEARTBEAT while a database has the extension and WAL
 * can have readers.  Returns when the next one is due.  Nobody waits for it to
 * reach the disk; the WAL writer takes care of that.
 */
static TimestampTz
beat(TimestampTz now)
{
	static TimestampTz next = 0;

	if (!XLogStandbyInfoActive() || !tr_visits_any_installed())
		return TR_FOREVER;
	/* a time that is too far ahead comes from a clock that was set back */
	if (next <= now || next > now + HEARTBEAT)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		(void) GetCurrentTransactionId();
		CommitTransactionCommand();
		next = now + HEARTBEAT;
	}
	return next;
}

/*
 * What to do after each wake-up.  Returns when to wake up again at the latest.
 */
static TimestampTz
turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz wake = now + tr_worker_nap * INT64CONST(1000);

	pgstat_report_activity(STATE_RUNNING, "looking for databases to visit");
	reap(now);
	take_stock();
	tr_clock_watch();
	tr_circuit_set_read_only(DefaultXactReadOnly);
	wake = Min(wake, beat(now));
	wake = Min(wake, send_workers(now));
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return wake;
}

/*
 * Heed what signals have asked for.  The server's end and pg_terminate_backend
 * look the same from here; the postmaster knows whether to start another
 * launcher, provided that the exit code is not 0.
 */
static void
process_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ShutdownRequestPending)
		proc_exit(1);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/*
 * Sleep until this time, or until somebody wakes us; never longer than a nap,
 * also when the clock is set back meanwhile.
 */
static void
sleep_until(TimestampTz wake)
{
	long timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), wake);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(timeout, tr_worker_nap), PG_WAIT_EXTENSION);
}

void
tr_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	tr_redact_check_order();

	slots = MemoryContextAllocZero(TopMemoryContext, max_worker_processes * sizeof(Running));
	tr_visits_launcher_begin();
	for (;;)
	{
		TimestampTz wake;

		/* in this order: see the protocol in visits.c */
		ResetLatch(MyLatch);
		process_interrupts();
		tr_visits_plan(TR_FOREVER);
		wake = turn();
		tr_visits_plan(wake);
		sleep_until(wake);
	}
}
