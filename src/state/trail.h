/*
 * trail.h
 *	  Reading the audit trail's rows for the chain of seals, and removing what is
 *	  past its retention.
 *
 * Rows are found by index without SPI, whoever's they are: row security is for
 * people.
 */
#ifndef TR_TRAIL_H
#define TR_TRAIL_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"

#include "core/chain.h"
#include "frame/rows.h"

/* Which rows to pick. */
typedef struct TrPick
{
	TrSegment segment;	 /* of this one */
	const TrXids *after; /* not those that this snapshot shows; NULL: it shows none */
	const TrXids *upto;	 /* those that this one shows; NULL: all */
	int64 above;		 /* of a higher seq */
} TrPick;

/*
 * The seqs of the first max such rows, ascending; *more says whether there are
 * others.  Returns how many.
 */
extern int tr_trail_pick(const TrPick *pick, int64 *seqs, int max, bool *more);

/*
 * When about the oldest row of this segment was written that a snapshot (NULL: one
 * that shows nothing) does not show; TR_FOREVER: there is none.  Looks at one row
 * of each transaction that the snapshot saw in progress and one later one.
 */
extern TimestampTz tr_trail_oldest(int64 segment, const TrXids *after);

/*
 * The segments but this one that have rows, as a list of TrSegment *.
 */
extern List *tr_trail_other_segments(int64 own);

/* A look at rows, one after the other. */
typedef struct TrTrail
{
	TrRows rows;
	MemoryContext context; /* reset with each row */
} TrTrail;

/*
 * Begin to look under a snapshot that the caller keeps registered; hash the row
 * of this number (*at becomes its time), false: there is none; end.
 */
extern void tr_trail_open(TrTrail *trail, Snapshot snapshot);
extern bool tr_trail_hash(TrTrail *trail, int64 seq, uint8 hash[TR_HASH_BYTES], TimestampTz *at);
extern void tr_trail_close(TrTrail *trail);

/*
 * Remove the rows of these numbers; returns how many there were.  The table's
 * triggers and its row security refuse everybody; this goes beneath them.
 */
extern int64 tr_trail_remove(const int64 *seqs, int count);

/*
 * Until when rows were pruned, by the trail's own account; DT_NOBEGIN: it tells
 * of none.  Inside a section.
 */
extern TimestampTz tr_trail_pruned_before(void);

#endif /* TR_TRAIL_H */
