/*
 * window.c
 *	  tr_extend_overlap, tr_finish_overlap and tr_cancel_rotation: what operators
 *	  do with an open overlap window.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/settings.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/cutoff.h"
#include "state/delivery.h"
#include "state/pending.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/args.h"
#include "verbs/note.h"
#include "verbs/present.h"
#include "verbs/use.h"

/*
 * Lock a token that the caller may see and whose window is open: rotating, and
 * neither its end nor anything else has ended it.  What has ended stays ended.
 */
static bool
lock_open(const uint8 *id, TrToken *token, TimestampTz *now)
{
	TrRules rules = tr_rules();

	if (!tr_present_lock_id(id, token))
		return false;
	*now = GetCurrentTimestamp();
	tr_cutoff_apply_now(token);
	return token->life.status == TR_ROTATING &&
		   tr_life_verdict(&token->life, *now, &rules) == TR_OK;
}

/*
 * Store a predecessor that changed; its nonce stays while the replay window
 * lasts.
 */
static void
store_predecessor(const TrToken *token, TimestampTz now)
{
	tr_store_update(token);
	if (token->life.status == TR_ROTATING || token->life.replay_ends_at > now)
		tr_cache_update_keeping(token);
	else
		tr_cache_drop(token->id);
}

PG_FUNCTION_INFO_V1(tr_extend_overlap);

/*
 * tr_extend_overlap(token_id, by): the new end; NULL where no window is open.
 */
Datum
tr_extend_overlap(PG_FUNCTION_ARGS)
{
	const uint8 *id;
	TrSection section;
	TrToken token;
	TrEvent event;
	TimestampTz now;
	int64 by;
	bool open;

	tr_catalog();
	tr_xact_writes("tr_extend_overlap()");
	id = (const uint8 *) DatumGetPointer(tr_arg(fcinfo, 0, "token_id"));
	by = tr_arg_duration(fcinfo, 1, "by");

	tr_section_begin(&section);
	open = lock_open(id, &token, &now);
	if (open)
	{
		if (by > token.life.expires_at - token.life.overlap_ends_at)
			tr_raise_value("overlap is out of range", "It would end after the token's own expiry.",
						   "Extend it by less, or issue a new token.");
		token.life.overlap_ends_at += by;
		store_predecessor(&token, now);
		tr_delivery_move_end(token.id, token.life.overlap_ends_at);
		tr_note_begin(&event, TR_EVENT_OVERLAP_EXTENDED, &token);
		tr_audit_write(&event, tr_note_window(&token));
		tr_xact_visit_at(token.life.overlap_ends_at);
	}
	tr_section_end(&section);
	if (!open)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(token.life.overlap_ends_at);
}

PG_FUNCTION_INFO_V1(tr_finish_overlap);

/*
 * tr_finish_overlap(token_id): was a window open, which this call ended?
 */
Datum
tr_finish_overlap(PG_FUNCTION_ARGS)
{
	const uint8 *id;
	TrSection section;
	TrToken token;
	TrEvent event;
	TimestampTz now;
	bool open;

	tr_catalog();
	tr_xact_writes("tr_finish_overlap()");
	id = (const uint8 *) DatumGetPointer(tr_arg(fcinfo, 0, "token_id"));

	tr_section_begin(&section);
	open = lock_open(id, &token, &now) &&
		   tr_life_step(token.life.status, TR_STEP_END_OVERLAP, &token.life.status);
	if (open)
	{
		token.life.overlap_ends_at = Min(now, token.life.overlap_ends_at);
		store_predecessor(&token, now);
		/* the server may have started the rotation of a successor that waits */
		if (token.has_predecessor && !tr_use_seen(token.id))
			tr_pending_remove(token.id, NULL, NULL);
		tr_delivery_erase(token.id);
		tr_note_begin(&event, TR_EVENT_OVERLAP_FINISHED, &token);
		tr_audit_write(&event, NULL);
		tr_stats_at_commit(token.policy, TR_STAT_OVERLAP_FINISHED);
	}
	tr_section_end(&section);
	PG_RETURN_BOOL(open);
}

/*
 * Revoke the unused successor and take it out of the line; 55000 if it was used.
 */
static void
revoke_successor(TrToken *successor, TimestampTz now)
{
	TrCached cached;

	tr_cache_lock(successor->id, &cached);
	if (successor->life.status != TR_ACTIVE || successor->first_used_at != TR_NEVER ||
		cached.first_used_at != TR_NEVER || cached.last_used_at != TR_NEVER ||
		tr_use_seen(successor->id))
		tr_raise_state("successor was used", "Its client has the new token already.",
					   "Rotate or revoke the successor instead.");
	tr_life_step(successor->life.status, TR_STEP_REVOKE, &successor->life.status);
	successor->has_predecessor = false;
	successor->revoked_at = now;
	successor->revoked_reason = cstring_to_text("rotation cancelled");
	tr_store_update(successor);
	tr_cache_drop(successor->id);
	tr_pending_remove(successor->id, NULL, NULL);
}

PG_FUNCTION_INFO_V1(tr_cancel_rotation);

/*
 * tr_cancel_rotation(token_id): was it rotating, and is active again?
 */
Datum
tr_cancel_rotation(PG_FUNCTION_ARGS)
{
	const uint8 *id;
	TrSection section;
	TrToken token;
	TrToken successor;
	TrEvent event;
	TimestampTz now;
	bool cancelled;
	bool claimed;

	tr_catalog();
	tr_xact_writes("tr_cancel_rotation()");
	id = (const uint8 *) DatumGetPointer(tr_arg(fcinfo, 0, "token_id"));

	tr_section_begin(&section);
	cancelled = lock_open(id, &token, &now);
	/* the server may have opened the window, and nobody has claimed it */
	claimed = cancelled && token.life.rotated_at != TR_NEVER;
	if (claimed)
		cancelled = tr_store_lock_successor(&token, &successor);
	if (cancelled)
	{
		if (claimed)
		{
			revoke_successor(&successor, now);
			tr_delivery_erase(successor.id);
		}
		tr_life_step(token.life.status, TR_STEP_CANCEL_ROTATION, &token.life.status);
		token.life.rotated_at = TR_NEVER;
		token.life.overlap_ends_at = TR_FOREVER;
		token.life.replay_ends_at = TR_NEVER;
		tr_store_update(&token);
		tr_cache_update(&token, NULL);
		tr_note_begin(&event, TR_EVENT_ROTATION_CANCELLED, &token);
		event.has_successor = claimed;
		if (claimed)
			memcpy(event.successor, successor.id, TR_ID_BYTES);
		tr_audit_write(&event, NULL);
		tr_stats_at_commit(token.policy, TR_STAT_ROTATION_CANCELLED);
	}
	tr_section_end(&section);
	PG_RETURN_BOOL(cancelled);
}
