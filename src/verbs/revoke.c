/*
 * revoke.c
 *	  tr_revoke and tr_revoke_id: ending a token or its family.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "frame/activity.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/cutoff.h"
#include "state/store.h"
#include "verbs/args.h"
#include "verbs/note.h"
#include "verbs/present.h"

/*
 * Write the audit row of a revocation.
 */
static void
record(const TrToken *token, const char *reason, const char *detail)
{
	TrEvent event;

	tr_note_begin(&event, TR_EVENT_REVOKED, token);
	if (reason != NULL)
		strlcpy(event.reason, reason, sizeof(event.reason));
	tr_audit_write(&event, detail);
}

/*
 * A token that has ended by itself may still be good for asking for its
 * successor again; that ends too.
 */
static void
close_replay_window(TrToken *token, TimestampTz now, const char *reason)
{
	if (token->life.status != TR_EXPIRED || token->life.replay_ends_at <= now)
		return;
	token->life.replay_ends_at = TR_NEVER;
	tr_store_update(token);
	tr_cache_drop(token->id);
	record(token, reason, "{\"replay_window\": \"closed\"}");
}

/*
 * End a locked token.  Returns whether it was live.
 */
static bool
end_token(TrToken *token, TimestampTz now, const char *reason)
{
	TrCached cached;

	if (!tr_life_step(token->life.status, TR_STEP_REVOKE, &token->life.status))
	{
		close_replay_window(token, now, reason);
		return false;
	}
	token->revoked_at = now;
	token->revoked_reason = reason == NULL ? NULL : cstring_to_text(reason);
	if (tr_cache_lock(token->id, &cached))
	{
		token->first_used_at =
			token->first_used_at != TR_NEVER ? token->first_used_at : cached.first_used_at;
		token->last_used_at = Max(token->last_used_at, cached.last_used_at);
	}
	tr_wipe(&cached, sizeof(cached));
	tr_store_update(token);
	TR_STOP_POINT("revoke_half");
	tr_cache_drop(token->id);
	record(token, reason, NULL);
	return true;
}

/*
 * End a locked token, or with family all its kin; returns how many were live.
 */
static int
end_tokens(TrToken *token, bool family, const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell *cell;
	int ended = 0;

	if (!family)
		return end_token(token, now, reason) ? 1 : 0;
	foreach (cell, tr_store_lock_family(token->id))
		ended += end_token(lfirst(cell), now, reason) ? 1 : 0;
	return ended;
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
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TrReason verdict;

	tr_cutoff_apply(token, snapshot);
	UnregisterSnapshot(snapshot);
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
	reason = tr_arg_reason(fcinfo, 1);
	family = DatumGetBool(tr_arg(fcinfo, 2, "family"));
	verdict = revoke_held(tr_arg_text(fcinfo, 0), family, reason, &token, &proven);
	if (verdict != TR_OK)
		tr_note_refusal(TR_EVENT_REVOCATION_REFUSED, verdict, proven ? &token : NULL, NULL);
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
	reason = tr_arg_reason(fcinfo, 1);
	family = DatumGetBool(tr_arg(fcinfo, 2, "family"));

	tr_section_begin(&section);
	if (tr_present_lock_id(id, &token))
		ended = end_tokens(&token, family, reason);
	tr_section_end(&section);
	PG_RETURN_INT32(ended);
}
