/*
 * visits_plan.c
 *	  What the launcher does with the table of databases, and what a probe sees
 *	  of it: see visits.h.  visits.c has the locks and the protocol.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/settings.h"
#include "frame/visits.h"
#include "frame/visits_table.h"

/* How long a database is left alone at most, in microseconds. */
#define MAX_BACK_OFF (5 * SECS_PER_MINUTE * USECS_PER_SEC)

/*
 * At the end of the launcher: nobody needs to be woken.
 */
static void
launcher_end(int code, Datum arg)
{
	tr_visits->launcher = NULL;
}

void
tr_visits_launcher_begin(void)
{
	int i;

	/* workers of a launcher that died are still in visitor, but in no slot */
	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	for (i = 0; i < tr_visits->used; i++)
		tr_visits->databases[i].worker_slot = -1;
	LWLockRelease(tr_visits_lock);

	before_shmem_exit(launcher_end, (Datum) 0);
	tr_visits_plan(TR_FOREVER);
	tr_visits->launcher = MyLatch;
}

void
tr_visits_plan(TimestampTz wake)
{
	(void) pg_atomic_exchange_u64(&tr_visits->planned, (uint64) wake);
}

int
tr_visits_known(Oid *databases)
{
	int count = 0;
	int i;

	LWLockAcquire(tr_visits_lock, LW_SHARED);
	for (i = 0; i < tr_visits->used; i++)
	{
		if (OidIsValid(tr_visits->databases[i].database))
			databases[count++] = tr_visits->databases[i].database;
	}
	LWLockRelease(tr_visits_lock);
	return count;
}

bool
tr_visits_learn(const TrFound *found, int count)
{
	bool room = true;
	int i;

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	for (i = 0; i < count; i++)
	{
		TrDatabase *entry = tr_visits_find(found[i].database);

		if (entry == NULL && found[i].closed)
			continue;
		if (entry == NULL)
			entry = tr_visits_make(found[i].database);
		if (entry == NULL)
		{
			room = false;
			continue;
		}
		/* a former template was looked at, but never worked on */
		if (entry->is_template && !found[i].is_template)
			entry->looked = false;
		entry->is_template = found[i].is_template;
		entry->closed = found[i].closed;
	}
	LWLockRelease(tr_visits_lock);
	return room;
}

void
tr_visits_forget(Oid database)
{
	TrDatabase *entry;

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	entry = tr_visits_find(database);
	/* a worker that is on its way out still uses the entry; it goes next time */
	if (entry != NULL && entry->visitor == 0 && entry->worker_slot == -1)
		entry->database = InvalidOid;
	LWLockRelease(tr_visits_lock);
}

/*
 * When this database is to be visited; TR_FOREVER: when somebody asks for it.
 * Times ahead that nobody can have meant come from a clock that was set back,
 * and count as over.
 */
static TimestampTz
due_at(TrDatabase *entry, TimestampTz now)
{
	TimestampTz due = (TimestampTz) pg_atomic_read_u64(&entry->due);
	TimestampTz not_before = entry->not_before > now + MAX_BACK_OFF ? now : entry->not_before;
	TimestampTz rested;

	if (entry->closed)
		return TR_FOREVER;
	if (!entry->looked)
		return not_before;

	rested = entry->last_visit > now ? now : entry->last_visit + tr_worker_nap * INT64CONST(1000);
	if (entry->is_template && due != TR_FOREVER)
		due = Max(due, rested);
	else if (entry->installed && !entry->is_template)
		due = Min(due, rested);
	return due == TR_FOREVER ? due : Max(due, not_before);
}

Oid
tr_visits_next(TimestampTz now, TimestampTz *when)
{
	Oid database = InvalidOid;
	int i;

	*when = TR_FOREVER;
	LWLockAcquire(tr_visits_lock, LW_SHARED);
	for (i = 0; i < tr_visits->used; i++)
	{
		TrDatabase *entry = &tr_visits->databases[i];
		TimestampTz due;

		if (!OidIsValid(entry->database) || entry->visitor != 0 || entry->worker_slot != -1)
			continue;
		due = due_at(entry, now);
		if (due < *when)
		{
			*when = due;
			database = entry->database;
		}
	}
	LWLockRelease(tr_visits_lock);
	return database;
}

void
tr_visits_started(Oid database, int slot)
{
	TrDatabase *entry;

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	entry = tr_visits_find(database);
	if (entry != NULL)
	{
		entry->worker_slot = slot;
		entry->reported = false;
	}
	LWLockRelease(tr_visits_lock);
}

/*
 * How long to leave a database alone after so many failures in a row.
 */
static int64
back_off(int failures)
{
	int64 pause = tr_worker_nap * INT64CONST(1000);

	while (--failures > 0 && pause < MAX_BACK_OFF)
		pause *= 2;
	return Min(pause, MAX_BACK_OFF);
}

bool
tr_visits_ended(Oid database, TimestampTz now)
{
	TrDatabase *entry;
	bool failed = false;

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	entry = tr_visits_find(database);
	if (entry != NULL)
	{
		entry->worker_slot = -1;
		failed = !entry->reported;
		if (failed)
		{
			entry->failures++;
			entry->last_visit = now;
			entry->not_before = now + back_off(entry->failures);
			/* it had taken away what was asked for, and did not do it */
			tr_visits_lower(&entry->due, now);
		}
	}
	LWLockRelease(tr_visits_lock);
	return failed;
}

void
tr_visits_put_off(Oid database, TimestampTz not_before)
{
	TrDatabase *entry;

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	entry = tr_visits_find(database);
	if (entry != NULL)
		entry->not_before = not_before;
	LWLockRelease(tr_visits_lock);
}

void
tr_visits_clock_set_back(TimestampTz now, TimestampTz reached)
{
	int i;

	pg_atomic_write_u64(&tr_visits->reached, (uint64) reached);
	LWLockAcquire(tr_visits_lock, LW_SHARED);
	for (i = 0; i < tr_visits->used; i++)
	{
		pg_atomic_write_u64(&tr_visits->databases[i].clock_reached, (uint64) reached);
		tr_visits_lower(&tr_visits->databases[i].due, now);
	}
	LWLockRelease(tr_visits_lock);
}

void
tr_visits_clock_behind(int64 behind)
{
	pg_atomic_write_u64(&tr_visits->behind, (uint64) behind);
}

void
tr_visits_state(TrVisitState *state, TimestampTz now)
{
	TrDatabase *entry = tr_visits_here();

	memset(state, 0, sizeof(*state));
	state->launcher = tr_visits->launcher != NULL;
	state->clock_behind = Max((int64) pg_atomic_read_u64(&tr_visits->behind),
							  (int64) pg_atomic_read_u64(&tr_visits->reached) - now);
	state->known = entry != NULL;
	if (entry == NULL)
		return;
	LWLockAcquire(tr_visits_lock, LW_SHARED);
	state->last_visit = entry->last_visit;
	state->due = due_at(entry, now);
	state->failures = entry->failures;
	state->error = entry->error;
	state->error_at = entry->error_at;
	state->locked_at = entry->locked_at;
	LWLockRelease(tr_visits_lock);
}

bool
tr_visits_any_installed(void)
{
	bool installed = false;
	int i;

	LWLockAcquire(tr_visits_lock, LW_SHARED);
	for (i = 0; i < tr_visits->used && !installed; i++)
		installed =
			OidIsValid(tr_visits->databases[i].database) && tr_visits->databases[i].installed;
	LWLockRelease(tr_visits_lock);
	return installed;
}
