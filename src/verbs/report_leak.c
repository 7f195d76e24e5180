/*
 * report_leak.c
 *	  tr_report_leak: somebody found a token where it should not be.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"

#include "frame/activity.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/args.h"
#include "verbs/ending.h"
#include "verbs/note.h"
#include "verbs/present.h"

/*
 * Is this text the token, or its rotation key?  TR_OK and which, or why neither.
 * Both are compared whatever the first says.
 */
static TrReason
match(const TrPresented *presented, bool found, const TrToken *token, const char **what)
{
	TrReason reason = tr_present_match(presented, found, token);
	bool is_key = tr_present_match_key(presented, found ? token : NULL);

	*what = is_key ? "rotation key" : "token";
	return reason == TR_BAD_SECRET && is_key ? TR_OK : reason;
}

/*
 * End the family of what was reported, whose secret matches, be the token itself
 * alive or not: who has it in his hands may have its successors, too.
 */
static void
end_leaked(const TrToken *token, const char *what, const char *source)
{
	int ended = tr_end_family(token->id, -1, "leaked");
	TrEvent event;

	tr_note_begin(&event, TR_EVENT_LEAK, token);
	strlcpy(event.reason, what, sizeof(event.reason));
	if (source != NULL)
		strlcpy(event.origin, source, sizeof(event.origin));
	tr_audit_write(&event, psprintf("{\"ended\": %d}", ended));
	tr_stats_at_commit(token->policy, TR_STAT_LEAK);
}

/*
 * All of it.  What was reported is looked up and hashed in the same way
 * whatever becomes of it.
 */
static TrReason
report(const text *value, const char *source)
{
	TrPresented presented;
	TrToken token = {0};
	TrSection section;
	const char *what;
	TrReason reason;
	bool found;

	if (!tr_present(value, &presented))
		return TR_MALFORMED;
	found = tr_store_read_now(presented.text.id, &token);
	reason = match(&presented, found, &token, &what);
	if (reason != TR_OK)
		return reason;

	tr_section_begin(&section);
	/* while we waited for the lock it may have been given a new secret */
	found = tr_store_lock(presented.text.id, &token);
	reason = match(&presented, found, &token, &what);
	if (reason == TR_OK)
		end_leaked(&token, what, source);
	tr_section_end(&section);
	return reason;
}

PG_FUNCTION_INFO_V1(tr_report_leak);

/*
 * tr_report_leak(token, source): answers nothing, so that it tells nobody
 * whether a token is one.
 */
Datum
tr_report_leak(PG_FUNCTION_ARGS)
{
	TrReason reason;
	char *source;

	tr_activity_mask();
	tr_catalog();
	tr_xact_writes("tr_report_leak()");
	source = tr_arg_note(fcinfo, 1, "source");
	/* whatever comes of it: who asks for the number would know */
	(void) GetTopTransactionId();
	reason = report(tr_arg_text(fcinfo, 0), source);
	if (reason != TR_OK)
		tr_note_refusal(TR_EVENT_LEAK_REFUSED, reason, NULL, NULL);
	if (reason == TR_DISABLED)
		tr_present_raise_disabled();
	PG_RETURN_VOID();
}
