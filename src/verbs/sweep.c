/*
 * sweep.c
 *	  tr_sweep and tr_prune: recording ends, and forgetting what ended long ago.
 *
 * Validity never waits for a sweep: the verdict weighs the time itself.  A
 * sweep makes the stored status agree with it, so that no setting and no clock
 * revives what has ended.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/delivery.h"
#include "state/pending.h"
#include "state/stats.h"
#include "state/store.h"
#include "state/store_bulk.h"
#include "verbs/args.h"
#include "verbs/note.h"
#include "verbs/sweep.h"
#include "verbs/use.h"

/* What is known of a window that ends. */
typedef struct End
{
	bool unclaimed; /* the server had opened it, and nobody came */
	bool waited;	/* it waited to the end for the first use of this successor */
	bool used;		/* the successor is being used right now */
	uint8 successor[TR_ID_BYTES];
} End;

/*
 * Was the successor of a token ever used?  If it was not when the window ends,
 * its client has probably lost access.
 */
static bool
successor_used(const TrToken *token)
{
	uint8 successor[TR_ID_BYTES];
	TrToken cached;
	Snapshot snapshot;
	bool used;

	if (!tr_store_find_successor(token->id, successor, &used))
		return false;
	if (used || tr_use_seen(successor))
		return true;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	used = tr_cache_read(successor, snapshot, &cached) &&
		   (cached.first_used_at != TR_NEVER || cached.last_used_at != TR_NEVER);
	UnregisterSnapshot(snapshot);
	return used;
}

/*
 * Count an end.
 */
static void
count_end(const TrToken *token, TrStep step, const End *end)
{
	TrStat stat = TR_STAT_EXPIRED;

	if (end->unclaimed)
		stat = TR_STAT_OVERLAP_UNCLAIMED;
	else if (end->waited)
		stat = TR_STAT_OVERLAP_UNUSED;
	else if (step == TR_STEP_END_OVERLAP)
		stat = end->used || successor_used(token) ? TR_STAT_OVERLAP_USED : TR_STAT_OVERLAP_UNUSED;
	tr_stats_at_commit(token->policy, stat);
}

/*
 * Write the audit row of an end.
 */
static void
audit_end(const char *name, const TrToken *token, const uint8 *successor, const char *reason)
{
	TrEvent event;

	tr_note_begin(&event, name, token);
	event.has_successor = successor != NULL;
	if (successor != NULL)
		memcpy(event.successor, successor, TR_ID_BYTES);
	strlcpy(event.reason, reason, sizeof(event.reason));
	tr_audit_write(&event, NULL);
}

/*
 * What the trail has of an end.  Ordinary expiries are in the row of their making;
 * what became of a window, or of a successor that nobody used, is told.
 */
static void
audit(const TrToken *token, TrStep step, const End *end)
{
	if (end->unclaimed)
		audit_end(TR_EVENT_OVERLAP_ENDED, token, NULL, "unclaimed");
	else if (end->waited)
		audit_end(TR_EVENT_OVERLAP_ENDED, token, end->successor, "unused");
	else if (step == TR_STEP_END_OVERLAP)
		audit_end(TR_EVENT_OVERLAP_ENDED, token, NULL, "");

	/* a use that the worker has not stored yet is told when it is */
	if (token->has_predecessor && !tr_use_seen(token->id) &&
		tr_pending_remove(token->id, NULL, NULL))
		audit_end(TR_EVENT_EXPIRED, token, NULL, "unused");
}

/*
 * The nonce outlives a short window.
 */
static void
keep_nonce(const TrToken *token, bool in_cache, const TrCached *cached, TimestampTz now)
{
	if (in_cache && token->life.replay_ends_at > now)
		tr_cache_update(token, cached->has_nonce ? cached->nonce : NULL);
	else
		tr_cache_drop(token->id);
}

