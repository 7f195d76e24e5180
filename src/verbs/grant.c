/*
 * grant.c
 *	  Who may do what: tr_grant and tr_ungrant give and take back a preset of
 *	  privileges and membership in a realm.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/event.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "verbs/args.h"
#include "verbs/presets.h"

/* What a call of tr_grant or tr_ungrant says. */
typedef struct Request
{
	const char *role_name;
	Oid role;
	const char *preset_name;
	int preset;
	const char *realm_name; /* NULL: none is named */
	Oid realm;
} Request;

/*
 * The role of this name.  token_rotation_worker is nobody's: not to be given
 * rights, and not to be given.
 */
static Oid
role_of(const char *what, const char *name)
{
	Oid role;

	if (strcmp(name, TR_WORKER_ROLE) == 0)
		ereport(ERROR, (errcode(ERRCODE_RESERVED_NAME), errmsg("role \"%s\" is reserved", name),
						errdetail("The audit trail is written as this role, and by nobody else."),
						errhint("Name another role.")));
	role = get_role_oid(name, true);
	if (!OidIsValid(role))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("%s \"%s\" does not exist", what, tr_shown(name)),
						errdetail("No role has this name."), errhint("Make it with CREATE ROLE.")));
	return role;
}

/*
 * The role of a realm.  The server's own roles own no tokens.
 */
static Oid
realm_of(const char *name)
{
	if (IsReservedName(name))
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME), errmsg("role \"%s\" is reserved", tr_shown(name)),
				 errdetail("Roles whose names begin with \"pg_\" are the server's, and no realms."),
				 errhint("Name an ordinary role, best one that is made for the realm.")));
	return role_of("realm", name);
}

/*
 * Read and check the arguments.
 */
static Request
read_request(FunctionCallInfo fcinfo)
{
	Request request = {0};

	request.role_name = tr_arg_name(fcinfo, 0, "role");
	request.preset_name = tr_arg_name(fcinfo, 1, "preset");
	request.preset = tr_preset_named(request.preset_name);
	request.role = role_of("role", request.role_name);
	if (!PG_ARGISNULL(2))
	{
		request.realm_name = tr_arg_name(fcinfo, 2, "realm");
		request.realm = realm_of(request.realm_name);
	}
	return request;
}

/*
 * Is the role itself a member of the realm?
 */
static bool
is_direct_member(const Request *request)
{
	static TrSql sql = {
		.text = "SELECT 1 FROM pg_catalog.pg_auth_members m"
				" WHERE m.roleid OPERATOR(pg_catalog.=) $1 AND m.member OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {OIDOID, OIDOID},
	};
	Datum values[2] = {ObjectIdGetDatum(request->realm), ObjectIdGetDatum(request->role)};

	return tr_sql_run(&sql, values, NULL) != 0;
}

/*
 * Refuse a realm whose members could do anything: as superusers, or to the
 * extension's tables as their owner.
 */
static void
require_harmless_realm(const Request *request)
{
	static TrSql sql = {
		.text = "SELECT 1 FROM pg_catalog.pg_roles r"
				" WHERE (r.rolsuper OR r.oid OPERATOR(pg_catalog.=) $2)"
				" AND pg_catalog.pg_has_role($1, r.oid, 'MEMBER')",
		.nargs = 2,
		.types = {OIDOID, OIDOID},
	};
	Datum values[2] = {ObjectIdGetDatum(request->realm), ObjectIdGetDatum(tr_catalog()->owner)};

	if (tr_sql_run(&sql, values, NULL) != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_GRANT_OPERATION),
			 errmsg("realm \"%s\" has the rights of a superuser or of the extension's owner",
					request->realm_name),
			 errdetail("As a member of it, role \"%s\" would have them too.", request->role_name),
			 errhint("Make a NOLOGIN role for the realm, and move the tokens to it with "
					 "tr_set_owner().")));
}

/*
 * Give or take back membership in the realm.  A role is its own realm without
 * it.  Taking back takes what tr_grant gave: where the server keeps memberships
 * by grantor (from 16 on), those that others gave stay, and it warns.  Returns
 * whether anything was done.
 */
