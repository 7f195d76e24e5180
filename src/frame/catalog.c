/*
 * catalog.c
 *	  Where the extension's objects are in this database: see catalog.h.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_sequence.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "frame/catalog.h"
#include "frame/visits.h"

/* The SQL version that this library serves, and the one before it. */
#define SERVED_VERSION TR_VERSION
#define SERVED_BEFORE "0.4"

static TrCatalog catalog;
static bool catalog_known = false;
static bool callbacks_registered = false;

/*
 * Something of ours may have been dropped, made again or given away.
 */
static void
forget_relation(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == catalog.policy || relation == catalog.token ||
		relation == catalog.cache || relation == catalog.audit)
		catalog_known = false;
}

/*
 * A role may have been dropped or made.
 */
static void
forget_role(Datum arg, int cacheid, uint32 hashvalue)
{
	catalog_known = false;
}

/*
 * Read oid, schema and version of the extension.  false: it is not installed.
 * The version is copied into a buffer of NAMEDATALEN bytes.
 */
static bool
read_extension(Oid *extension, Oid *schema, char *version)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("token_rotation"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		bool isnull;
		Datum value =
			heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		*extension = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
		strlcpy(version, isnull ? "" : TextDatumGetCString(value), NAMEDATALEN);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * May a database with this SQL version be worked in?  The version before is
 * served, too, because the package is replaced before ALTER EXTENSION UPDATE can
 * be run.
 */
static bool
is_served(const char *version)
{
	return strcmp(version, SERVED_VERSION) == 0 || strcmp(version, SERVED_BEFORE) == 0;
}

/*
 * The oid of a relation of ours; XX001 where it is missing.
 */
static Oid
relation_of(Oid schema, const char *name)
{
	Oid relation = get_relname_relid(name, schema);

	if (!OidIsValid(relation))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation token_rotation.%s is missing", name),
						errdetail("The extension is installed, but not whole."),
						errhint("Install it again and restore its tables from a backup.")));
	return relation;
}

/*
 * The owner of a relation.
 */
static Oid
owner_of(Oid relation)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relation);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * The number that a sequence was made to start with.
 */
static int64
start_of(Oid sequence)
{
	HeapTuple tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	int64 start;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", sequence);
	start = ((Form_pg_sequence) GETSTRUCT(tuple))->seqstart;
	ReleaseSysCache(tuple);
	return start;
}

/*
 * Raise what is wrong with the installation.
 */
static void
require_installation(Oid *extension, Oid *schema)
{
	char version[NAMEDATALEN];

	if (!tr_visits_ready())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("token_rotation is not preloaded"),
						errdetail("The library keeps state in shared memory and runs a worker."),
						errhint("Add this line to postgresql.conf and restart the server: "
								"shared_preload_libraries = 'token_rotation'")));
	if (!read_extension(extension, schema, version))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("extension token_rotation is not installed in this database"),
						errdetail("Its functions were called without it."),
						errhint("Run CREATE EXTENSION token_rotation CASCADE.")));
	if (!is_served(version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the library does not serve version %s of the extension", version),
				 errdetail("It serves versions %s and %s.", SERVED_BEFORE, SERVED_VERSION),
				 errhint("Run ALTER EXTENSION token_rotation UPDATE, or restart the server if "
						 "the package was just replaced.")));
}

/*
 * Look everything up.
 */
static void
fill(TrCatalog *c)
{
	Oid schema;

	require_installation(&c->extension, &c->functions_schema);
	schema = get_namespace_oid("token_rotation", false);
	c->policy = relation_of(schema, "policy");
	c->policy_pkey = relation_of(schema, "policy_pkey");
	c->policy_on_reuse = get_attnum(c->policy, "on_reuse");
	c->policy_rotate_after = get_attnum(c->policy, "rotate_after");
	c->policy_overlap_starts = get_attnum(c->policy, "overlap_starts");
	c->policy_min_ttl = get_attnum(c->policy, "min_ttl");
	c->risk_rule = relation_of(schema, "risk_rule");
	c->risk_rule_pkey = relation_of(schema, "risk_rule_pkey");
	c->policy_degraded_scopes = get_attnum(c->policy, "degraded_scopes");
	c->policy_delivery = get_attnum(c->policy, "delivery");
	c->policy_request_role = get_attnum(c->policy, "request_role");
	c->token = relation_of(schema, "token");
	c->token_pkey = relation_of(schema, "token_pkey");
	c->token_family = relation_of(schema, "token_family");
	c->token_client = relation_of(schema, "token_client");
	c->cache = relation_of(schema, "token_cache");
	c->cache_pkey = relation_of(schema, "token_cache_pkey");
	c->cutoff = relation_of(schema, "cutoff");
	c->cutoff_pkey = relation_of(schema, "cutoff_pkey");
	c->blocked = relation_of(schema, "blocked_client");
	c->blocked_pkey = relation_of(schema, "blocked_client_pkey");
	c->audit = relation_of(schema, "audit");
	c->audit_pkey = relation_of(schema, "audit_pkey");
	c->audit_seq = relation_of(schema, "audit_seq");
	c->audit_segment = relation_of(schema, "audit_segment");
	c->audit_history = relation_of(schema, "audit_history");
	c->audit_seal = relation_of(schema, "audit_seal");
	c->audit_seal_pkey = relation_of(schema, "audit_seal_pkey");
	c->audit_sink = relation_of(schema, "audit_sink");
	c->delivery_key = relation_of(schema, "delivery_key");
	c->segment = start_of(c->audit_seq);
	c->token_key_id = get_attnum(c->token, "key_id");
	c->cache_key_id = get_attnum(c->cache, "key_id");
	c->cache_family_id = get_attnum(c->cache, "family_id");
	c->cache_rotation_key = get_attnum(c->cache, "rotation_key");
	c->segment_of_audit = get_attnum(c->audit, "segment");
	c->owner = owner_of(c->token);
	c->worker = get_role_oid(TR_WORKER_ROLE, true);
}

const TrCatalog *
tr_catalog(void)
{
	if (!catalog_known)
	{
		if (!callbacks_registered)
		{
			CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
			CacheRegisterSyscacheCallback(AUTHOID, forget_role, (Datum) 0);
			callbacks_registered = true;
		}
		fill(&catalog);
		catalog_known = true;
	}
	return &catalog;
}

bool
tr_catalog_installed(bool *not_served)
{
	Oid extension;
	Oid schema;
	char version[NAMEDATALEN];
	bool found = read_extension(&extension, &schema, version);
	bool served = found && is_served(version);

	*not_served = found && !served;
	return served;
}
