/*
 * first_use.c
 *	  The first use of a successor that was pending: see first_use.h.
 *
 * A validation writes nothing.  It counts the use in shared memory, and asks the
 * worker to come, again and again until the use is stored (state/usage.c).  The
 * worker stores it in the transaction that opens the window.  A crash before that
 * loses the use: the predecessor lives on, and the next validation signals anew.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/delivery.h"
#include "state/pending.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/first_use.h"
#include "verbs/note.h"
#include "verbs/sweep.h"

/*
 * Store the window of a locked predecessor, which may be over already, so long
 * did it wait for us.
 */
static void
store_window(TrToken *token, int64 overlap)
{
	TrRules rules = tr_rules();

	/* nobody grants leeway to a window of no length */
	if (overlap == 0 && rules.overlap_enforced)
	{
		tr_sweep_end(token, TR_STEP_END_OVERLAP, true, GetCurrentTimestamp());
		return;
	}
	tr_store_update(token);
	TR_STOP_POINT("first_use_half");
	tr_cache_update_keeping(token);
	tr_xact_visit_at(token->life.overlap_ends_at);
}

void
tr_first_use(const uint8 *id, TimestampTz at)
{
	uint8 predecessor[TR_ID_BYTES];
	TrToken token;
	TrEvent event;
	int64 overlap;
	bool rotating;

	if (!tr_pending_remove(id, predecessor, &overlap) || !tr_store_lock(predecessor, &token))
		return;
	rotating = token.life.status == TR_ROTATING;
	if (rotating)
	{
		/* the clock may have been set back since the rotation */
		at = Max(at, token.life.rotated_at);
		if (overlap < token.life.overlap_ends_at - at)
			token.life.overlap_ends_at = at + overlap;
	}

	tr_note_begin(&event, TR_EVENT_FIRST_USED, &token);
	event.has_successor = true;
	memcpy(event.successor, id, TR_ID_BYTES);
	tr_audit_write(&event, rotating ? tr_note_window(&token) : NULL);
	if (rotating)
	{
		tr_delivery_move_end(token.id, token.life.overlap_ends_at);
		store_window(&token, overlap);
	}
	tr_stats_at_commit(token.policy, TR_STAT_FIRST_USED);
}

bool
tr_first_use_try(const uint8 *id, TimestampTz at)
{
	TrToken token;

	if (!tr_store_read_now(id, &token))
		return true;
	if (!tr_store_try_family(&token))
		return false;
	tr_first_use(id, at);
	return true;
}
