/*
 * precommit.h
 *	  The last look at the cutoffs before a new token commits.
 *
 * The second half of the protocol in state/cutoff.h.
 */
#ifndef TR_PRECOMMIT_H
#define TR_PRECOMMIT_H

#include "postgres.h"

#include "frame/record.h"

/*
 * Check again at pre-commit what this token (the predecessor of a rotation, or
 * a token just issued) falls under; the commit fails with 55000 if it does.
 */
extern void tr_precommit_check(const TrToken *token);

/*
 * Register the callbacks; from _PG_init.
 */
extern void tr_precommit_init(void);

#endif /* TR_PRECOMMIT_H */
