/*
 * http.c
 *	  What a request through PostgREST is told: see http.h.
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/json.h"

#include "frame/http.h"

/* PostgREST's own SQLSTATE: message and detail are JSON. */
#define PGRST MAKE_SQLSTATE('P', 'G', 'R', 'S', 'T')

#define CHALLENGE "Bearer realm=\"api\""

/*
 * Add "name": value to a JSON object that is being made.
 */
static void
add_member(StringInfo json, const char *name, const char *value)
{
	appendStringInfoString(json, json->len == 0 ? "{" : ", ");
	escape_json(json, name);
	appendStringInfoString(json, ": ");
	if (value == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, value);
}

/*
 * challenge: what WWW-Authenticate says; NULL: there is none.
 */
pg_noreturn static void
raise(int status, const char *code, const char *message, const char *details, const char *challenge)
{
	StringInfoData body;
	StringInfoData head;

	initStringInfo(&body);
	add_member(&body, "code", code);
	add_member(&body, "message", message);
	add_member(&body, "details", details);
	add_member(&body, "hint", NULL);
	appendStringInfoChar(&body, '}');

	initStringInfo(&head);
	appendStringInfo(&head, "{\"status\": %d, \"headers\": ", status);
	if (challenge != NULL)
	{
		appendStringInfoString(&head, "{\"WWW-Authenticate\": ");
		escape_json(&head, challenge);
		appendStringInfoString(&head, "}}");
	}
	else
		appendStringInfoString(&head, "{}}");
	ereport(ERROR, (errcode(PGRST), errhidestmt(true), errhidecontext(true),
					errmsg_internal("%s", body.data), errdetail_internal("%s", head.data)));
}

void
tr_raise_http(int status, const char *code, const char *message, const char *details)
{
	raise(status, code, message, details, NULL);
}

void
tr_raise_http_nobody(void)
{
	raise(401, "token_required", "a token is required", NULL, CHALLENGE);
}

/*
 * A scope holds neither quotes nor backslashes.
 */
void
tr_raise_http_no_scope(const text *scope)
{
	raise(403, "insufficient_scope", "the token lacks a scope that is needed", NULL,
		  psprintf(CHALLENGE ", error=\"insufficient_scope\", scope=\"%.*s\"",
				   (int) VARSIZE_ANY_EXHDR(scope), VARDATA_ANY(scope)));
}

void
tr_raise_http_refused(const char *reason)
{
	raise(401, "invalid_token", "the token is not valid", reason,
		  CHALLENGE ", error=\"invalid_token\"");
}

const char *
tr_http_setting(const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	return value == NULL || *value == '\0' ? NULL : value;
}

void
tr_http_set(const char *name, const char *value)
{
	set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

void
tr_http_header(StringInfo headers, const char *name, const char *value)
{
	StringInfoData member;

	initStringInfo(&member);
	add_member(&member, name, value);
	appendStringInfo(headers, "%s%s}", headers->len == 0 ? "[" : ", ", member.data);
	pfree(member.data);
}

char *
tr_http_date(TimestampTz moment)
{
	struct pg_tm tm;
	fsec_t fraction;

	if (timestamp2tm(moment, NULL, &tm, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	return psprintf("%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
					days[j2day(date2j(tm.tm_year, tm.tm_mon, tm.tm_mday))], tm.tm_mday,
					months[tm.tm_mon - 1], tm.tm_year, tm.tm_hour, tm.tm_min, tm.tm_sec);
}
