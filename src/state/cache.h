/*
 * cache.h
 *	  The UNLOGGED table token_cache: live tokens, their usage, and nonces.
 *
 * It may vanish at any moment.  A verb that changes a token locks the token
 * row first and then changes the cache row; since whoever fills the cache locks
 * the token row too, neither can revive what the other ended.  Everything but
 * tr_cache_read is called inside a section, with the token locked.
 */
#ifndef TR_CACHE_H
#define TR_CACHE_H

#include "postgres.h"

#include "utils/snapshot.h"

#include "frame/record.h"

/* What only the cache knows of a token. */
typedef struct TrCached
{
	bool has_nonce;
	uint8 nonce[TR_NONCE_BYTES];
	TimestampTz first_used_at; /* TR_NEVER: not yet */
	TimestampTz last_used_at;
} TrCached;

/*
 * Read what validation needs, under a fresh snapshot of the caller's.  false:
 * not there, which says nothing about the token.
 */
extern bool tr_cache_read(const uint8 *id, Snapshot snapshot, TrToken *token);

/*
 * Lock a row, so that the worker leaves it alone, and read what only it knows.
 */
extern bool tr_cache_lock(const uint8 *id, TrCached *cached);

/*
 * Store a new token.
 */
extern void tr_cache_insert(const TrToken *token);

/*
 * Store the state of a changed token, and the nonce of its rotation (NULL:
 * none, an old one is erased); usage stays.
 */
extern void tr_cache_update(const TrToken *token, const uint8 *nonce);

/*
 * Store the state of a changed token; the nonce of its rotation stays.
 */
extern void tr_cache_update_keeping(const TrToken *token);

/*
 * Remove a token that has ended.
 */
extern void tr_cache_drop(const uint8 *id);

/*
 * Give every row of one realm to another.
 */
extern void tr_cache_set_owner(const char *from, const char *to);

#endif /* TR_CACHE_H */
