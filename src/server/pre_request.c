/*
 * pre_request.c
 *	  tr_pre_request: the hook that PostgREST calls before each request.
 *
 * It runs in the request's transaction, which is READ ONLY for GET and HEAD, after
 * PostgREST has switched to the request's role.  It takes the token from the
 * headers, binds its client, and has the rest of the transaction neither see the
 * token nor need it.  An invoker's function: only such a one may switch the role.
 *
 * https://docs.postgrest.org/en/v13/references/transactions.html#pre-request
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/event.h"
#include "frame/http.h"
#include "frame/identity.h"
#include "frame/settings.h"
#include "frame/verdict.h"
#include "state/policy.h"
#include "verbs/args.h"
#include "verbs/authenticate.h"

#define HEADERS "request.headers"
#define API_KEY "x-api-key"
#define AUTHORIZATION "authorization"
#define SCHEME "Token "

/*
 * The request's headers; NULL: there are none.  What the parser says of JSON that
 * is none (class 22) would hold the token.
 */
static Jsonb *
read_headers(void)
{
	const char *text = tr_http_setting(HEADERS);
	MemoryContext context = CurrentMemoryContext;
	volatile Datum headers = (Datum) 0;

	if (text == NULL)
		return NULL;
	PG_TRY();
	{
		headers = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		tr_raise_http(500, "headers_unreadable", "the headers of the request are not readable",
					  "request.headers is no JSON");
	}
	PG_END_TRY();
	return JB_ROOT_IS_OBJECT(DatumGetJsonbP(headers)) ? DatumGetJsonbP(headers) : NULL;
}

/*
 * A header; NULL: it is not there.
 */
static text *
header(Jsonb *headers, const char *name)
{
	JsonbValue value;

	if (getKeyJsonValueFromContainer(&headers->root, name, strlen(name), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return cstring_to_text_with_len(value.val.string.val, value.val.string.len);
}

/*
 * What follows the scheme Token, in any case (RFC 9110, section 11.1); NULL: another
 * scheme.
 */
static text *
credentials(const text *authorization)
{
	char *value = text_to_cstring(authorization);

	if (pg_strncasecmp(value, SCHEME, strlen(SCHEME)) != 0)
		return NULL;
	value += strlen(SCHEME);
	value += strspn(value, " ");
	return cstring_to_text_with_len(value, strcspn(value, " "));
}

/*
 * Take the token out of the request's headers; NULL: there is none.
 */
static text *
take_token(void)
{
	Jsonb *headers = read_headers();
	text *authorization = headers == NULL ? NULL : header(headers, AUTHORIZATION);
	text *presented = authorization == NULL ? NULL : credentials(authorization);
	text *key = headers == NULL ? NULL : header(headers, API_KEY);
	Datum rest = PointerGetDatum(headers);

	if (presented == NULL && key == NULL)
		return NULL;
	/* one that travels under another scheme, too, is as secret */
	if (presented != NULL ||
		(authorization != NULL &&
		 tr_holds_token(VARDATA_ANY(authorization), VARSIZE_ANY_EXHDR(authorization))))
		rest = DirectFunctionCall2(jsonb_delete, rest, CStringGetTextDatum(AUTHORIZATION));
	if (key != NULL)
		rest = DirectFunctionCall2(jsonb_delete, rest, CStringGetTextDatum(API_KEY));
	headers = DatumGetJsonbP(rest);
	tr_http_set(HEADERS, JsonbToCString(NULL, &headers->root, VARSIZE(headers)));
	return key != NULL ? key : presented;
}

/*
 * Is this path open to those who present no token?
 */
static bool
is_open(const char *path)
{
	const char *next = tr_anonymous_paths;

	while (path != NULL && *(next += strspn(next, ", ")) != '\0')
	{
		size_t len = strcspn(next, ", ");

		if (next[len - 1] == '*' ? strncmp(path, next, len - 1) == 0
								 : strlen(path) == len && strncmp(path, next, len) == 0)
			return true;
		next += len;
	}
	return false;
}

/*
 * Raise what a refused token is answered.  A server that cannot tell does not send
 * the client away, nor does one where its block may be lifted: it would drop a token
 * that is good.
 */
pg_noreturn static void
refuse(const TrValidation *validation)
{
	const char *reason = tr_reason_text(validation->reason);

	if (validation->reason == TR_STALE || validation->reason == TR_DISABLED)
		tr_raise_http(503, "unavailable", "the token cannot be checked now", reason);
	if (validation->reason == TR_BLOCKED)
		tr_raise_http(403, "blocked", "the client is blocked", reason);
	tr_raise_http_refused(validation->proven ? reason : NULL);
}

/*
 * Raise why a role cannot be taken on: a fault of the configuration.
 */
pg_noreturn static void
refuse_role(const char *why)
{
	tr_raise_http(500, "role_unavailable", "the role of the token's policy cannot be taken on",
				  why);
}

/*
 * Act as the role that the policy names, until the end of the transaction.  Like SET
 * ROLE, it needs the session's user, PostgREST's authenticator, to be a member.  A
 * superuser is never taken on: whoever may edit policies could name one.
 */
static void
take_on_role(const text *policy)
{
	char name[NAMEDATALEN];
	Oid role;

	if (!tr_policy_request_role(policy, name))
		return;
	role = get_role_oid(name, true);
	if (!OidIsValid(role))
		refuse_role("there is no such role");
	if (superuser_arg(role))
		refuse_role("it is a superuser");
	if (!member_can_set_role(GetSessionUserId(), role))
		refuse_role("PostgREST's role is not a member of it");
	tr_http_set("role", name);
}

/*
 * Tell the client when to rotate, and, while its token is being rotated, that it
 * ends (RFC 9745 and RFC 8594).
 */
static void
tell_times(const TrValidation *validation)
{
	const TrLife *life = &validation->token.life;
	StringInfoData headers;

	initStringInfo(&headers);
	tr_http_header(&headers, "X-Token-Refresh-At", tr_event_moment(validation->token.refresh_at));
	if (life->status == TR_ROTATING)
	{
		if (life->rotated_at != TR_NEVER)
			tr_http_header(
				&headers, "Deprecation",
				psprintf("@" INT64_FORMAT, (int64) timestamptz_to_time_t(life->rotated_at)));
		tr_http_header(&headers, "Sunset", tr_http_date(validation->valid_until));
	}
	appendStringInfoChar(&headers, ']');
	tr_http_set("response.headers", headers.data);
}

PG_FUNCTION_INFO_V1(tr_pre_request);

/*
 * tr_pre_request(): binds the client of the request's token, or raises what
 * PostgREST turns into 401; nobody is bound on a path that is open.
 */
Datum
tr_pre_request(PG_FUNCTION_ARGS)
{
	TrValidation validation;
	text *token;

	tr_catalog();
	tr_identity_clear();
	token = take_token();
	if (token == NULL)
	{
		if (is_open(tr_http_setting("request.path")))
			PG_RETURN_VOID();
		tr_raise_http_nobody();
	}
	if (tr_authenticate_token(token, NULL, NULL, true, &validation) != TR_BOUND)
		refuse(&validation);
	tell_times(&validation);
	take_on_role(validation.token.policy);
	PG_RETURN_VOID();
}
