/*
 * presets.c
 *	  What the presets validator, issuer, operator and auditor give: see
 *	  presets.h.
 *
 * A preset is a set of functions and of readable relations.  Functions that
 * change something belong to one preset only, others may to several; therefore
 * taking a preset back leaves what another preset of the same role needs.
 * Which presets a role has is read off the privileges themselves: each preset
 * has a mark that no other gives.  What a role inherits, or has through
 * PUBLIC, does not count.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "frame/catalog.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "verbs/presets.h"

#define VALIDATOR 1
#define ISSUER 2
#define OPERATOR 4
#define AUDITOR 8
#define READERS (ISSUER | OPERATOR | AUDITOR) /* of the view tokens */
#define EVERYBODY (VALIDATOR | READERS)

typedef enum Kind
{
	FUNCTION,		   /* in the schema that the user picked */
	RELATION,		   /* in token_rotation */
	RELATION_FUNCTION, /* likewise, one that reads relations */
	SEQUENCE,		   /* likewise */
	SCHEMA,
	FUNCTIONS_SCHEMA, /* the schema that the user picked */
} Kind;

/* What the presets give. */
static const struct
{
	Kind kind;
	const char *name;
	int presets;
} things[] = {
	{FUNCTION, "tr_validate", VALIDATOR},
	{FUNCTION, "tr_validate_many", VALIDATOR},
	{FUNCTION, "tr_authenticate", VALIDATOR},
	{FUNCTION, "tr_client", VALIDATOR},
	{FUNCTION, "tr_realm", VALIDATOR},
	{FUNCTION, "tr_token_id", VALIDATOR},
	{FUNCTION, "tr_scopes", VALIDATOR},
	{FUNCTION, "tr_has_scope", VALIDATOR},
	{FUNCTION, "tr_require_scope", VALIDATOR},
	{FUNCTION, "tr_introspect", VALIDATOR},
	{FUNCTION, "tr_pre_request", VALIDATOR},
	{FUNCTION, "tr_issue", ISSUER},
	{FUNCTION, "tr_rotate", ISSUER},
	{FUNCTION, "tr_revoke", ISSUER},
	{FUNCTION, "tr_explain_ttl", ISSUER | OPERATOR},
	{FUNCTION, "tr_deliveries", ISSUER},
	{FUNCTION, "tr_rotate_id", OPERATOR},
	{FUNCTION, "tr_rotate_due", OPERATOR},
	{FUNCTION, "tr_schedule", OPERATOR},
	{FUNCTION, "tr_unschedule", OPERATOR},
	{FUNCTION, "tr_schedules", OPERATOR},
	{FUNCTION, "tr_revoke_id", OPERATOR},
	{FUNCTION, "tr_revoke_client", OPERATOR},
	{FUNCTION, "tr_revoke_policy", OPERATOR},
	{FUNCTION, "tr_revoke_before", OPERATOR},
	{FUNCTION, "tr_block_client", OPERATOR},
	{FUNCTION, "tr_extend_overlap", OPERATOR},
	{FUNCTION, "tr_finish_overlap", OPERATOR},
	{FUNCTION, "tr_cancel_rotation", OPERATOR},
	{FUNCTION, "tr_set_delivery_key", OPERATOR},
	{FUNCTION, "tr_drop_delivery_key", OPERATOR},
	{FUNCTION, "tr_report_leak", OPERATOR},
	{FUNCTION, "tr_sweep", OPERATOR},
	{FUNCTION, "tr_prune", OPERATOR},
	{FUNCTION, "tr_events", OPERATOR | AUDITOR},
	{FUNCTION, "tr_ack", OPERATOR | AUDITOR},
	{FUNCTION, "tr_events_head", OPERATOR | AUDITOR},
	{FUNCTION, "tr_audit_verify", AUDITOR},
	{FUNCTION, "tr_audit_head", AUDITOR},
	{FUNCTION, "tr_token_display", READERS},
	{FUNCTION, "tr_effective_status", READERS},
	{RELATION, "tokens", READERS},
	{RELATION, "unclaimed", READERS},
	{RELATION_FUNCTION, "expiring", READERS},
	{RELATION, "consumers", OPERATOR | AUDITOR},
	{RELATION, "schedules", OPERATOR},
	{RELATION, "deliveries", READERS},
	{RELATION, "delivery_key", OPERATOR | AUDITOR},
	{RELATION, "audit", OPERATOR | AUDITOR},
	{RELATION, "audit_seal", AUDITOR},
	{RELATION, "policy", OPERATOR | AUDITOR},
	{RELATION, "risk_rule", OPERATOR | AUDITOR},
	{RELATION, "cutoff", OPERATOR | AUDITOR},
	{RELATION, "blocked_client", OPERATOR | AUDITOR},
	{SEQUENCE, "audit_seq", AUDITOR},
	{SCHEMA, "token_rotation", EVERYBODY},
	{FUNCTIONS_SCHEMA, NULL, EVERYBODY},
};

