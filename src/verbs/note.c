/*
 * note.c
 *	  What verbs tell the audit trail of tokens: see note.h.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "frame/settings.h"
#include "frame/verdict.h"
#include "state/audit.h"
#include "state/ring.h"
#include "state/stats.h"
#include "verbs/note.h"

void
tr_note_begin(TrEvent *event, const char *name, const TrToken *token)
{
	tr_event_begin(event, name);
	event->has_token = true;
	memcpy(event->token, token->id, TR_ID_BYTES);
	tr_event_text(event->client_id, VARDATA_ANY(token->client_id),
				  VARSIZE_ANY_EXHDR(token->client_id));
	tr_event_owner(event, token->owner);
}

char *
tr_note_made(const TrToken *token, const TrToken *predecessor, const char *sealed_to)
{
	StringInfoData json;

	initStringInfo(&json);
	/* a policy's name has no character that JSON would want quoted */
	appendStringInfo(&json, "{\"policy\": \"%.*s\", \"expires_at\": \"%s\"",
					 (int) VARSIZE_ANY_EXHDR(token->policy), VARDATA_ANY(token->policy),
					 tr_event_moment(token->life.expires_at));
	if (predecessor != NULL)
		appendStringInfo(&json, ", \"overlap_ends_at\": \"%s\"",
						 tr_event_moment(predecessor->life.overlap_ends_at));
	if (token->risk > 0)
		appendStringInfo(&json, ", \"risk\": %d", token->risk);
	if (sealed_to != NULL)
		appendStringInfo(&json, ", \"fingerprint\": \"%s\"", sealed_to);
	appendStringInfoChar(&json, '}');
	return json.data;
}

char *
tr_note_window(const TrToken *token)
{
	return psprintf("{\"overlap_ends_at\": \"%s\"}", tr_event_moment(token->life.overlap_ends_at));
}

/*
 * Put in what the back end says of the request's origin.
 */
static void
set_origin(TrEvent *event, const text *origin)
{
	if (origin != NULL)
		tr_event_text(event->origin, VARDATA_ANY(origin), VARSIZE_ANY_EXHDR(origin));
}

/*
 * Count a refused rotation, revocation or report; validations count themselves,
 * whatever is recorded of them.
 */
static void
count_refusal(const char *name, TrReason reason, const TrToken *token)
{
	TrCounters *counters = tr_stats_of(token == NULL ? NULL : token->policy);

	if (strcmp(name, TR_EVENT_ROTATION_REFUSED) == 0)
		tr_stats_add(counters, TR_STAT_ROTATION_REFUSED + reason, 1);
	else if (strcmp(name, TR_EVENT_REVOCATION_REFUSED) == 0)
		tr_stats_add(counters, TR_STAT_REVOCATION_REFUSED + reason, 1);
	else if (strcmp(name, TR_EVENT_LEAK_REFUSED) == 0)
		tr_stats_add(counters, TR_STAT_LEAK_REFUSED, 1);
}

/*
 * Hand an event whose secret matched to the worker.
 */
static void
put_proven(const TrEvent *event)
{
	bool fail = tr_audit_overflow == TR_OVERFLOW_FAIL;

	if (!tr_ring_put(event, !fail) && fail)
		tr_raise_ring_full();
}

/*
 * Log an event of a standby, which can store nothing.  The statement may hold the
 * token.
 */
static void
log_proven(const char *what, const char *reason, const uint8 *token)
{
	ereport(LOG,
			(errhidestmt(true), errhidecontext(true), errmsg("%s on a standby: %s", what, reason),
			 errdetail("The token id is %s.",
					   DatumGetCString(DirectFunctionCall1(uuid_out, PointerGetDatum(token))))));
}

/*
 * Record a refusal; detail is JSON, or empty.
 */
