/*
 * catalog.h
 *	  Where the extension's objects are in this database.
 *
 * Looked up once a session and again after an invalidation, so that the hot
 * path pays a pointer.
 */
#ifndef TR_CATALOG_H
#define TR_CATALOG_H

#include "postgres.h"

#include "access/attnum.h"

/*
 * What 0.5 brought is InvalidAttrNumber until the update has made it, within its
 * script, too: the version in pg_extension changes before that runs.
 */
typedef struct TrCatalog
{
	Oid extension;
	Oid functions_schema; /* the schema that the user picked for the functions */
	Oid owner;			  /* owner of the tables: whose rights the extension's code uses */
	Oid worker;			  /* the role token_rotation_worker; InvalidOid: renamed or dropped */
	Oid policy;
	Oid policy_pkey;
	Oid risk_rule;
	Oid risk_rule_pkey;
	Oid token;
	Oid token_pkey;
	Oid token_family;
	Oid token_client;
	Oid cache;
	Oid cache_pkey;
	Oid cutoff;
	Oid cutoff_pkey;
	Oid blocked;
	Oid blocked_pkey;
	Oid audit;
	Oid audit_pkey;
	Oid audit_seq;
	Oid audit_segment;
	Oid audit_history;
	Oid audit_seal;
	Oid audit_seal_pkey;
	Oid audit_sink;
	Oid delivery_key;
	int64 segment; /* this installation's number in the audit trail */

	/* Added after 0.1, behind any column that a DBA had. */
	AttrNumber policy_on_reuse;
	AttrNumber token_key_id;
	AttrNumber cache_key_id;
	AttrNumber cache_family_id;
	AttrNumber cache_rotation_key;
	AttrNumber segment_of_audit;
	AttrNumber policy_rotate_after;
	AttrNumber policy_overlap_starts;
	AttrNumber policy_min_ttl;
	AttrNumber policy_degraded_scopes;
	AttrNumber policy_delivery;

	/* Added by 0.5, likewise. */
	AttrNumber policy_request_role;
} TrCatalog;

/*
 * The objects of this database.  Raises 55000 where the library is not
 * preloaded, where the extension is not installed, and where the installed SQL
 * version is none that this library serves.
 */
extern const TrCatalog *tr_catalog(void);

/*
 * Is the extension installed here?  Never raises; for the worker.  *not_served: it
 * is, but in a version that this library does not serve.
 */
extern bool tr_catalog_installed(bool *not_served);

/* The role that the audit trail is written as. */
#define TR_WORKER_ROLE "token_rotation_worker"

#endif /* TR_CATALOG_H */
