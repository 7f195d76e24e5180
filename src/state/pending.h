/*
 * pending.h
 *	  The table pending: successors whose first use opens the window of their
 *	  predecessor.
 *
 * Called inside a section, by whoever holds the lock of the successor's row, but
 * for tr_pending_find.
 */
#ifndef TR_PENDING_H
#define TR_PENDING_H

#include "postgres.h"

#include "core/token_text.h"
#include "frame/event.h"

/*
 * A new successor waits for its first use; the overlap is in microseconds.
 */
extern void tr_pending_insert(const uint8 *id, const uint8 *predecessor, int64 overlap);

/*
 * Does this successor wait?
 */
extern bool tr_pending_waits(const uint8 *id);

/*
 * Does the successor of this token wait?  Then its id is copied.
 */
extern bool tr_pending_successor(const uint8 *predecessor, uint8 id[TR_ID_BYTES]);

/*
 * This successor waits no longer.  false: it did not.  predecessor and overlap,
 * which may be NULL, get what was stored.
 */
extern bool tr_pending_remove(const uint8 *id, uint8 predecessor[TR_ID_BYTES], int64 *overlap);

/*
 * Which of these usages are of successors that wait?  Returns how many.
 */
extern int tr_pending_find(const TrUsage *usage, int count, bool *waits);

#endif /* TR_PENDING_H */
