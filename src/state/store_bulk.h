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

/*
 * When the newest token of a client was issued; TR_NEVER: it has none.  It lies
 * ahead of the clock where the clock was set back.
 */
extern TimestampTz tr_store_newest_of_client(const char *client_id);

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