void
tr_sweep_end(TrToken *token, TrStep step, bool used, TimestampTz now)
{
	TrCached cached;
	bool in_cache = tr_cache_lock(token->id, &cached);
	bool rotating = token->life.status == TR_ROTATING;
	bool rotated = token->life.rotated_at != TR_NEVER;
	End end = {.unclaimed = rotating && !rotated, .used = used};

	end.waited =
		rotated && tr_pending_successor(token->id, end.successor) && !tr_use_seen(end.successor);
	if (!tr_life_step(token->life.status, step, &token->life.status))
		elog(ERROR, "a token that is due has no such step");
	/* it lived to its own expiry because windows were not enforced */
	if (step == TR_STEP_EXPIRE && rotating)
		token->life.overlap_ends_at = token->life.expires_at;
	/* nor does a clock that is set back open a replay window again that is over */
	if (token->life.replay_ends_at <= now)
		token->life.replay_ends_at = TR_NEVER;
	if (token->first_used_at == TR_NEVER)
		token->first_used_at = cached.first_used_at;
	token->last_used_at = Max(token->last_used_at, cached.last_used_at);
	tr_store_update(token);
	TR_STOP_POINT("sweep_half");
	keep_nonce(token, in_cache, &cached, now);
	tr_wipe(&cached, sizeof(cached));

	audit(token, step, &end);
	count_end(token, step, &end);
}

int
tr_sweep_run(ArrayType *realms, int max, TimestampTz *next)
{
	TrRules rules = tr_rules();
	TimestampTz now = GetCurrentTimestamp();
	List *due = tr_store_lock_due(now, &rules, realms, max);
	ListCell *cell;
	int ended = 0;

	TR_STOP_POINT("sweep_selected");
	foreach (cell, due)
	{
		TrToken *token = lfirst(cell);
		TrStep step;

		if (!tr_life_due(&token->life, now, &rules, &step))
			continue;
		tr_sweep_end(token, step, false, now);
		ended++;
	}
	tr_delivery_erase_ended(now, realms, max);
	if (next != NULL)
		*next = tr_store_next_due(now, &rules);
	return ended;
}

PG_FUNCTION_INFO_V1(tr_sweep);

/*
 * tr_sweep(max_tokens): how many ends this call recorded.
 */
Datum
tr_sweep(PG_FUNCTION_ARGS)
{
	TrSection section;
	int32 max;
	int ended;

	tr_catalog();
	tr_xact_writes("tr_sweep()");
	max = tr_arg_max(fcinfo, 0);

	tr_section_begin(&section);
	ended = tr_sweep_run(tr_realm_array_of_caller(), max, NULL);
	tr_section_end(&section);
	PG_RETURN_INT32(ended);
}

PG_FUNCTION_INFO_V1(tr_prune);

/*
 * tr_prune(before, max_tokens): how many tokens this call deleted.
 */
Datum
tr_prune(PG_FUNCTION_ARGS)
{
	TimestampTz before;
	TrSection section;
	TrEvent event;
	List *pruned;
	ListCell *cell;
	int32 max;

	tr_catalog();
	tr_xact_writes("tr_prune()");
	before = DatumGetTimestampTz(tr_arg(fcinfo, 0, "before"));
	if (TIMESTAMP_NOT_FINITE(before))
		tr_raise_value("before is out of range", "It must be a finite moment.",
					   "Pass a moment like now() - interval '90 days'.");
	max = tr_arg_max(fcinfo, 1);

	tr_section_begin(&section);
	pruned = tr_store_prune(before, tr_realm_array_of_caller(), max);
	/* the cache may still have one whose replay window is open; a use may have been lost */
	foreach (cell, pruned)
	{
		const uint8 *id = ((pg_uuid_t *) lfirst(cell))->data;

		tr_cache_drop(id);
		tr_pending_remove(id, NULL, NULL);
		tr_delivery_erase(id);
	}
	if (pruned != NIL)
	{
		tr_event_begin(&event, TR_EVENT_PRUNED);
		tr_audit_write(&event, psprintf("{\"before\": \"%s\", \"tokens\": %d}",
										tr_event_moment(before), list_length(pruned)));
	}
	tr_section_end(&section);
	PG_RETURN_INT32(list_length(pruned));
}