/* The presets, each with the function that marks it; the auditor's mark is the sequence. */
static const struct
{
	const char *name;
	int preset;
	const char *mark;
} presets[] = {
	{"validator", VALIDATOR, "tr_validate"},
	{"issuer", ISSUER, "tr_issue"},
	{"operator", OPERATOR, "tr_revoke_id"},
	{"auditor", AUDITOR, NULL},
};

int
tr_preset_named(const char *name)
{
	size_t i;

	for (i = 0; i < lengthof(presets); i++)
		if (strcmp(presets[i].name, name) == 0)
			return presets[i].preset;
	tr_raise_value(psprintf("there is no preset \"%s\"", tr_shown(name)),
				   "A preset is a set of privileges that the extension defines.",
				   "The presets are validator, issuer, operator and auditor.");
}

/*
 * The extension's function of this name in a schema, or InvalidOid: the installed
 * SQL version may be one that has it not yet.  Somebody else's function of the
 * same name is passed over.
 */
static Oid
function_in(Oid schema, const char *name)
{
	const TrCatalog *catalog = tr_catalog();
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	Oid found = InvalidOid;
	int i;

	for (i = 0; i < list->n_members; i++)
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (form->pronamespace == schema &&
			getExtensionOfObject(ProcedureRelationId, form->oid) == catalog->extension)
			found = form->oid;
	}
	ReleaseSysCacheList(list);
	return found;
}

/*
 * Likewise in the schema that the user picked.
 */
static Oid
function_of(const char *name)
{
	return function_in(tr_catalog()->functions_schema, name);
}

/*
 * Does an object's ACL give this right to the role itself?
 */
static bool
given(int cache, Oid object, AttrNumber acl_column, Oid role, AclMode right)
{
	HeapTuple tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));
	bool found = false;
	bool isnull;
	Datum value;

	if (!HeapTupleIsValid(tuple))
		return false;
	value = SysCacheGetAttr(cache, tuple, acl_column, &isnull);
	if (!isnull)
	{
		Acl *acl = DatumGetAclP(value);
		int i;

		for (i = 0; i < ACL_NUM(acl); i++)
			if (ACL_DAT(acl)[i].ai_grantee == role &&
				(ACLITEM_GET_PRIVS(ACL_DAT(acl)[i]) & right) != 0)
				found = true;
	}
	ReleaseSysCache(tuple);
	return found;
}

/*
 * The presets that the role has now.
 */
static int
presets_held(Oid role)
{
	int held = 0;
	size_t i;

	for (i = 0; i < lengthof(presets); i++)
	{
		const char *mark = presets[i].mark;

		if (mark != NULL
				? given(PROCOID, function_of(mark), Anum_pg_proc_proacl, role, ACL_EXECUTE)
				: given(RELOID, tr_catalog()->audit_seq, Anum_pg_class_relacl, role, ACL_SELECT))
			held |= presets[i].preset;
	}
	return held;
}

bool
tr_preset_any(Oid role)
{
	return presets_held(role) != 0;
}

/*
 * The only place where the extension runs SQL that it has built: its parts are
 * keywords of this folder and names that the server has quoted.  The level of
 * messages is put back by the section's end: that a call repeats another one is no
 * news.
 */
