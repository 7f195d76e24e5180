/*
 * seal.h
 *	  Sealing the audit trail: for the worker, and what verification needs of it.
 */
#ifndef TR_VERBS_SEAL_H
#define TR_VERBS_SEAL_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "state/seal.h"
#include "state/trail.h"

/*
 * Make one seal, over at most max rows, where rows are waiting for it and the
 * last one is half a nap old.  Called inside a section, in a short transaction that
 * has written nothing; all of it is stored or nothing.  *more says that the next
 * call has to go on at once; *next becomes the time when it is worth another
 * one, TR_FOREVER: a nap later.  Returns how many rows were sealed.
 */
extern int tr_seal_run(int max, bool *more, TimestampTz *next);

/*
 * Since when, at the latest, rows of this installation have been waiting for a
 * seal; TR_FOREVER: none is.  Called inside a section, also on a standby.
 */
extern TimestampTz tr_seal_waiting_since(void);

/*
 * The hash of a seal; the hash of its list.
 */
extern void tr_seal_hash(const TrSeal *seal, uint8 hash[TR_HASH_BYTES]);
extern void tr_seal_list_hash(const TrSeal *seal, uint8 hash[TR_HASH_BYTES]);

/* What can be wrong with what a seal lists. */
typedef enum TrListFault
{
	TR_LIST_GOOD,
	TR_LIST_CHANGED, /* the list is not what was sealed */
	TR_LIST_ROW_MISSING,
	TR_LIST_ROW_CHANGED,
} TrListFault;

/*
 * Check the list of a seal that has one, and the rows on it, up to the first
 * fault: *checked becomes the number of rows that are good, which is the place of
 * the row at fault, too.
 */
extern TrListFault tr_seal_check_list(const TrSeal *seal, TrTrail *trail, int64 *checked);

#endif /* TR_VERBS_SEAL_H */
