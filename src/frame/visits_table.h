/*
 * visits_table.h
 *	  The table of databases, for the two files that keep it: visits.c, which
 *	  has the locks and the protocol, and visits_plan.c.
 */
#ifndef TR_VISITS_TABLE_H
#define TR_VISITS_TABLE_H

#include "postgres.h"

#include "storage/latch.h"
#include "storage/lwlock.h"

#include "frame/visits.h"

typedef struct TrVisits
{
	Latch *launcher;			/* read without a lock; a process latch is never freed */
	pg_atomic_uint64 planned;	/* TimestampTz: when the launcher looks again */
	pg_atomic_uint64 reached;	/* TimestampTz that the clock was last set back from */
	pg_atomic_uint64 behind;	/* what it lacks since */
	pg_atomic_uint32 read_only; /* 1: the server's configuration makes transactions so */

	/* Under the lock. */
	int used; /* entries in use lie below this one */
	TrDatabase databases[TR_MAX_DATABASES];
} TrVisits;

extern TrVisits *tr_visits;
extern LWLock *tr_visits_lock;

/*
 * The entry of a database, or NULL.  Under the lock.
 */
extern TrDatabase *tr_visits_find(Oid database);

/*
 * A new entry, which asks for a look; NULL when the table is full.  Under the
 * exclusive lock.
 */
extern TrDatabase *tr_visits_make(Oid database);

/*
 * Lower a time.  false: it is as early already.
 */
extern bool tr_visits_lower(pg_atomic_uint64 *due, TimestampTz when);

#endif /* TR_VISITS_TABLE_H */