void
tr_grant_run(bool give, const char *what, const char *role, const char *options)
{
	StringInfoData sql;
	int code;

	if (client_min_messages < WARNING)
		set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
						  GUC_ACTION_SAVE, true, 0, false);
	initStringInfo(&sql);
	appendStringInfo(&sql, give ? "GRANT %s TO %s%s" : "REVOKE %s FROM %s%s", what,
					 quote_identifier(role), options);
	code = SPI_execute(sql.data, false, 0);
	if (code < 0)
		elog(ERROR, "could not run \"%s\": %s", sql.data, SPI_result_code_string(code));
}

/*
 * May USAGE on the functions' schema be taken back?  Where the user has put
 * other things into it the role may need it for those, and nobody knows who
 * gave it.
 */
static bool
schema_is_ours(Oid schema)
{
	static TrSql sql = {
		.text = "SELECT 1 FROM pg_catalog.pg_depend d"
				" WHERE d.refclassid OPERATOR(pg_catalog.=)"
				" 'pg_catalog.pg_namespace'::pg_catalog.regclass"
				" AND d.refobjid OPERATOR(pg_catalog.=) $1"
				" AND d.deptype OPERATOR(pg_catalog.=) 'n'"
				" AND d.classid OPERATOR(pg_catalog.<>)"
				" 'pg_catalog.pg_extension'::pg_catalog.regclass"
				" AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e"
				" WHERE e.classid OPERATOR(pg_catalog.=) d.classid"
				" AND e.objid OPERATOR(pg_catalog.=) d.objid"
				" AND e.deptype OPERATOR(pg_catalog.=) 'e')"
				" LIMIT 1",
		.nargs = 1,
		.types = {OIDOID},
	};
	Datum value = ObjectIdGetDatum(schema);
	const char *name = get_namespace_name(schema);

	if (strcmp(name, "public") == 0 || strcmp(name, "pg_catalog") == 0)
		return false;
	return tr_sql_run(&sql, &value, NULL) == 0;
}

/*
 * Has everybody USAGE on this schema?  As on public, unless it was revoked.
 */
static bool
schema_is_open(Oid schema)
{
	return given(NAMESPACEOID, schema, Anum_pg_namespace_nspacl, ACL_ID_PUBLIC, ACL_USAGE);
}

/*
 * What to give or take back, as GRANT and REVOKE say it; NULL: leave it.
 */
static const char *
words_for(bool give, Kind kind, const char *name)
{
	Oid schema = tr_catalog()->functions_schema;
	Oid function;

	switch (kind)
	{
		case FUNCTION:
		case RELATION_FUNCTION:
			function = function_in(
				kind == FUNCTION ? schema : get_namespace_oid("token_rotation", false), name);
			return !OidIsValid(function)
					   ? NULL
					   : psprintf("EXECUTE ON FUNCTION %s", format_procedure_qualified(function));
		case RELATION:
			/* likewise, the installed version may not have it yet */
			return !OidIsValid(get_relname_relid(name, get_namespace_oid("token_rotation", false)))
					   ? NULL
					   : psprintf("SELECT ON TABLE token_rotation.%s", name);
		case SEQUENCE:
			return psprintf("SELECT ON SEQUENCE token_rotation.%s", name);
		case SCHEMA:
			return psprintf("USAGE ON SCHEMA %s", name);
		case FUNCTIONS_SCHEMA:
			return (give ? schema_is_open(schema) : !schema_is_ours(schema))
					   ? NULL
					   : psprintf("USAGE ON SCHEMA %s",
								  quote_identifier(get_namespace_name(schema)));
	}
	return NULL;
}

/*
 * The owner's rights are not the extension's to give or take.
 */
void
tr_preset_change(bool give, int preset, const char *role_name, Oid role)
{
	int kept = give ? 0 : presets_held(role) & ~preset;
	size_t i;

	if (role == tr_catalog()->owner)
		return;
	for (i = 0; i < lengthof(things); i++)
	{
		const char *words = NULL;

		if ((things[i].presets & preset) != 0 && (things[i].presets & kept) == 0)
			words = words_for(give, things[i].kind, things[i].name);
		if (words != NULL)
			tr_grant_run(give, words, role_name, "");
	}
}
