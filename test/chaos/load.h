/*
 * load.h
 *	  What the sessions of the chaos tests' client do: validate.c, change.c.
 */
#ifndef TR_LOAD_H
#define TR_LOAD_H

#include "session.h"

/*
 * A token to look at or to change: one that was touched a moment ago, a recent
 * one or any; TR_NOBODY while there is none.
 */
extern uint32_t tr_pick(TrSession *session);

/* Let validators look at this token now, because something happens to it. */
extern void tr_point_at(uint32_t token);

/* How many of them there were; and the token of one. */
extern unsigned tr_pointed(void);
extern uint32_t tr_pointed_at(unsigned n);

/* A transaction of validations, or a while of autocommitted ones. */
extern void tr_validate_some(TrSession *session);

/* Validate these tokens at once. */
extern void tr_validate_these(TrSession *session, const uint32_t *tokens, int count, TrLevel level);

/* One change, in a transaction of any kind. */
extern void tr_change_something(TrSession *session);

/* Ask for the rotation of this token, autocommitted; NULL overlap: the policy's. */
extern void tr_ask_rotation(TrSession *session, uint32_t token);

#endif
