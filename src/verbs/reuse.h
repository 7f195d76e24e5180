/*
 * reuse.h
 *	  A token that must be dead is used for rotating.
 */
#ifndef TR_REUSE_H
#define TR_REUSE_H

#include "verbs/rotate.h"

/*
 * A holder's rotation, or its replay, was refused with this reason; the family is
 * locked.  If it is a reuse, do what the policy says, record it and return
 * TR_REUSE; otherwise return the reason.  What was done is done again by the
 * worker if the caller rolls it back.
 */
extern TrReason tr_reuse(TrRotate *rotate, TrReason reason);

/*
 * For the worker: do what was rolled back, and record it, in this transaction.  If
 * the rotation itself was rolled back, too, nothing is left to do.  false: somebody
 * holds the family; try again later.
 */
extern bool tr_reuse_again(TrEvent *event);

/*
 * Register the callbacks; from _PG_init.
 */
extern void tr_reuse_init(void);

#endif /* TR_REUSE_H */
