/*
 * circuit.c
 *	  The circuit breaker: see circuit.h.
 *
 *	closed	  so many failures in a row					open, next = now + timeout
 *	open	  someone enters, next has come				half open, next = now + timeout
 *	half open he committed what he wrote				closed
 *	half open his write failed							open, next = now + timeout
 *	half open he rolled back, or wrote nothing			open, next = now
 *	half open next has come, and he has not ended		half open: someone else's turn
 *
 * Half open is no state of its own: who is let through puts next off by a
 * timeout and remembers the value that he set.  As long as it stands it is his
 * turn.  So nothing is left to clean up where he hangs; a session that is
 * terminated aborts first, and a crash clears all.
 *
 * One circuit a database, because a tablespace can be a database's own, and
 * because what one database writes says nothing about another's disk.  A disk
 * that all share opens each one's.
 *
 * What counts must not be what a caller can bring about, or he could switch off
 * rotation for everybody.  So errors count by what they say about the storage,
 * and only where the extension's own statements write its own tables, with
 * nothing of the caller's in them but values: see is_of_storage.  That the
 * transaction is READ ONLY does not count.  Every session can bring that about,
 * or undo it where it is the server's default; so under that default those who
 * have not undone it are refused, and nobody else is.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/circuit.h"
#include "frame/settings.h"
#include "frame/visits.h"
#include "frame/visits_table.h"

/* This transaction, to its end. */
static bool wrote = false;
static bool failed = false;
static bool probing = false;	/* it is the worker's try */
static TimestampTz attempt = 0; /* next, as this transaction has set it */

/*
 * The circuit of this database; NULL: there is none, which is never open.
 */
static TrCircuit *
mine(void)
{
	TrDatabase *here = tr_visits_here();

	return here == NULL ? NULL : &here->circuit;
}

/*
 * When what fails now is to be tried again.
 */
static TimestampTz
after_timeout(TimestampTz now)
{
	return now + tr_circuit_timeout * USECS_PER_SEC;
}

/*
 * Has this time come?  One that is too far ahead comes from a clock that was set
 * back, or from a longer timeout.
 */
static bool
has_come(TimestampTz when, TimestampTz now)
{
	return when <= now || when > after_timeout(now);
}

bool
tr_circuit_is_open(void)
{
	TrCircuit *circuit = mine();

	return circuit != NULL && pg_atomic_read_u32(&circuit->open) != 0 && tr_circuit_threshold > 0;
}

bool
tr_circuit_refuses(void)
{
	TrCircuit *circuit = mine();
	TimestampTz now;
	bool refuses;

	if (XactReadOnly && tr_circuit_read_only() && tr_circuit_threshold > 0)
		return true;
	if (!tr_circuit_is_open())
		return false;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&circuit->lock);
	refuses = !has_come(circuit->next, now) && (attempt == 0 || attempt != circuit->next);
	SpinLockRelease(&circuit->lock);
	return refuses;
}

bool
tr_circuit_enter(void)
{
	TrCircuit *circuit = mine();
	TimestampTz now;
	bool may_enter;

	if (!tr_circuit_is_open())
		return true;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&circuit->lock);
	may_enter =
		pg_atomic_read_u32(&circuit->open) == 0 || (attempt != 0 && attempt == circuit->next);
	if (!may_enter && has_come(circuit->next, now))
	{
		attempt = circuit->next = after_timeout(now);
		may_enter = true;
	}
	SpinLockRelease(&circuit->lock);
	return may_enter;
}

/*
 * Count a failure.  Of those that come while the circuit is open, only that of
 * whose turn it is matters.
 */
static void
count_failure(int error)
{
	TrCircuit *circuit = mine();
	TimestampTz now = GetCurrentTimestamp();
	bool opens = false;
	uint32 failures;

	if (circuit == NULL || tr_circuit_threshold == 0)
		return;
	SpinLockAcquire(&circuit->lock);
	failures = pg_atomic_read_u32(&circuit->failures) + 1;
	if (pg_atomic_read_u32(&circuit->open) == 0)
	{
		pg_atomic_write_u32(&circuit->failures, failures);
		opens = failures >= (uint32) tr_circuit_threshold;
	}
	if (opens)
	{
		pg_atomic_write_u32(&circuit->open, 1);
		if (circuit->opened_at == 0)
			circuit->opened_at = now;
		circuit->closed_at = 0;
		circuit->uncounted++;
	}
	if (opens || attempt != 0 || probing)
	{
		circuit->next = after_timeout(now);
		circuit->failed_at = now;
		circuit->error = error;
	}
	SpinLockRelease(&circuit->lock);

	if (!opens)
		return;
	ereport(LOG, (errhidestmt(true), errhidecontext(true),
				  errmsg("token_rotation rotates no tokens of database %u for now", MyDatabaseId),
				  errdetail("%u writes in a row have failed, the last one with SQLSTATE %s.",
							failures, unpack_sql_state(error)),
				  errhint("Valid tokens stay valid. It is tried again every %d seconds.",
						  tr_circuit_timeout)));
	tr_visits_ask(now);
}

