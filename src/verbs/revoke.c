/*
 * revoke.c
 *	  tr_revoke and tr_revoke_id: ending a token or its family.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/timestamp.h"

#include "frame/activity.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/settings.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/cutoff.h"
#include "state/store.h"
#include "verbs/args.h"
#include "verbs/ending.h"
#include "verbs/note.h"
#include "verbs/present.h"

/*
 * End a locked token, or with family all its kin; returns how many were live.
 */
static int
end_tokens(TrToken *token, bool family, const char *reason)
{
	if (family)
		return tr_end_family(token->id, -1, reason);
	return tr_end_token(token, GetCurrentTimestamp(), reason) ? 1 : 0;
}

/*
 * May the holder of this locked token end it?  TR_OK, or why not: when it has
 * ended already, because an old token from a log must be no switch that ends
 * its family.
 */
static TrReason
may_end(TrToken *token)
{
	TrRules rules = tr_rules();
	TrReason verdict;

	tr_cutoff_apply_now(token);
	verdict = tr_life_verdict(&token->life, GetCurrentTimestamp(), &rules);
	return verdict == TR_BLOCKED || verdict == TR_NOT_YET_VALID ? TR_OK : verdict;
}

/*
 * End the token that was presented, or its family.  TR_OK, or why not; *proven
 * says whether its secret matched.
 */
static TrReason
revoke_held(const text *value, bool family, const char *reason, TrToken *token, bool *proven)
{
	TrPresented presented;
	TrReason verdict = tr_present_read(value, &presented, token);
	TrSection section;

	*proven = verdict == TR_OK;
	if (verdict != TR_OK)
		return verdict;
	tr_section_begin(&section);
	verdict = tr_present_match(&presented, tr_store_lock(presented.text.id, token), token);
	*proven = verdict == TR_OK;
	if (verdict == TR_OK)
		verdict = may_end(token);
	if (verdict == TR_OK)
		end_tokens(token, family, reason);
	tr_section_end(&section);
	return verdict;
}

PG_FUNCTION_INFO_V1(tr_revoke);

/*
 * tr_revoke(token, reason, family): did this call end something?
 */
Datum
tr_revoke(PG_FUNCTION_ARGS)
{
	TrToken token = {0};
	TrReason verdict;
	char *reason;
	bool family;
	bool proven;

	tr_activity_mask();
	tr_catalog();
	tr_xact_writes("tr_revoke()");
	reason = tr_arg_note(fcinfo, 1, "reason");
	family = DatumGetBool(tr_arg(fcinfo, 2, "family"));
	verdict = revoke_held(tr_arg_text(fcinfo, 0), family, reason, &token, &proven);
	if (verdict != TR_OK)
		tr_note_refusal(TR_EVENT_REVOCATION_REFUSED, verdict, proven ? &token : NULL, NULL);
	if (verdict == TR_DISABLED)
		tr_present_raise_disabled();
	PG_RETURN_BOOL(verdict == TR_OK);
}

PG_FUNCTION_INFO_V1(tr_revoke_id);

/*
 * tr_revoke_id(token_id, reason, family): how many tokens did this call end?
 */
Datum
tr_revoke_id(PG_FUNCTION_ARGS)
{
	const uint8 *id;
	TrSection section;
	TrToken token;
	char *reason;
	bool family;
	int ended = 0;

	tr_catalog();
	tr_xact_writes("tr_revoke_id()");
	id = (const uint8 *) DatumGetPointer(tr_arg(fcinfo, 0, "token_id"));
	reason = tr_arg_note(fcinfo, 1, "reason");
	family = DatumGetBool(tr_arg(fcinfo, 2, "family"));

	tr_section_begin(&section);
	if (tr_present_lock_id(id, &token))
		ended = end_tokens(&token, family, reason);
	tr_section_end(&section);
	PG_RETURN_INT32(ended);
}
