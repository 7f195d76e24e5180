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
#include "frame/settings.h"
#include "frame/visits.h"

/* How long a database is left alone at most, in microseconds. */
#define MAX_BACK_OFF (5 * SECS_PER_MINUTE * USECS_PER_SEC)

typedef struct TrVisits
{
	Latch *launcher;		  /* read without a lock; a process latch is never freed */
	pg_atomic_uint64 planned; /* TimestampTz: when the launcher looks again */

	/* Under the lock. */
	int used; /* entries in use lie below this one */
	TrDatabase databases[TR_MAX_DATABASES];
} TrVisits;

static TrVisits *visits = NULL;
static LWLock *lock = NULL;

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
}

void
tr_visits_shmem_init(void)
{
	bool found;
	int i;

	lock = &GetNamedLWLockTranche(TR_VISITS_TRANCHE)->lock;
	visits = ShmemInitStruct("token_rotation visits", sizeof(TrVisits), &found);
	if (found)
		return;

	memset(visits, 0, sizeof(TrVisits));
	pg_atomic_init_u64(&visits->planned, (uint64) TR_FOREVER);
	for (i = 0; i < TR_MAX_DATABASES; i++)
		reset(&visits->databases[i], InvalidOid);
}

bool
tr_visits_ready(void)
{
	return visits != NULL;
}

/*
 * The entry of a database, or NULL.  Under the lock.
 */
static TrDatabase *
find(Oid database)
{
	int i;

	for (i = 0; i < visits->used; i++)
	{
		if (visits->databases[i].database == database)
			return &visits->databases[i];
	}
	return NULL;
}

/*
 * A new entry, which asks for a look; NULL when the table is full.  Under the
 * exclusive lock.
 */
static TrDatabase *
make(Oid database)
{
	TrDatabase *entry = find(InvalidOid);

	if (entry == NULL)
	{
		if (visits->used == TR_MAX_DATABASES)
			return NULL;
		entry = &visits->databases[visits->used++];
	}
	reset(entry, database);
	entry->not_before = GetCurrentTimestamp();
	return entry;
}

TrDatabase *
tr_visits_here(void)
{
	if (here != NULL || visits == NULL || !OidIsValid(MyDatabaseId))
		return here;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	here = find(MyDatabaseId);
	if (here == NULL)
		here = make(MyDatabaseId);
	LWLockRelease(lock);
	return here;
}

/*
 * Lower a time.  false: it is as early already.
 */
static bool
lower(pg_atomic_uint64 *due, TimestampTz when)
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

	if (entry == NULL || !lower(&entry->due, when))
		return;
	launcher = visits->launcher;
	if (launcher != NULL && when < (TimestampTz) pg_atomic_read_u64(&visits->planned))
		SetLatch(launcher);
}

/*
 * At the end of a worker, whatever ended it.
 */
static void
leave(int code, Datum arg)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (here->visitor == MyProcPid)
		here->visitor = 0;
	LWLockRelease(lock);
}

bool
tr_visits_enter(Oid database, bool *only_look)
{
	TrDatabase *entry;
	bool free;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find(database);
	free = entry != NULL && entry->visitor == 0;
	if (free)
	{
		entry->visitor = MyProcPid;
		*only_look = entry->is_template;
	}
	LWLockRelease(lock);
	if (!free)
		return false;

	here = entry;
	before_shmem_exit(leave, (Datum) 0);
	(void) pg_atomic_exchange_u64(&entry->due, (uint64) TR_FOREVER);
	return true;
}

void
tr_visits_report(bool installed, TimestampTz next)
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

	LWLockAcquire(lock, LW_EXCLUSIVE);
	here->looked = true;
	here->installed = installed;
	here->reported = true;
	here->failures = 0;
	here->last_visit = now;
	here->not_before = now + TR_VISIT_PAUSE;
	LWLockRelease(lock);
	lower(&here->due, next);
}

void
tr_visits_postpone(void)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(lock, LW_EXCLUSIVE);
	here->reported = true;
	here->not_before = now + TR_VISIT_PAUSE;
	LWLockRelease(lock);
	lower(&here->due, now);
}

/*
 * At the end of the launcher: nobody needs to be woken.
 */
static void
launcher_end(int code, Datum arg)
{
	visits->launcher = NULL;
}

void
tr_visits_launcher_begin(void)
{
	int i;

	/* workers of a launcher that died are still in visitor, but in no slot */
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (i = 0; i < visits->used; i++)
		visits->databases[i].worker_slot = -1;
	LWLockRelease(lock);

	before_shmem_exit(launcher_end, (Datum) 0);
	tr_visits_plan(TR_FOREVER);
	visits->launcher = MyLatch;
}

void
tr_visits_plan(TimestampTz wake)
{
	(void) pg_atomic_exchange_u64(&visits->planned, (uint64) wake);
}

int
tr_visits_known(Oid *databases)
{
	int count = 0;
	int i;

	LWLockAcquire(lock, LW_SHARED);
	for (i = 0; i < visits->used; i++)
	{
		if (OidIsValid(visits->databases[i].database))
			databases[count++] = visits->databases[i].database;
	}
	LWLockRelease(lock);
	return count;
}

bool
tr_visits_learn(const TrFound *found, int count)
{
	bool room = true;
	int i;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (i = 0; i < count; i++)
	{
		TrDatabase *entry = find(found[i].database);

		if (entry == NULL && found[i].closed)
			continue;
		if (entry == NULL)
			entry = make(found[i].database);
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
	LWLockRelease(lock);
	return room;
}

void
tr_visits_forget(Oid database)
{
	TrDatabase *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find(database);
	/* a worker that is on its way out still uses the entry; it goes next time */
	if (entry != NULL && entry->visitor == 0 && entry->worker_slot == -1)
		entry->database = InvalidOid;
	LWLockRelease(lock);
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
	LWLockAcquire(lock, LW_SHARED);
	for (i = 0; i < visits->used; i++)
	{
		TrDatabase *entry = &visits->databases[i];
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
	LWLockRelease(lock);
	return database;
}

void
tr_visits_started(Oid database, int slot)
{
	TrDatabase *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL)
	{
		entry->worker_slot = slot;
		entry->reported = false;
	}
	LWLockRelease(lock);
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

void
tr_visits_ended(Oid database, TimestampTz now)
{
	TrDatabase *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL)
	{
		entry->worker_slot = -1;
		if (!entry->reported)
		{
			entry->failures++;
			entry->last_visit = now;
			entry->not_before = now + back_off(entry->failures);
			/* it had taken away what was asked for, and did not do it */
			lower(&entry->due, now);
		}
	}
	LWLockRelease(lock);
}

void
tr_visits_put_off(Oid database, TimestampTz not_before)
{
	TrDatabase *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL)
		entry->not_before = not_before;
	LWLockRelease(lock);
}

void
tr_visits_clock_set_back(TimestampTz now, TimestampTz reached)
{
	int i;

	LWLockAcquire(lock, LW_SHARED);
	for (i = 0; i < visits->used; i++)
	{
		pg_atomic_write_u64(&visits->databases[i].clock_reached, (uint64) reached);
		lower(&visits->databases[i].due, now);
	}
	LWLockRelease(lock);
}

bool
tr_visits_any_installed(void)
{
	bool installed = false;
	int i;

	LWLockAcquire(lock, LW_SHARED);
	for (i = 0; i < visits->used && !installed; i++)
		installed = OidIsValid(visits->databases[i].database) && visits->databases[i].installed;
	LWLockRelease(lock);
	return installed;
}
