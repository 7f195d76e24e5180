/*
 * visits.c
 *	  Which databases have the extension, and when the worker should visit them:
 *	  see visits.h.
 *
 * Locks.  One LWLock guards the table: who is in it, and everything that the
 * launcher and the workers tell each other.  Backends take it once, to find the
 * entry of their database; they keep the pointer, because an entry is freed
 * only when its database is gone, and a database that somebody is connected to
 * cannot go.
 *
 * Asking for a visit takes no lock.  That no request is lost rests on the order
 * of four steps, each pair with a full memory barrier between:
 *
 *	1. who asks first puts what he asks for where the worker finds it (a ring,
 *	   a commit), then lowers due;
 *	2. a worker first takes due away, then looks for what there is to do: what it
 *	   does not find was put there later, and lowers due again;
 *	3. who has lowered due reads planned, and wakes the launcher if that is later;
 *	4. the launcher sets planned to for ever, reads every due, sets planned to
 *	   the time when it will look again, and sleeps on a latch that it had reset
 *	   before the first of these: a due that it did not see comes with a wake-up.
 *
 * Who finds due low enough already need not wake anybody: he who lowered it did.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/visits.h"
#include "frame/visits_table.h"

TrVisits *tr_visits = NULL;
LWLock *tr_visits_lock = NULL;

/* The entry of this process's database, once it is known. */
static TrDatabase *here = NULL;

Size
tr_visits_shmem_size(void)
{
	return MAXALIGN(sizeof(TrVisits));
}

/*
 * Make an entry as good as new.  Nobody else can reach it: it is free, and at
 * most this process's.
 */
static void
reset(TrDatabase *entry, Oid database)
{
	memset(entry, 0, sizeof(*entry));
	entry->database = database;
	entry->worker_slot = -1;
	entry->last_visit = TR_NEVER;
	pg_atomic_init_u64(&entry->due, (uint64) TR_FOREVER);
	pg_atomic_init_u64(&entry->cutoff_generation, 1);
	pg_atomic_init_u32(&entry->cutoffs_in_doubt, 0);
	pg_atomic_init_u32(&entry->cache_trusted, 0);
	pg_atomic_init_u32(&entry->by_hand, 0);
	pg_atomic_init_u64(&entry->lost_proven, 0);
	pg_atomic_init_u64(&entry->lost_junk, 0);
	pg_atomic_init_u64(&entry->lost_usage, 0);
	pg_atomic_init_u64(&entry->clock_reached, 0);
	pg_atomic_init_u32(&entry->circuit.open, 0);
	pg_atomic_init_u32(&entry->circuit.failures, 0);
	SpinLockInit(&entry->circuit.lock);
}

void
tr_visits_shmem_init(void)
{
	bool found;
	int i;

	tr_visits_lock = &GetNamedLWLockTranche(TR_VISITS_TRANCHE)->lock;
	tr_visits = ShmemInitStruct("token_rotation visits", sizeof(TrVisits), &found);
	if (found)
		return;

	memset(tr_visits, 0, sizeof(TrVisits));
	pg_atomic_init_u64(&tr_visits->planned, (uint64) TR_FOREVER);
	pg_atomic_init_u64(&tr_visits->reached, 0);
	pg_atomic_init_u64(&tr_visits->behind, 0);
	pg_atomic_init_u32(&tr_visits->read_only, 0);
	for (i = 0; i < TR_MAX_DATABASES; i++)
		reset(&tr_visits->databases[i], InvalidOid);
}

bool
tr_visits_ready(void)
{
	return tr_visits != NULL;
}

TrDatabase *
tr_visits_find(Oid database)
{
	int i;

	for (i = 0; i < tr_visits->used; i++)
	{
		if (tr_visits->databases[i].database == database)
			return &tr_visits->databases[i];
	}
	return NULL;
}

TrDatabase *
tr_visits_make(Oid database)
{
	TrDatabase *entry = tr_visits_find(InvalidOid);

	if (entry == NULL)
	{
		if (tr_visits->used == TR_MAX_DATABASES)
			return NULL;
		entry = &tr_visits->databases[tr_visits->used++];
	}
	reset(entry, database);
	entry->not_before = GetCurrentTimestamp();
	return entry;
}

TrDatabase *
tr_visits_here(void)
{
	if (here != NULL || tr_visits == NULL || !OidIsValid(MyDatabaseId))
		return here;

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	here = tr_visits_find(MyDatabaseId);
	if (here == NULL)
		here = tr_visits_make(MyDatabaseId);
	LWLockRelease(tr_visits_lock);
	return here;
}

bool
tr_visits_lower(pg_atomic_uint64 *due, TimestampTz when)
{
	uint64 old = pg_atomic_read_u64(due);

	while (when < (TimestampTz) old)
	{
		if (pg_atomic_compare_exchange_u64(due, &old, (uint64) when))
			return true;
	}
	return false;
}

void
tr_visits_ask(TimestampTz when)
{
	TrDatabase *entry = tr_visits_here();
	Latch *launcher;

	if (entry == NULL || !tr_visits_lower(&entry->due, when))
		return;
	launcher = tr_visits->launcher;
	if (launcher != NULL && when < (TimestampTz) pg_atomic_read_u64(&tr_visits->planned))
		SetLatch(launcher);
}

/*
 * At the end of a worker, whatever ended it.
 */
static void
leave(int code, Datum arg)
{
	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	if (here->visitor == MyProcPid)
		here->visitor = 0;
	LWLockRelease(tr_visits_lock);
}

bool
tr_visits_enter(Oid database, bool *only_look)
{
	TrDatabase *entry;
	bool free;

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	entry = tr_visits_find(database);
	free = entry != NULL && entry->visitor == 0;
	if (free)
	{
		entry->visitor = MyProcPid;
		*only_look = entry->is_template;
	}
	LWLockRelease(tr_visits_lock);
	if (!free)
		return false;

	here = entry;
	before_shmem_exit(leave, (Datum) 0);
	(void) pg_atomic_exchange_u64(&entry->due, (uint64) TR_FOREVER);
	return true;
}

void
tr_visits_report(bool installed, bool locked, TimestampTz next)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!installed)
	{
		/* the next installation has a cache of its own */
		memset(here->fill_cursor, 0, TR_ID_BYTES);
		memset(here->reconcile_cursor, 0, TR_ID_BYTES);
		pg_atomic_write_u32(&here->cache_trusted, 0);
		pg_atomic_write_u64(&here->clock_reached, 0);
	}

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	here->looked = true;
	here->installed = installed;
	here->reported = true;
	here->failures = 0;
	here->last_visit = now;
	if (!locked)
		here->locked_at = 0;
	else if (here->locked_at == 0)
		here->locked_at = now;
	here->not_before = now + TR_VISIT_PAUSE;
	LWLockRelease(tr_visits_lock);
	tr_visits_lower(&here->due, next);
}

void
tr_visits_failed(int error)
{
	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	here->error = error;
	here->error_at = GetCurrentTimestamp();
	LWLockRelease(tr_visits_lock);
}

void
tr_visits_postpone(void)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(tr_visits_lock, LW_EXCLUSIVE);
	here->reported = true;
	here->not_before = now + TR_VISIT_PAUSE;
	LWLockRelease(tr_visits_lock);
	tr_visits_lower(&here->due, now);
}
