/*
 * ring.h
 *	  Refusals and replays on their way to the worker, who audits them although
 *	  the caller may roll back.
 *
 * Two stores in shared memory, bounded by token_rotation.ring_size: events
 * whose secret matched are kept one by one; junk (malformed, unknown,
 * bad_secret) is counted by database, event, reason and role, so that no flood
 * of it can hide a proven event.
 */
#ifndef TR_RING_H
#define TR_RING_H

#include "postgres.h"

#include "frame/event.h"

/* The tranche of the two locks, for server/shmem.c to request. */
#define TR_RING_TRANCHE "token_rotation_ring"
#define TR_RING_LOCKS 2

typedef struct TrJunk
{
	Oid database;
	char event[24];
	char reason[24];
	char role[NAMEDATALEN];
	uint64 count;
	TimestampTz first_at;
	TimestampTz last_at;
} TrJunk;

extern Size tr_ring_shmem_size(void);
extern void tr_ring_shmem_init(void);

/*
 * Put a proven event of the current database; asks for a visit.  false: no
 * room; it is then counted as lost unless the caller says that he refuses
 * (count_loss = false).
 */
extern bool tr_ring_put(const TrEvent *event, bool count_loss);

/*
 * Put an event that the worker may have to leave for a while, because what it is
 * about is locked.  At most one of its kind and token waits, and all of its kind
 * take no more than this share of the ring; what does not fit is counted as lost.
 */
#define TR_RING_WAITING_SHARE 8
extern void tr_ring_put_waiting(const TrEvent *event);

/*
 * Count a refusal that proves nothing.
 */
extern void tr_ring_junk(const char *event, const char *reason);

/*
 * For the worker: copy up to max proven events of the current database, oldest
 * first, with the tickets that tr_ring_done() takes to remove them after they
 * were committed.  Returns how many.
 */
extern int tr_ring_peek(TrEvent *events, int *tickets, int max);
extern void tr_ring_done(const int *tickets, int count);

/*
 * Likewise: put these behind all others.
 */
extern void tr_ring_defer(const int *tickets, int count);

/*
 * Likewise for junk; tr_ring_junk_done subtracts what was copied, so that what
 * came meanwhile stays.
 */
extern int tr_ring_junk_peek(TrJunk *junk, int *tickets, int max);
extern void tr_ring_junk_done(const TrJunk *junk, const int *tickets, int count);

/*
 * How many proven events, and how many kinds of junk, wait now; of all databases,
 * for they share the room of token_rotation.ring_size each.
 */
extern void tr_ring_depth(int *proven_events, int *junk);

/*
 * Discard what belongs to a database that is gone; from the launcher.
 */
extern void tr_ring_forget(Oid database);

#endif /* TR_RING_H */
