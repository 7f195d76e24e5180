/*
 * caller.c
 *	  Who called, what he may see, and whose rights the code uses meanwhile: see
 *	  caller.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "tcop/cmdtag.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/portal.h"
#include "utils/rls.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/settings.h"
#include "frame/sql.h"
#include "frame/verdict.h"

#define PINNED_SEARCH_PATH "pg_catalog, pg_temp"

/* Sections nest only when a trigger that a DBA added calls a verb. */
#define MAX_DEPTH 8

static int depth = 0;
static int levels[MAX_DEPTH]; /* transaction nest level of each section */
static Oid section_caller = InvalidOid;

/*
 * Forget the sections that began at this transaction nest level or deeper.
 */
static void
forget_sections(int level)
{
	while (depth > 0 && levels[depth - 1] >= level)
		depth--;
	if (depth == 0)
		section_caller = InvalidOid;
}

/*
 * The end of a transaction ends all sections.
 */
static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT)
		forget_sections(0);
}

/*
 * The abort of a subtransaction ends those within it.
 */
static void
at_subabort(SubXactEvent event, SubTransactionId self, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_sections(GetCurrentTransactionNestLevel());
}

/*
 * Pin what the caller may have set and our statements depend on.
 */
static void
pin_settings(void)
{
	if (strcmp(namespace_search_path, PINNED_SEARCH_PATH) != 0)
		set_config_option("search_path", PINNED_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
						  GUC_ACTION_SAVE, true, 0, false);
	/* a full tablespace of the caller's is not for our statements to run into */
	if (*temp_tablespaces != '\0')
		set_config_option("temp_tablespaces", "", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
						  0, false);
	if (!row_security)
		set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
						  0, false);
}

void
tr_section_begin(TrSection *section)
{
	static bool registered = false;
	const TrCatalog *catalog = tr_catalog();

	if (!registered)
	{
		RegisterXactCallback(at_end, NULL);
		RegisterSubXactCallback(at_subabort, NULL);
		registered = true;
	}
	if (depth == MAX_DEPTH)
		ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
						errmsg("token functions call each other too deeply"),
						errhint("Check the triggers on the tables of token_rotation.")));

	GetUserIdAndSecContext(&section->user, &section->security);
	if (depth == 0)
		section_caller = section->user;
	levels[depth++] = GetCurrentTransactionNestLevel();
	section->guc_level = NewGUCNestLevel();
	pin_settings();
	SetUserIdAndSecContext(catalog->owner, section->security | SECURITY_LOCAL_USERID_CHANGE);
	section->context = CurrentMemoryContext;
	SPI_connect();
	MemoryContextSwitchTo(section->context);
}

void
tr_section_end(TrSection *section)
{
	SPI_finish();
	MemoryContextSwitchTo(section->context);
	SetUserIdAndSecContext(section->user, section->security);
	AtEOXact_GUC(true, section->guc_level);
	if (--depth == 0)
		section_caller = InvalidOid;
}

bool
tr_section_active(void)
{
	return depth > 0;
}

Oid
tr_caller(void)
{
	return depth > 0 ? section_caller : GetUserId();
}

void
tr_require_owner(const char *verb)
{
	if (tr_caller() != tr_catalog()->owner && !superuser_arg(tr_caller()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for %s", verb),
				 errdetail("It is for the extension's owner and superusers."),
				 errhint("Ask the owner of the extension token_rotation to do it.")));
}

/*
 * Change the user for the statements of a section.
 */
static void
act_as(Oid role)
{
	Oid user;
	int security;

	Assert(depth > 0);
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(role, security);
}

void
tr_act_as(Oid role)
{
	act_as(role);
}

void
tr_act_as_owner(void)
{
	act_as(tr_catalog()->owner);
}

bool
tr_realm_visible(const text *owner)
{
	Oid caller = tr_caller();
	size_t len = VARSIZE_ANY_EXHDR(owner);
	char name[NAMEDATALEN];
	Oid role;

	if (superuser_arg(caller))
		return true;
	if (len >= NAMEDATALEN)
		return false;
	memcpy(name, VARDATA_ANY(owner), len);
	name[len] = '\0';
	role = get_role_oid(name, true);
	return OidIsValid(role) && has_privs_of_role(caller, role);
}

