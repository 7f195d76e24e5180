/*
 * identity.c
 *	  tr_authenticate, and the functions that tell who is bound: for row security,
 *	  defaults and whatever else runs in the transaction.
 *
 * Those that tell are STABLE: within a statement who is bound changes only where
 * the statement itself authenticates, whose order the planner is free to choose.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "frame/activity.h"
#include "frame/catalog.h"
#include "frame/http.h"
#include "frame/identity.h"
#include "frame/verdict.h"
#include "verbs/args.h"
#include "verbs/authenticate.h"
#include "verbs/note.h"

#define COLUMNS 7

PG_FUNCTION_INFO_V1(tr_authenticate);

/*
 * tr_authenticate(token, scope, origin): one row, who is bound from now on.  28000
 * for a token that is not valid, 42501 for one that lacks the scope.
 */
Datum
tr_authenticate(PG_FUNCTION_ARGS)
{
	static TrAnswer kept = {.columns = NULL, .count = COLUMNS};
	bool nulls[COLUMNS] = {false};
	Datum values[COLUMNS];
	TrValidation validation;
	TrToken *token = &validation.token;
	text *scope;

	tr_activity_mask();
	tr_catalog();
	scope = tr_arg_text(fcinfo, 1);
	switch (tr_authenticate_token(tr_arg_text(fcinfo, 0), scope, tr_arg_text(fcinfo, 2), false,
								  &validation))
	{
		case TR_REFUSED:
			tr_raise_refused(validation.reason);
		case TR_NO_SCOPE:
			tr_raise_no_scope(scope);
		case TR_BOUND:
			break;
	}
	values[0] = PointerGetDatum(token->client_id);
	values[1] = PointerGetDatum(token->owner);
	values[2] = PointerGetDatum(token->id);
	values[3] = PointerGetDatum(token->policy);
	values[4] = token->scopes;
	values[5] = TimestampTzGetDatum(validation.valid_until);
	values[6] = TimestampTzGetDatum(token->refresh_at);
	return HeapTupleGetDatum(heap_form_tuple(tr_answer_desc(fcinfo, &kept), values, nulls));
}

PG_FUNCTION_INFO_V1(tr_client);

/*
 * tr_client(): the client id; NULL: nobody is bound.
 */
Datum
tr_client(PG_FUNCTION_ARGS)
{
	const TrIdentity *identity = tr_identity();

	if (identity == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(DatumGetTextPCopy(PointerGetDatum(identity->client_id)));
}

PG_FUNCTION_INFO_V1(tr_realm_sql);

/*
 * tr_realm(): the realm that the client belongs to; NULL: nobody is bound.
 */
Datum
tr_realm_sql(PG_FUNCTION_ARGS)
{
	const TrIdentity *identity = tr_identity();

	if (identity == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(DatumGetTextPCopy(PointerGetDatum(identity->owner)));
}

PG_FUNCTION_INFO_V1(tr_token_id);

/*
 * tr_token_id(): the id of the token that was presented; NULL: nobody is bound.
 */
Datum
tr_token_id(PG_FUNCTION_ARGS)
{
	const TrIdentity *identity = tr_identity();
	pg_uuid_t *id;

	if (identity == NULL)
		PG_RETURN_NULL();
	id = palloc(sizeof(pg_uuid_t));
	memcpy(id->data, identity->token, UUID_LEN);
	PG_RETURN_UUID_P(id);
}

PG_FUNCTION_INFO_V1(tr_scopes);

/*
 * tr_scopes(): its scopes; NULL: nobody is bound.
 */
Datum
tr_scopes(PG_FUNCTION_ARGS)
{
	const TrIdentity *identity = tr_identity();

	if (identity == NULL)
		PG_RETURN_NULL();
	PG_RETURN_ARRAYTYPE_P(DatumGetArrayTypePCopy(PointerGetDatum(identity->scopes)));
}

PG_FUNCTION_INFO_V1(tr_has_scope);

/*
 * tr_has_scope(scope): has it this scope?  false where nobody is bound, and for
 * NULL.
 */
Datum
tr_has_scope(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!PG_ARGISNULL(0) && tr_identity_has_scope(PG_GETARG_TEXT_PP(0)));
}

PG_FUNCTION_INFO_V1(tr_require_scope);

/*
 * tr_require_scope(scope): true, or an error.  Where tr_pre_request has bound the
 * client, or nobody did in a request, it is one that PostgREST turns into 403 or
 * 401; else 42501 or 28000.
 */
Datum
tr_require_scope(PG_FUNCTION_ARGS)
{
	const TrIdentity *identity = tr_identity();
	text *scope;

	scope = DatumGetTextPP(tr_arg(fcinfo, 0, "scope"));
	tr_check_scope(scope);
	if (identity == NULL)
	{
		if (tr_http_setting("request.method") != NULL)
			tr_raise_http_nobody();
		tr_raise_nobody();
	}
	if (tr_identity_has_scope(scope))
		PG_RETURN_BOOL(true);
	tr_note_scope_refused(identity, scope, NULL);
	if (identity->by_request)
		tr_raise_http_no_scope(scope);
	tr_raise_no_scope(scope);
}
