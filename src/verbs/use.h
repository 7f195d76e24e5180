/*
 * use.h
 *	  That a token was accepted.
 */
#ifndef TR_USE_H
#define TR_USE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "frame/record.h"

/*
 * Count an acceptance: now, or when this transaction ends, if it may have made
 * the token.
 */
extern void tr_use_note(const TrToken *token, TimestampTz now);

/*
 * Was it accepted, as far as the worker has not stored yet, here or elsewhere?
 */
extern bool tr_use_seen(const uint8 token[TR_ID_BYTES]);

/*
 * Register the callback; from _PG_init.
 */
extern void tr_use_init(void);

#endif /* TR_USE_H */