static void
note(const char *name, TrReason reason, const TrToken *token, const text *origin,
	 const char *detail)
{
	TrEvent event;

	count_refusal(name, reason, token);
	if (token == NULL)
	{
		tr_ring_junk(name, tr_reason_text(reason));
		return;
	}
	tr_note_begin(&event, name, token);
	set_origin(&event, origin);
	strlcpy(event.reason, tr_reason_text(reason), sizeof(event.reason));
	strlcpy(event.detail, detail, sizeof(event.detail));
	put_proven(&event);
}

void
tr_note_refusal(const char *name, TrReason reason, const TrToken *token, const text *origin)
{
	note(name, reason, token, origin, "");
}

void
tr_note_refusal_by_id(TrReason reason, const TrToken *token)
{
	note(TR_EVENT_ROTATION_REFUSED, reason, token, NULL, "{\"by\": \"operator\"}");
}

void
tr_note_refused_validation(TrReason reason, const TrToken *token, const text *origin)
{
	if (tr_audit_validations == TR_AUDIT_NONE)
		return;
	if (!RecoveryInProgress())
		tr_note_refusal(TR_EVENT_VALIDATION_REFUSED, reason, token, origin);
	else if (token != NULL)
		log_proven("token refused", tr_reason_text(reason), token->id);
}

/*
 * An event about who is to be bound.
 */
static void
note_identity(const char *name, const TrIdentity *identity, const char *reason, size_t len,
			  const text *origin)
{
	TrEvent event;

	tr_event_begin(&event, name);
	event.has_token = true;
	memcpy(event.token, identity->token, TR_ID_BYTES);
	tr_event_text(event.client_id, VARDATA_ANY(identity->client_id),
				  VARSIZE_ANY_EXHDR(identity->client_id));
	tr_event_owner(&event, identity->owner);
	set_origin(&event, origin);
	tr_event_text(event.reason, reason, len);
	if (RecoveryInProgress())
		log_proven(name, event.reason, identity->token);
	else
		put_proven(&event);
}

void
tr_note_scope_refused(const TrIdentity *identity, const text *scope, const text *origin)
{
	if (tr_audit_validations != TR_AUDIT_NONE)
		note_identity(TR_EVENT_SCOPE_REFUSED, identity, VARDATA_ANY(scope),
					  VARSIZE_ANY_EXHDR(scope), origin);
}

void
tr_note_identity_changed(const TrIdentity *identity, const char *before, const text *origin)
{
	note_identity(TR_EVENT_IDENTITY_CHANGED, identity, before, strlen(before), origin);
}

/*
 * Does this event come from another place than the rotation that it repeats, as
 * far as both are known?
 */
static bool
is_elsewhere(const TrEvent *event)
{
	char first[TR_EVENT_TEXT];
	char by[TR_EVENT_TEXT];

	if (*event->origin == '\0')
		return false;
	tr_audit_rotation(event, first, by);
	return *first != '\0' && strcmp(first, event->origin) != 0;
}

void
tr_note_replay(const TrToken *token, const TrToken *successor, bool used, const text *origin)
{
	TrStat stat = TR_STAT_REPLAYED;
	TrEvent event;

	tr_note_begin(&event, TR_EVENT_REPLAYED, token);
	event.has_successor = true;
	memcpy(event.successor, successor->id, TR_ID_BYTES);
	set_origin(&event, origin);
	if (is_elsewhere(&event))
	{
		strlcpy(event.event, TR_EVENT_REPLAYED_ELSEWHERE, sizeof(event.event));
		stat = TR_STAT_REPLAYED_ELSEWHERE;
	}
	else if (used)
	{
		strlcpy(event.event, TR_EVENT_REPLAYED_AFTER_USE, sizeof(event.event));
		stat = TR_STAT_REPLAYED_AFTER_USE;
	}
	snprintf(event.detail, sizeof(event.detail), "{\"successor_used\": %s}",
			 used ? "true" : "false");
	strlcpy(event.reason, tr_reason_text(TR_OK), sizeof(event.reason));
	if (!tr_ring_put(&event, false))
		tr_raise_ring_full();
	tr_stats_add(tr_stats_of(token->policy), stat, 1);
}
