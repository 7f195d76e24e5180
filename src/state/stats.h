/*
 * stats.h
 *	  Cumulative counters in shared memory: what the view tr_stat shows.
 *
 * Counted by database, policy and TrStat.  What a call answered counts at once,
 * also where its transaction is rolled back; what a transaction changed counts
 * when it has committed.  A session takes a lock only when it meets a policy for
 * the first time, or more of them than it can keep in mind.
 *
 * Bounded: policies that come when there is no more room are counted together,
 * as TR_STATS_OTHER.  No policy is known of a token whose secret did not match,
 * and what the worker does has none: those have the policy "".
 */
#ifndef TR_STATS_H
#define TR_STATS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "frame/stat.h"

/* The tranche of the table's lock, for server/shmem.c to request. */
#define TR_STATS_TRANCHE "token_rotation_stats"

/* What no policy can be called. */
#define TR_STATS_OTHER "(other)"

/* The counters of one policy in one database. */
typedef struct TrCounters TrCounters;

/* What they had come to. */
typedef struct TrTally
{
	Oid database;
	char policy[NAMEDATALEN];
	TimestampTz reset_at; /* since when the database's are counted */
	uint64 counts[TR_STAT_COUNT];
} TrTally;

extern Size tr_stats_shmem_size(void);
extern void tr_stats_shmem_init(void);

/*
 * The counters of a policy in the current database; NULL: of none.  They stay
 * where they are while somebody is connected to the database.  Answers NULL
 * where the library is not preloaded or nothing has room any more, which
 * tr_stats_add takes.
 */
extern TrCounters *tr_stats_of(const text *policy);

/*
 * Those without a policy of any database; for the launcher.
 */
extern TrCounters *tr_stats_of_database(Oid database);

/*
 * Count, at once.  Never raises.
 */
extern void tr_stats_add(TrCounters *counters, TrStat stat, uint64 n);

/*
 * Count one when this transaction has committed, and not at all where it or the
 * subtransaction is rolled back.
 */
extern void tr_stats_at_commit(const text *policy, TrStat stat);

/*
 * Copy up to max tallies of a database; InvalidOid: of all.  Returns how many
 * there are.
 */
extern int tr_stats_read(Oid database, TrTally *tallies, int max);

/*
 * Put back what a tally says, at the start of the server.  false: no room.
 */
extern bool tr_stats_restore(const TrTally *tally);

/*
 * Begin again at 0 in the current database.
 */
extern void tr_stats_reset(void);

/*
 * Was something of this database counted as TR_STATS_OTHER, or not at all?
 */
extern bool tr_stats_full(void);

/*
 * Forget a database that is gone; from the launcher.
 */
extern void tr_stats_forget(Oid database);

/*
 * Register the callbacks; from _PG_init.
 */
extern void tr_stats_init(void);

#endif /* TR_STATS_H */