/*
 * The setting token_rotation.realm, checked; NULL when it is empty.
 */
static char *
realm_setting(void)
{
	Oid role;

	if (tr_realm == NULL || *tr_realm == '\0')
		return NULL;
	role = get_role_oid(tr_realm, true);
	if (!OidIsValid(role))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("realm \"%s\" does not exist", tr_shown(tr_realm)),
						errdetail("The setting token_rotation.realm names no role."),
						errhint("Create the role, or reset token_rotation.realm.")));
	if (!has_privs_of_role(tr_caller(), role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for realm \"%s\"", tr_realm),
						errdetail("Role \"%s\" is not a member of it.",
								  GetUserNameFromId(tr_caller(), false)),
						errhint("Give the membership with tr_grant, or reset "
								"token_rotation.realm.")));
	return pstrdup(tr_realm);
}

char *
tr_realm_of_caller(void)
{
	char *realm = realm_setting();

	return realm != NULL ? realm : GetUserNameFromId(tr_caller(), false);
}

List *
tr_realms_of_caller(void)
{
	static TrSql sql = {
		.text = "SELECT r.rolname FROM pg_catalog.pg_roles r"
				" WHERE pg_catalog.pg_has_role($1, r.oid, 'USAGE')",
		.nargs = 1,
		.types = {OIDOID},
	};
	char *realm = realm_setting();
	Datum caller = ObjectIdGetDatum(tr_caller());
	List *realms = NIL;
	uint64 count;
	uint64 i;
	bool isnull;

	if (realm != NULL)
		return list_make1(realm);
	if (superuser_arg(tr_caller()))
		return NIL;
	count = tr_sql_run(&sql, &caller, NULL);
	for (i = 0; i < count; i++)
		realms = lappend(realms, pstrdup(NameStr(*DatumGetName(tr_sql_value(i, 1, &isnull)))));
	return realms;
}

ArrayType *
tr_realm_array_of_caller(void)
{
	List *realms = tr_realms_of_caller();
	Datum *names;
	ListCell *cell;
	int n = 0;

	if (realms == NIL)
		return NULL;
	names = palloc(sizeof(Datum) * list_length(realms));
	foreach (cell, realms)
		names[n++] = CStringGetTextDatum(lfirst(cell));
	return construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT);
}

ArrayType *
tr_realms_readable(void)
{
	static TrSql sql = {
		.text = "SELECT (SELECT pg_catalog.bool_or(a.grantee OPERATOR(pg_catalog.=) 0"
				" OR pg_catalog.pg_has_role($1, a.grantee, 'USAGE')) FROM pg_catalog.pg_class c,"
				" pg_catalog.aclexplode(coalesce(c.relacl,"
				" pg_catalog.acldefault('s', c.relowner))) a"
				" WHERE c.oid OPERATOR(pg_catalog.=) $2"
				" AND a.privilege_type OPERATOR(pg_catalog.=) 'SELECT'),"
				" ARRAY(SELECT r.rolname::pg_catalog.text FROM pg_catalog.pg_roles r"
				" WHERE pg_catalog.pg_has_role($1, r.oid, 'USAGE'))",
		.nargs = 2,
		.types = {OIDOID, OIDOID},
	};
	Datum values[2];
	Datum auditor;
	bool isnull;

	if (superuser_arg(tr_caller()))
		return NULL;
	values[0] = ObjectIdGetDatum(tr_caller());
	values[1] = ObjectIdGetDatum(tr_catalog()->audit_seq);
	tr_sql_run(&sql, values, NULL);
	auditor = tr_sql_value(0, 1, &isnull);
	if (!isnull && DatumGetBool(auditor))
		return NULL;
	return DatumGetArrayTypePCopy(tr_sql_value(0, 2, &isnull));
}

bool
tr_is_restore(void)
{
	return superuser_arg(tr_caller()) && ActivePortal != NULL &&
		   ActivePortal->commandTag == CMDTAG_COPY;
}
