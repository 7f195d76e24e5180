/*
 * cutoff.h
 *	  Weighing cutoffs and blocks: one row that ends any number of tokens.
 *
 * Whoever makes one takes an exclusive lock, then reads the clock, then
 * commits (state/cutoff_store.c).  Whoever makes a token checks again at
 * pre-commit, under a share lock that is held for that moment only
 * (verbs/precommit.c): either the maker sees the cutoff, or the cutoff's clock
 * is read after the token's, and the token falls under it.  So no token
 * escapes, and an idle transaction never delays an emergency.
 *
 * Each backend keeps a copy of the few rows, because every validation asks for
 * them.  cutoff.c says why it is never older than what was acknowledged.
 */
#ifndef TR_CUTOFF_H
#define TR_CUTOFF_H

#include "postgres.h"

#include "utils/snapshot.h"

#include "frame/record.h"

/*
 * Fill life.cutoff and life.blocked of a token from the tables, as of now, and
 * from the setting not_before.  snapshot is a fresh one of the caller's.
 */
extern void tr_cutoff_apply(TrToken *token, Snapshot snapshot);

/*
 * The same, where nothing else is read at that moment.
 */
extern void tr_cutoff_apply_now(TrToken *token);

/*
 * Register the callbacks; from _PG_init.
 */
extern void tr_cutoff_init(void);

#endif /* TR_CUTOFF_H */
