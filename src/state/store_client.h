/*
 * store_client.h
 *	  The tokens of one client, one after the other.
 */
#ifndef TR_STORE_CLIENT_H
#define TR_STORE_CLIENT_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/token_text.h"
#include "frame/rows.h"

/* How many rows a walk looks at. */
#define TR_CLIENT_ROWS 2000

/* What a walk tells of a token, as recorded. */
typedef struct TrClientToken
{
	uint8 id[TR_ID_BYTES];
	TimestampTz issued_at;
	TimestampTz last_used_at; /* TR_NEVER: none is recorded */
	bool live;				  /* the cache may know of a later use */
} TrClientToken;

typedef struct TrClientWalk
{
	TrRows rows;
	int left;
} TrClientWalk;

/*
 * Walk along the tokens of a client in one realm, under a fresh snapshot, newest
 * row first.  After TR_CLIENT_ROWS of them it ends.
 */
extern void tr_client_walk_begin(TrClientWalk *walk, const text *client_id, const text *owner);

/*
 * The next token.  false: no more.
 */
extern bool tr_client_walk_next(TrClientWalk *walk, TrClientToken *token);

extern void tr_client_walk_end(TrClientWalk *walk);

#endif /* TR_STORE_CLIENT_H */
