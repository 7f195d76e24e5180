/*
 * store_bulk.h
 *	  Statements over many rows of token, which need no record of each.
 *
 * Called inside a section.
 */
#ifndef TR_STORE_BULK_H
#define TR_STORE_BULK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#include "core/token_text.h"

/*
 * When the newest token of a client was issued; TR_NEVER: it has none.  It lies
 * ahead of the clock where the clock was set back.
 */
extern TimestampTz tr_store_newest_of_client(const char *client_id);

/*
 * The id of a token's successor, and whether the table knows that it was used or
 * rotated.  false: it has none.
 */
extern bool tr_store_find_successor(const uint8 *id, uint8 successor[TR_ID_BYTES], bool *used);

/*
 * The oldest end, of an overlap window or a life, that lies before this moment
 * and is not recorded; TR_FOREVER: none.  enforced: do overlap windows end?
 */
extern TimestampTz tr_store_oldest_end(TimestampTz before, bool enforced);

/* A token that should be rotated. */
typedef struct TrDueToken
{
	uint8 id[TR_ID_BYTES];
	TimestampTz due; /* since when */
	bool locked;	 /* false: somebody else has it */
} TrDueToken;

/*
 * Find up to max active tokens whose refresh_at or whose policy's rotate_after has
 * passed, oldest first, and lock those that nobody else holds.  policy: only its
 * tokens, NULL: of all; realms: likewise.  after: only those that come after this
 * one, which begins with {{0}, TR_NEVER} and becomes the last one.  A list of
 * TrDueToken *, which is NIL when no more can be had.
 */
extern List *tr_store_lock_refreshable(TimestampTz now, const char *policy, ArrayType *realms,
									   int max, TrDueToken *after);

/*
 * Delete families that ended wholly before a moment, oldest first, about max
 * tokens; returns the ids of the tokens.
 */
extern List *tr_store_prune(TimestampTz before, ArrayType *realms, int max);

/*
 * Give every token of one realm to another; returns how many.
 */
extern int64 tr_store_set_owner(const char *from, const char *to);

#endif /* TR_STORE_BULK_H */
