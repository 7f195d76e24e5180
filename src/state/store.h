/*
 * store.h
 *	  The table token: the durable truth.
 *
 * Locks: every change of a family first locks the family (the row of its first
 * token), then tokens in generation order, and reads under a snapshot taken
 * after the lock.  Everything but tr_store_read is called inside a section.
 */
#ifndef TR_STORE_H
#define TR_STORE_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/snapshot.h"

#include "frame/record.h"

/*
 * Read a token under a fresh snapshot of the caller's.  false: unknown id.
 */
extern bool tr_store_read(const uint8 *id, Snapshot snapshot, TrToken *token);

/*
 * The same, where nothing else is read at that moment.
 */
extern bool tr_store_read_now(const uint8 *id, TrToken *token);

/*
 * Lock a token's family, then the token, waiting where others hold them, and
 * read it.  false: unknown id.
 */
extern bool tr_store_lock(const uint8 *id, TrToken *token);

/*
 * Lock the family of a token that was read, its first token and all live ones,
 * without waiting.  false: somebody holds one.
 */
extern bool tr_store_try_family(const TrToken *token);

/*
 * Lock the successor of a token whose family is locked, and read it.
 */
extern bool tr_store_lock_successor(const TrToken *predecessor, TrToken *successor);

/*
 * Lock a token's family and all its tokens; a list of TrToken * in generation
 * order.  NIL: unknown id.
 */
extern List *tr_store_lock_family(const uint8 *id);

/*
 * Store a new token.
 */
extern void tr_store_insert(const TrToken *token);

/*
 * Store what can change of a locked token: predecessor, status, hashes, the
 * times of refresh, rotation, use and revocation.
 */
extern void tr_store_update(const TrToken *token);

/*
 * When the first token of the family was issued; the family is locked.
 */
extern TimestampTz tr_store_family_birth(const TrToken *token);

/*
 * Up to max live tokens whose window or life has ended, leeway included,
 * oldest first; those that others hold are left out.  realms: only tokens of
 * these (text[]), NULL: of all.  A list of locked TrToken *.
 */
extern List *tr_store_lock_due(TimestampTz now, const TrRules *rules, ArrayType *realms, int max);

/*
 * When the next live token will be due; TR_FOREVER: none is known.
 */
extern TimestampTz tr_store_next_due(TimestampTz now, const TrRules *rules);

#endif /* TR_STORE_H */
