/*
 * cutoff_store.h
 *	  Writing cutoffs and blocks; cutoff.h has the protocol, and a trigger on
 *	  both tables tells it of every change.
 *
 * Called inside a section.
 */
#ifndef TR_CUTOFF_STORE_H
#define TR_CUTOFF_STORE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* The column kind. */
#define TR_CUTOFF_CLIENT "client"
#define TR_CUTOFF_POLICY "policy"
#define TR_CUTOFF_ALL "all"

/*
 * Take the exclusive lock, until the end of the transaction.
 */
extern void tr_cutoff_lock(void);

/*
 * Store a cutoff for each of the realms (a list of char *, NIL: one row for
 * every realm) unless a later one stands.  Returns the cutoff in force, the
 * earliest where they differ.  reason may be NULL.
 */
extern TimestampTz tr_cutoff_raise(const char *kind, const char *subject, List *realms,
								   TimestampTz before, TimestampTz at, const char *reason);

/*
 * Block a client in these realms, or unblock it (NIL: in every realm).
 * Returns whether that changed something.
 */
extern bool tr_cutoff_block(const char *client_id, List *realms, TimestampTz at);
extern bool tr_cutoff_unblock(const char *client_id, List *realms);

/*
 * Let what speaks for one realm speak for another, too.  The old rows stay: a
 * token that is being issued in the old realm must not slip through.
 */
extern void tr_cutoff_copy(const char *from, const char *to);

#endif /* TR_CUTOFF_STORE_H */