/*
 * Does the error that is being handled say that the storage is broken?
 *
 * It does where a file of the table cannot be written, extended or found.  It
 * does not where memory, locks, connections or temporary space have run out,
 * which a caller can use up, and not where a row is damaged, which says nothing
 * about the others.  A read-only file system and a quota have no SQLSTATE of
 * their own.
 */
static bool
is_of_storage(int error)
{
	ErrorData *copy;
	int number;

	switch (error)
	{
		case ERRCODE_DISK_FULL:
		case ERRCODE_IO_ERROR:
		case ERRCODE_UNDEFINED_FILE:
			return true;
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
		case ERRCODE_INTERNAL_ERROR:
			copy = CopyErrorData();
			number = copy->saved_errno;
			FreeErrorData(copy);
			return number == (error == ERRCODE_INTERNAL_ERROR ? EDQUOT : EROFS);
		default:
			return false;
	}
}

void
tr_circuit_failed(void)
{
	int error = geterrcode();

	if (!is_of_storage(error))
		return;
	count_failure(error);
	failed = true;
}

void
tr_circuit_wrote(void)
{
	wrote = true;
}

bool
tr_circuit_read_only(void)
{
	return tr_visits != NULL && pg_atomic_read_u32(&tr_visits->read_only) != 0;
}

void
tr_circuit_set_read_only(bool read_only)
{
	pg_atomic_write_u32(&tr_visits->read_only, read_only);
}

/*
 * What this transaction wrote is committed.
 */
static void
succeed(void)
{
	TrCircuit *circuit = mine();
	TimestampTz now;
	bool closes;

	if (circuit == NULL ||
		(attempt == 0 && !probing && pg_atomic_read_u32(&circuit->failures) == 0))
		return;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&circuit->lock);
	closes = pg_atomic_read_u32(&circuit->open) != 0 && (attempt != 0 || probing);
	if (closes)
	{
		pg_atomic_write_u32(&circuit->open, 0);
		circuit->closed_at = now;
	}
	if (pg_atomic_read_u32(&circuit->open) == 0)
		pg_atomic_write_u32(&circuit->failures, 0);
	SpinLockRelease(&circuit->lock);

	if (!closes)
		return;
	ereport(LOG, (errhidestmt(true), errhidecontext(true),
				  errmsg("token_rotation rotates tokens of database %u again", MyDatabaseId),
				  errdetail("A write has succeeded.")));
	tr_visits_ask(now);
}

/*
 * It was this transaction's turn, and it has told nothing: it is the next one's.
 */
static void
give_back(void)
{
	TrCircuit *circuit = mine();
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&circuit->lock);
	if (circuit->next == attempt)
		circuit->next = now;
	SpinLockRelease(&circuit->lock);
}

/*
 * At the end of the top-level transaction.
 */
static void
at_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT && wrote && !failed)
		succeed();
	else if (attempt != 0 && !failed)
		give_back();
	wrote = failed = probing = false;
	attempt = 0;
}

/*
 * At the end of a subtransaction.  What it took back may have been all that was
 * written: somebody else's success will tell.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		wrote = false;
}

bool
tr_circuit_tell(TrCircuitStory *story, TimestampTz *look)
{
	TrCircuit *circuit = mine();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due;
	bool open;

	SpinLockAcquire(&circuit->lock);
	open = pg_atomic_read_u32(&circuit->open) != 0;
	story->opened_at = circuit->opened_at;
	story->closed_at = open ? now : circuit->closed_at;
	story->error = circuit->error;
	due = after_timeout(circuit->failed_at);
	SpinLockRelease(&circuit->lock);

	probing = open && has_come(due, now);
	*look = open && !probing ? due : TR_FOREVER;
	return probing || (!open && story->opened_at != 0);
}

void
tr_circuit_told(const TrCircuitStory *story)
{
	TrCircuit *circuit = mine();

	SpinLockAcquire(&circuit->lock);
	/* it may have opened anew meanwhile */
	if (circuit->opened_at == story->opened_at)
		circuit->opened_at = pg_atomic_read_u32(&circuit->open) == 0 ? 0 : circuit->failed_at;
	SpinLockRelease(&circuit->lock);
}

int
tr_circuit_openings(void)
{
	TrCircuit *circuit = mine();
	int openings;

	SpinLockAcquire(&circuit->lock);
	openings = circuit->uncounted;
	circuit->uncounted = 0;
	SpinLockRelease(&circuit->lock);
	return openings;
}

void
tr_circuit_init(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}
