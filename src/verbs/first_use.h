/*
 * first_use.h
 *	  The first use of a successor that was pending: it opens the window of its
 *	  predecessor.
 */
#ifndef TR_FIRST_USE_H
#define TR_FIRST_USE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/token_text.h"

/*
 * This token was used at that moment; its family is locked.  If it was pending, it
 * is no longer, and the window of its predecessor, where that is still rotating,
 * ends after the overlap that the rotation noted.
 */
extern void tr_first_use(const uint8 *id, TimestampTz at);

/*
 * The same for the worker, which locks the family without waiting.  false:
 * somebody holds it; try again later.
 */
extern bool tr_first_use_try(const uint8 *id, TimestampTz at);

#endif /* TR_FIRST_USE_H */
