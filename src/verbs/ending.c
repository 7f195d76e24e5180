/*
 * ending.c
 *	  Ending tokens for good: see ending.h.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/stop_point.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/delivery.h"
#include "state/pending.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/ending.h"
#include "verbs/note.h"

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
 * The replay window of a token that has ended by itself.
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

bool
tr_end_token(TrToken *token, TimestampTz now, const char *reason)
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
	if (token->has_predecessor)
		tr_pending_remove(token->id, NULL, NULL);
	tr_delivery_erase(token->id);
	record(token, reason, NULL);
	tr_stats_at_commit(token->policy, TR_STAT_REVOKED);
	return true;
}

int
tr_end_family(const uint8 *id, int generation, const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell *cell;
	int ended = 0;

	foreach (cell, tr_store_lock_family(id))
	{
		TrToken *token = lfirst(cell);

		if (token->generation > generation)
			ended += tr_end_token(token, now, reason) ? 1 : 0;
	}
	return ended;
}
