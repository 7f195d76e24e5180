/*
 * cutoffs.c
 *	  tr_revoke_client, tr_revoke_policy, tr_revoke_before and tr_block_client:
 *	  one write that ends, or stops, any number of tokens.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/stop_point.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cutoff_store.h"
#include "state/delivery.h"
#include "state/policy.h"
#include "state/store_bulk.h"
#include "verbs/args.h"
#include "verbs/note.h"

/*
 * Write the audit rows: one a realm, or one that names none for all.
 */
static void
record(TrEvent *event, List *realms, const char *detail)
{
	ListCell *cell;

	if (realms == NIL)
		tr_audit_write(event, detail);
	foreach (cell, realms)
	{
		strlcpy(event->owner, lfirst(cell), sizeof(event->owner));
		tr_audit_write(event, detail);
	}
}

/*
 * The detail of a cutoff.  Kind and moment need no quoting, a policy's name
 * has none of the characters that do.
 */
static char *
cutoff_detail(const char *kind, const char *policy, TimestampTz before)
{
	return psprintf("{\"kind\": \"%s\", \"policy\": %s%s%s, \"before\": \"%s\"}", kind,
					policy ? "\"" : "", policy ? policy : "null", policy ? "\"" : "",
					tr_event_moment(before));
}

/*
 * The cutoff that ends what was issued until now, in this very microsecond
 * included.  A client's tokens that were issued before the clock was set back
 * lie ahead of it, and must fall under it, too.
 */
static TimestampTz
until_now(const char *client_id)
{
	TimestampTz newest = client_id == NULL ? TR_NEVER : tr_store_newest_of_client(client_id);

	return Max(GetCurrentTimestamp(), newest) + 1;
}

/*
 * Make a cutoff: lock, read the clock, store, record.  before of TR_FOREVER:
 * until now.
 */
static TimestampTz
cut(const char *kind, const char *subject, TimestampTz before, const char *reason)
{
	bool of_client = strcmp(kind, TR_CUTOFF_CLIENT) == 0;
	bool of_policy = strcmp(kind, TR_CUTOFF_POLICY) == 0;
	TrSection section;
	TrEvent event;
	List *realms;

	tr_section_begin(&section);
	realms = tr_realms_of_caller();
	tr_cutoff_lock();
	TR_STOP_POINT("cutoff_locked");
	tr_event_begin(&event, TR_EVENT_CUTOFF);
	if (before == TR_FOREVER)
		before = until_now(of_client ? subject : NULL);
	before = tr_cutoff_raise(kind, subject, realms, before, event.at, reason);
	tr_delivery_erase_cut(of_client ? subject : NULL, of_policy ? subject : NULL, before,
						  tr_realm_array_of_caller());
	if (of_client)
		tr_event_text(event.client_id, subject, strlen(subject));
	if (reason != NULL)
		strlcpy(event.reason, reason, sizeof(event.reason));
	record(&event, realms, cutoff_detail(kind, of_policy ? subject : NULL, before));
	tr_section_end(&section);
	return before;
}

PG_FUNCTION_INFO_V1(tr_revoke_client);

/*
 * tr_revoke_client(client_id, reason): the cutoff.
 */
Datum
tr_revoke_client(PG_FUNCTION_ARGS)
{
	text *client;
	char *reason;

	tr_catalog();
	tr_xact_writes("tr_revoke_client()");
	client = tr_arg_client(fcinfo, 0);
	reason = tr_arg_note(fcinfo, 1, "reason");
	PG_RETURN_TIMESTAMPTZ(cut(TR_CUTOFF_CLIENT, text_to_cstring(client), TR_FOREVER, reason));
}

PG_FUNCTION_INFO_V1(tr_revoke_policy);

/*
 * tr_revoke_policy(policy, reason): the cutoff; 42704 for an unknown policy.
 */
Datum
tr_revoke_policy(PG_FUNCTION_ARGS)
{
	TrPolicy policy;
	char *name;
	char *reason;

	tr_catalog();
	tr_xact_writes("tr_revoke_policy()");
	name = tr_arg_name(fcinfo, 0, "policy");
	reason = tr_arg_note(fcinfo, 1, "reason");
	if (*name == '\0' || !tr_policy_read(name, &policy))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("policy \"%s\" does not exist", tr_shown(name)),
						errdetail("The table token_rotation.policy has no such row."),
						errhint("Look the policy up in token_rotation.policy.")));
	PG_RETURN_TIMESTAMPTZ(cut(TR_CUTOFF_POLICY, name, TR_FOREVER, reason));
}

PG_FUNCTION_INFO_V1(tr_revoke_before);

/*
 * tr_revoke_before(before, reason): the cutoff in force.
 */
Datum
tr_revoke_before(PG_FUNCTION_ARGS)
{
	TimestampTz before;
	char *reason;

	tr_catalog();
	tr_xact_writes("tr_revoke_before()");
	before = DatumGetTimestampTz(tr_arg(fcinfo, 0, "before"));
	reason = tr_arg_note(fcinfo, 1, "reason");
	if (TIMESTAMP_NOT_FINITE(before) || before > GetCurrentTimestamp())
		tr_raise_value("cutoff is out of range",
					   "It must be a moment that has passed, by the server's clock.",
					   "Pass clock_timestamp() to end everything that was issued until now.");
	PG_RETURN_TIMESTAMPTZ(cut(TR_CUTOFF_ALL, "", before, reason));
}

PG_FUNCTION_INFO_V1(tr_block_client);

/*
 * tr_block_client(client_id, blocked): did this call change something?
 */
Datum
tr_block_client(PG_FUNCTION_ARGS)
{
	char *client;
	bool block;
	bool changed;
	TrSection section;
	TrEvent event;
	List *realms;

	tr_catalog();
	tr_xact_writes("tr_block_client()");
	client = text_to_cstring(tr_arg_client(fcinfo, 0));
	block = DatumGetBool(tr_arg(fcinfo, 1, "blocked"));

	tr_section_begin(&section);
	realms = tr_realms_of_caller();
	tr_cutoff_lock();
	tr_event_begin(&event, block ? TR_EVENT_BLOCKED : TR_EVENT_UNBLOCKED);
	tr_event_text(event.client_id, client, strlen(client));
	changed = block ? tr_cutoff_block(client, realms, event.at) : tr_cutoff_unblock(client, realms);
	if (changed)
		record(&event, realms, NULL);
	tr_section_end(&section);
	PG_RETURN_BOOL(changed);
}