static bool
change_membership(bool give, const Request *request)
{
	if (request->realm_name == NULL || request->realm == request->role)
		return false;
	if (give)
		require_harmless_realm(request);
	else if (!is_direct_member(request))
		return false;

	/* an owner who is no superuser need not have a say in the realm; a superuser has */
	if (superuser_arg(tr_caller()))
		tr_act_as(tr_caller());
	tr_grant_run(give, quote_identifier(request->realm_name), request->role_name,
				 give ? TR_MEMBERSHIP_OPTIONS : "");
	tr_act_as_owner();
	return true;
}

/*
 * Say so where the membership gives the role nothing: verbs ask whose
 * privileges it has, and on 15 a NOINHERIT role has none by membership.
 */
static void
warn_without_inheritance(const Request *request)
{
	if (request->realm_name != NULL && !has_privs_of_role(request->role, request->realm))
		ereport(WARNING,
				(errmsg("role \"%s\" does not inherit the privileges of realm \"%s\"",
						request->role_name, request->realm_name),
				 errdetail("Its tokens will be unknown to this role."),
				 errhint("Use ALTER ROLE ... INHERIT, or grant to the role that the session "
						 "switches to.")));
}

/*
 * Say so where a role that lost its membership still has presets.
 */
static void
tell_of_other_presets(const Request *request)
{
	if (tr_preset_any(request->role))
		ereport(NOTICE,
				(errmsg("role \"%s\" is no member of realm \"%s\" any more", request->role_name,
						request->realm_name),
				 errdetail("It keeps other presets, which do not reach this realm's tokens now."),
				 errhint("tr_ungrant() without a realm leaves memberships alone.")));
}

/*
 * Append a key and a text, or null, to a JSON object.
 */
static void
append_pair(StringInfo json, const char *key, const char *value)
{
	appendStringInfo(json, "%s\"%s\": ", json->len == 0 ? "{" : ", ", key);
	if (value != NULL)
		escape_json(json, value);
	else
		appendStringInfoString(json, "null");
}

/*
 * What tr_grant and tr_ungrant have in common.  The event begins outside of
 * the section, the statements run inside it as the extension's owner.
 */
static void
grant_or_ungrant(bool give, const Request *request)
{
	TrEvent event;
	TrSection section;
	StringInfoData detail;
	bool changed;

	tr_event_begin(&event, give ? TR_EVENT_GRANTED : TR_EVENT_UNGRANTED);
	if (request->realm_name != NULL)
		strlcpy(event.owner, request->realm_name, sizeof(event.owner));
	initStringInfo(&detail);
	append_pair(&detail, "role", request->role_name);
	append_pair(&detail, "preset", request->preset_name);
	append_pair(&detail, "realm", request->realm_name);
	appendStringInfoChar(&detail, '}');

	tr_section_begin(&section);
	tr_preset_change(give, request->preset, request->role_name, request->role);
	changed = change_membership(give, request);
	tr_audit_write(&event, detail.data);
	tr_section_end(&section);

	if (give)
		warn_without_inheritance(request);
	else if (changed)
		tell_of_other_presets(request);
}

PG_FUNCTION_INFO_V1(tr_grant);

/*
 * SQL: tr_grant(role text, preset text, realm text)
 */
Datum
tr_grant(PG_FUNCTION_ARGS)
{
	Request request;

	tr_require_owner("tr_grant()");
	tr_xact_writes("tr_grant()");
	request = read_request(fcinfo);
	grant_or_ungrant(true, &request);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(tr_ungrant);

/*
 * SQL: tr_ungrant(role text, preset text, realm text)
 */
Datum
tr_ungrant(PG_FUNCTION_ARGS)
{
	Request request;

	tr_require_owner("tr_ungrant()");
	tr_xact_writes("tr_ungrant()");
	request = read_request(fcinfo);
	grant_or_ungrant(false, &request);
	PG_RETURN_VOID();
}
