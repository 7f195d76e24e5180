/*
 * policy.h
 *	  Named rules for a kind of token.
 */
#ifndef TR_POLICY_H
#define TR_POLICY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/snapshot.h"

#include "core/token_text.h"

/* What the reuse of a token ends. */
typedef enum TrOnReuse
{
	TR_REUSE_AUDIT,		/* nothing: it is recorded */
	TR_REUSE_SUCCESSOR, /* everything that was made from the token */
	TR_REUSE_FAMILY,
} TrOnReuse;

/* A policy as read; intervals in microseconds. */
typedef struct TrPolicy
{
	char name[NAMEDATALEN];
	char prefix[TR_PREFIX_MAX + 1];
	int64 ttl;
	int64 min_ttl; /* what risk leaves of it; PG_INT64_MAX: all */
	int64 overlap;
	int64 replay_window;
	int64 refresh_before;
	int64 max_family_age; /* PG_INT64_MAX: no bound */
	int64 rotate_after;	  /* likewise */
	bool needs_rotation_key;
	ArrayType *allowed_scopes; /* NULL: any */
	TrOnReuse on_reuse;
	bool first_use; /* the overlap starts at the successor's first use */
	bool sealed;	/* successors that the server makes are delivered */
} TrPolicy;

/*
 * Read a policy under a fresh snapshot.  false: there is none of this name.
 */
extern bool tr_policy_read(const char *name, TrPolicy *policy);

/*
 * How long a window lasts that the server opens: long enough for whoever comes at
 * refresh_at.
 */
extern int64 tr_policy_started(const TrPolicy *policy);

/*
 * Of these scopes (text[] without NULLs), is each one allowed?
 */
extern bool tr_policy_allows(const TrPolicy *policy, ArrayType *scopes);

/*
 * Those of the scopes that are allowed, in their order.
 */
extern ArrayType *tr_policy_allowed(const TrPolicy *policy, ArrayType *scopes);

/*
 * What a token of this policy may still do in degraded mode: on a standby, and
 * while the circuit is open.  Takes away from its scopes what is not among the
 * policy's degraded_scopes, read under the caller's fresh snapshot.  false: the
 * policy says nothing of that, and they stay; or it is gone, and none do.
 */
extern bool tr_policy_degrade(const text *name, Snapshot snapshot, Datum *scopes);

/*
 * The role that a request with a token of this policy acts as, under a fresh
 * snapshot.  false: the policy names none.
 */
extern bool tr_policy_request_role(const text *name, char role[NAMEDATALEN]);

#endif /* TR_POLICY_H */
