/*
 * upkeep.h
 *	  What the worker does to token_cache: fill, reconcile, erase, flush.
 *
 * Called inside a section, each call within one short transaction of the
 * worker's.  None waits for a row lock: what is locked is left for the next
 * visit.
 */
#ifndef TR_UPKEEP_H
#define TR_UPKEEP_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/token_text.h"
#include "frame/event.h"

/*
 * Does the mark of a complete cache stand?
 */
extern bool tr_upkeep_complete(void);

/*
 * Fill in the live ones of the next max tokens after *cursor (token ids in
 * order; all zero at the start).  Locks each live token FOR SHARE, SKIP LOCKED,
 * and copies the locked version, so that filling cannot revive.  Moves *cursor.
 * Returns how many tokens it looked at, live or not: fewer than max means that
 * the end was reached.  Adds what it had to leave out to *skipped.
 */
extern int tr_upkeep_fill(uint8 cursor[TR_ID_BYTES], int max, int *skipped);

/*
 * Set the mark; take it away, because live tokens are missing.
 */
extern void tr_upkeep_set_complete(void);
extern void tr_upkeep_unset_complete(void);

/*
 * Compare the next max cache rows after *cursor with token and drop those that
 * differ from it or have no live token and no nonce to keep.  Returns how many
 * rows it looked at.
 */
extern int tr_upkeep_reconcile(uint8 cursor[TR_ID_BYTES], int max);

/*
 * The number of the cache's file: TRUNCATE gives it another one.
 */
extern Oid tr_upkeep_cache_file(void);

/*
 * Erase up to max nonces whose replay window has ended, and drop the rows of
 * tokens that have ended too.  Returns how many.
 */
extern int tr_upkeep_erase_nonces(TimestampTz now, int max);

/*
 * Flush usage to token_cache, first uses to token (first_used_at) and, at most
 * hourly, last_used_at.  flushed[i] says whether entry i was stored; entries
 * whose rows are locked by somebody are left for the next visit.
 */
extern void tr_upkeep_flush(const TrUsage *usage, int count, bool *flushed);

/*
 * The earliest end of a replay window that is yet to come; TR_FOREVER: none.
 */
extern TimestampTz tr_upkeep_next_nonce(void);

#endif /* TR_UPKEEP_H */
