/*
 * worker.c
 *	  The background process that visits one database.
 *
 * It comes, works (server/tasks.c), reports and leaves: whoever wants the
 * database for himself (CREATE DATABASE ... TEMPLATE, RENAME, DROP) waits 5
 * seconds for others to be gone, so a visit is over before.  What is not
 * finished then is continued by the next one.
 *
 * It connects without a role, as the bootstrap superuser, but all its SQL is run
 * inside a section: as the owner of the extension's tables.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/settings.h"
#include "frame/visits.h"
#include "server/clock.h"
#include "server/step.h"
#include "server/tasks.h"
#include "server/worker.h"
#include "state/ring.h"
#include "state/stats.h"
#include "state/usage.h"

/* Does the database have the extension? */
static bool installed = false;

/* For error messages. */
static char *name = NULL;
static const char *doing = NULL;

/*
 * SIGTERM, once connected: whoever wants the database for himself, or the
 * server's end, ends what is going on like a cancelled query, without a word in
 * the log.
 */
static void
leave_quietly(SIGNAL_ARGS)
{
	int saved_errno = errno;

	ShutdownRequestPending = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
	errno = saved_errno;
}

/*
 * Pin what the configuration, the database or the role could say otherwise.
 * Done before connecting, so that the database's own settings come too late.
 */
static void
pin_settings(void)
{
	static const char *const pinned[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"role", "none"},
		{"row_security", "on"},
		{"session_replication_role", "origin"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"synchronous_commit", "local"}, /* a standby that is gone must not keep it here */
		{"statement_timeout", "0"},
		{"lock_timeout", "250ms"}, /* in a deadlock with DDL the worker gives way */
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"}, /* from 17 on */
		{"jit", "off"},
	};
	size_t i;

	for (i = 0; i < lengthof(pinned); i++)
	{
		if (GetConfigOption(pinned[i][0], true, false) != NULL)
			SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/*
 * However this process ends, it leaves no lock behind: what is held without a
 * transaction would otherwise stay.
 */
static void
release_locks(int code, Datum arg)
{
	LockReleaseSession(DEFAULT_LOCKMETHOD);
}

/*
 * Connect to a database unless somebody is dropping, renaming or copying it, or
 * has dropped it since the launcher looked.  To connect straight away would be
 * to wait for him, in the best case, and in the worst case to fail with noise in
 * the log.  So the lock that connecting takes is taken before, without waiting;
 * under it, the database is there if its directory is.
 */
static bool
connect_to(Oid database)
{
	LOCKTAG tag;
	Oid tablespace;
	bool exists;

	memcpy(&tablespace, MyBgworkerEntry->bgw_extra, sizeof(tablespace));
	before_shmem_exit(release_locks, (Datum) 0);
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	exists = access(GetDatabasePath(database, tablespace), F_OK) == 0;
	if (exists)
		BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	LockRelease(&tag, RowExclusiveLock, true);
	return exists;
}

/*
 * Is the extension here, and what is the database called?  true: look again, for
 * the extension will be updated some day, and nobody tells us when it is.
 */
static bool
look(void)
{
	bool not_served;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	name = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	installed = tr_catalog_installed(&not_served);
	CommitTransactionCommand();
	return not_served;
}

/*
 * Look, work, report.  A template is looked at only: nobody is to wait for us
 * who makes a database from it.
 */
static void
visit(bool only_look)
{
	TimestampTz next = TR_FOREVER;

	doing = "looking for the extension";
	pgstat_report_activity(STATE_RUNNING, doing);
	if (look())
		next = GetCurrentTimestamp() + tr_worker_nap * INT64CONST(1000);
	if (installed && !only_look)
	{
		tr_clock_tell();
		next = tr_tasks_run(&doing);
	}
	else
	{
		/* nobody will ever store what lies there */
		tr_ring_forget(MyDatabaseId);
		tr_usage_forget(MyDatabaseId);
	}
	if (installed)
		tr_stats_add(tr_stats_of(NULL), TR_STAT_VISIT_DONE, 1);
	tr_visits_report(installed, false, next);
}

/*
 * Adds to each message what the worker was doing.
 */
static void
context(void *arg)
{
	if (name != NULL)
		errcontext("token_rotation worker in database \"%s\", %s", name, doing);
}

/*
 * An error ended the visit.  A table that somebody keeps locked is none: the
 * next visit tries again, without a word in the log.  Nor is an extension that
 * was dropped meanwhile: the next one looks whether there is a new one.  After
 * any other, and when told to leave, the launcher sees that nothing was reported
 * and backs off.
 */
static void
give_up(void)
{
	int sqlstate = geterrcode();
	int code = installed ? sqlstate : 0;

	HOLD_INTERRUPTS();
	if (code == ERRCODE_LOCK_NOT_AVAILABLE || code == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
	{
		bool locked = code == ERRCODE_LOCK_NOT_AVAILABLE;

		AbortOutOfAnyTransaction();
		if (locked)
			tr_stats_add(tr_stats_of(NULL), TR_STAT_VISIT_LOCKED, 1);
		tr_visits_report(true, locked, locked ? tr_step_again() : GetCurrentTimestamp());
	}
	else
	{
		if (!ShutdownRequestPending)
			EmitErrorReport();
		AbortOutOfAnyTransaction();
		if (!ShutdownRequestPending)
			tr_visits_failed(sqlstate);
	}
	FlushErrorState();
	RESUME_INTERRUPTS();
}

void
tr_worker_main(Datum arg)
{
	Oid database = DatumGetObjectId(arg);
	ErrorContextCallback callback = {.callback = context};
	bool only_look;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!tr_visits_enter(database, &only_look))
		return;
	pin_settings();
	tr_event_as_worker();
	if (!connect_to(database))
	{
		tr_visits_postpone();
		return;
	}

	pqsignal(SIGTERM, leave_quietly);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	PG_TRY();
	{
		visit(only_look);
	}
	PG_CATCH();
	{
		give_up();
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
}
