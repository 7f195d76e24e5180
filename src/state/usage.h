/*
 * usage.h
 *	  Acceptances counted in shared memory, because validation writes nothing.
 *
 * One entry a database and token, bounded by token_rotation.usage_size; the
 * worker flushes them to token_cache and, first uses, to token.
 */
#ifndef TR_USAGE_H
#define TR_USAGE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "frame/event.h"

/* The tranche of the partitions' locks, for server/shmem.c to request. */
#define TR_USAGE_TRANCHE "token_rotation_usage"
#define TR_USAGE_PARTITIONS 64

/* For how many naps of the worker the acceptances of a busy token are gathered, for a
 * minute at most. */
#define TR_USAGE_NAPS 6

extern Size tr_usage_shmem_size(void);
extern void tr_usage_shmem_init(void);

/*
 * Count acceptances of a token of the current database.  first says that its
 * record knows of no use yet: the worker is asked to come at once, so that the
 * first use is stored.  No room: counted as lost.
 */
extern void tr_usage_add(const TrUsage *usage, bool first);

/*
 * Was it accepted since the last flush?
 */
extern bool tr_usage_seen(const uint8 token[TR_ID_BYTES]);

/*
 * For the worker: copy up to max entries of the current database with their
 * tickets; tr_usage_done subtracts what was copied and frees entries that
 * nothing was added to meanwhile.  First uses are there at once; others, so that
 * a busy token is not written at each visit, after TR_USAGE_NAPS or a minute, or where
 * acceptances are audited after half a worker_nap.
 */
extern int tr_usage_peek(TrUsage *usage, int *tickets, int max);
extern void tr_usage_done(const TrUsage *usage, const int *tickets, int count);

/*
 * How many tokens' acceptances wait now, of all databases, and for how many there
 * is room.
 */
extern int tr_usage_depth(int *room);

/*
 * Discard what belongs to a database that is gone; from the launcher.
 */
extern void tr_usage_forget(Oid database);

#endif /* TR_USAGE_H */
