/*
 * introspect.c
 *	  tr_introspect: a token's state after RFC 7662.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "frame/activity.h"
#include "frame/catalog.h"
#include "frame/scopes.h"
#include "verbs/args.h"
#include "verbs/validation.h"

/*
 * Add a member with a text to the object that is being made.
 */
static void
add_text(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, ", \"%s\": ", name);
	escape_json(json, value);
}

/*
 * Likewise a moment: whole seconds since 1970-01-01 UTC.
 */
static void
add_moment(StringInfo json, const char *name, TimestampTz moment)
{
	appendStringInfo(json, ", \"%s\": " INT64_FORMAT, name, (int64) timestamptz_to_time_t(moment));
}

/*
 * The scopes with spaces between them, as RFC 7662 has them; nothing where there
 * are none.
 */
static void
add_scopes(StringInfo json, Datum list)
{
	StringInfoData scope;
	Datum *scopes;
	int count;
	int i;

	scopes = tr_scopes_elements(DatumGetArrayTypeP(list), &count);
	if (count == 0)
		return;
	initStringInfo(&scope);
	for (i = 0; i < count; i++)
		appendStringInfo(&scope, "%s%s", i == 0 ? "" : " ", TextDatumGetCString(scopes[i]));
	add_text(json, "scope", scope.data);
}

PG_FUNCTION_INFO_V1(tr_introspect);

/*
 * tr_introspect(token): {"active": false} and nothing else where it is not valid,
 * whatever the reason (RFC 7662, section 2.2).
 */
Datum
tr_introspect(PG_FUNCTION_ARGS)
{
	TrValidation validation;
	TrToken *token = &validation.token;
	StringInfoData json;

	tr_activity_mask();
	tr_catalog();
	tr_validation(tr_arg_text(fcinfo, 0), NULL, &validation);
	initStringInfo(&json);
	appendStringInfo(&json, "{\"active\": %s", validation.reason == TR_OK ? "true" : "false");
	if (validation.reason == TR_OK)
	{
		char *client = text_to_cstring(token->client_id);

		add_text(&json, "client_id", client);
		add_text(&json, "sub", client);
		add_text(&json, "token_type", "Bearer");
		add_text(&json, "jti",
				 DatumGetCString(DirectFunctionCall1(uuid_out, PointerGetDatum(token->id))));
		add_scopes(&json, token->scopes);
		add_moment(&json, "iat", token->life.issued_at);
		add_moment(&json, "exp", validation.valid_until);
	}
	appendStringInfoChar(&json, '}');
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}
