/*
 * visits.h
 *	  Which databases have the extension, and when the worker should visit them.
 *
 * A table in shared memory, one entry a database.  Backends ask for a visit;
 * the launcher (server/launcher.c) starts workers; a worker reports when the
 * next visit is due.  Everything is lost in a crash restart and found again:
 * the launcher looks into every database once after each start.
 */
#ifndef TR_VISITS_H
#define TR_VISITS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "core/token_text.h"
#include "frame/circuit.h"

/* How many databases can be known; "200 databases" is the size to hold. */
#define TR_MAX_DATABASES 1024

/* Two visits of one database lie at least this far apart, in microseconds. */
#define TR_VISIT_PAUSE (200 * INT64CONST(1000))

/* The tranche of the table's one lock, for server/shmem.c to request. */
#define TR_VISITS_TRANCHE "token_rotation_visits"

typedef struct TrDatabase
{
	/* Under the table's lock. */
	Oid database;			/* InvalidOid: the entry is free */
	bool looked;			/* a worker has looked, installed is known */
	bool installed;			/* the extension is there */
	bool is_template;		/* gets no more than looks */
	bool closed;			/* accepts no connections */
	bool reported;			/* the worker started last has done its work */
	int worker_slot;		/* launcher's slot of the worker that visits now; -1: none */
	pid_t visitor;			/* the worker that is inside; 0: none */
	int failures;			/* visits in a row that failed */
	int error;				/* SQLSTATE of the last error that ended a visit; 0: none yet */
	TimestampTz error_at;	/* when that was */
	TimestampTz last_visit; /* end of the last visit */
	TimestampTz locked_at;	/* since when visits find something locked; 0: they do not */
	TimestampTz not_before; /* no visit earlier, whatever asks for one */

	/* Touched by the visiting worker only, of which there is one at a time. */
	uint8 fill_cursor[TR_ID_BYTES]; /* how far the cache was filled */
	Oid fill_file;					/* number of the cache's file when the pass began */
	bool fill_skipped;				/* this pass had to leave tokens out */
	uint8 reconcile_cursor[TR_ID_BYTES];
	uint32 by_hand_seen; /* by_hand when the last pass of filling began */
	bool sealed;		 /* there are events that consumers were not told of */
	int first_step;		 /* of the tasks: the one that the last visit had no time for */

	/* Read and written without the lock. */
	pg_atomic_uint64 due;				/* TimestampTz of the next visit that is asked for */
	pg_atomic_uint64 cutoff_generation; /* state/cutoff.c has the protocol of these two */
	pg_atomic_uint32 cutoffs_in_doubt;
	pg_atomic_uint32 cache_trusted; /* 1 once token_cache was reconciled with token since start */
	pg_atomic_uint32 by_hand;		/* commits that changed tokens by other means than the verbs */
	pg_atomic_uint64 lost_proven;	/* events that did not fit, not yet audited */
	pg_atomic_uint64 lost_junk;
	pg_atomic_uint64 lost_usage;
	pg_atomic_uint64 clock_reached; /* TimestampTz before the clock was set back; 0: told */

	TrCircuit circuit; /* has a lock of its own: frame/circuit.h */
} TrDatabase;

/* What a probe wants to know. */
typedef struct TrVisitState
{
	bool launcher;			/* it is there */
	bool known;				/* the current database is; otherwise nothing below is filled */
	TimestampTz last_visit; /* TR_NEVER: none yet */
	TimestampTz due;		/* when the next one is, or the one that goes on was */
	int failures;			/* as in TrDatabase, like the next three */
	int error;
	TimestampTz error_at;
	TimestampTz locked_at;
	int64 clock_behind; /* microseconds that the clock lacks of what it had reached */
} TrVisitState;

/* A database as the launcher found it in pg_database. */
typedef struct TrFound
{
	Oid database;
	bool is_template;
	bool closed;
} TrFound;

extern Size tr_visits_shmem_size(void);
extern void tr_visits_shmem_init(void);

/*
 * Is the library preloaded, so that its shared memory is there?
 */
extern bool tr_visits_ready(void);

/*
 * The entry of the current database, made known if it was not; NULL when the
 * table is full or the library is not preloaded.
 */
extern TrDatabase *tr_visits_here(void);

/*
 * Ask for a visit of the current database at this time or earlier, and wake
 * the launcher where that is sooner than what it waits for.  Never raises.
 */
extern void tr_visits_ask(TimestampTz when);

/*
 * How the visits of the current database stand.
 */
extern void tr_visits_state(TrVisitState *state, TimestampTz now);

/* For the worker. */

/*
 * Come in.  What is asked for from here on takes another visit.  false: another
 * worker is inside, or nobody knows this database.  *only_look: it is a
 * template.  Leaving needs no call.
 */
extern bool tr_visits_enter(Oid database, bool *only_look);

/*
 * The visit was a success, or found locked what it needed; the next one is due at
 * that time or when somebody asks for it earlier.
 */
extern void tr_visits_report(bool installed, bool locked, TimestampTz next);

/*
 * The visit did not take place, because the database is being dropped, renamed
 * or copied; it is to be tried again after the usual pause.
 */
extern void tr_visits_postpone(void);

/*
 * An error of this SQLSTATE ended the visit; said by a worker that will report
 * nothing.
 */
extern void tr_visits_failed(int error);

/* For the launcher. */

/*
 * Be the one whom tr_visits_ask wakes, until this process ends.
 */
extern void tr_visits_launcher_begin(void);

/*
 * Announce when the launcher will look at the table again, before it sleeps;
 * TR_FOREVER before it begins to look.
 */
extern void tr_visits_plan(TimestampTz wake);

/*
 * Copy the known databases to an array of TR_MAX_DATABASES; returns how many.
 */
extern int tr_visits_known(Oid *databases);

/*
 * Take over what was found: databases that can be connected to are made known,
 * those that are known are kept.  false: the table is full.
 */
extern bool tr_visits_learn(const TrFound *found, int count);

/*
 * Free the entry of a database that is gone, and nobody can be connected to.
 */
extern void tr_visits_forget(Oid database);

/*
 * The database that has been due for longest, or will be next; InvalidOid:
 * none.  *when says when.
 */
extern Oid tr_visits_next(TimestampTz now, TimestampTz *when);

/*
 * A worker is about to be registered for this database (slot -1: it was not); it
 * has ended (true: without having reported); it cannot be visited before that time.
 */
extern void tr_visits_started(Oid database, int slot);
extern bool tr_visits_ended(Oid database, TimestampTz now);
extern void tr_visits_put_off(Oid database, TimestampTz not_before);

/*
 * The clock was set back to now from what it had reached: every database is to
 * be told.
 */
extern void tr_visits_clock_set_back(TimestampTz now, TimestampTz reached);

/*
 * How far the clock is behind what it had reached, below what counts as set
 * back; in microseconds.
 */
extern void tr_visits_clock_behind(int64 behind);

/*
 * Does a database have the extension, as far as is known?
 */
extern bool tr_visits_any_installed(void);

#endif /* TR_VISITS_H */
