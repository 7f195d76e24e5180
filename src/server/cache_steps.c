/*
 * cache_steps.c
 *	  What a worker does to keep token_cache: see cache_steps.h.
 */
#include "postgres.h"

#include "frame/stop_point.h"
#include "frame/visits.h"
#include "server/cache_steps.h"
#include "server/step.h"
#include "state/upkeep.h"

/* Rows that one transaction handles. */
#define CACHE_BATCH 2000

/*
 * Compare the cache with token, once after each start of the server: it
 * survives a clean restart, and who knows what happened meanwhile.  A row that
 * cannot be judged because its token is locked stops this until a later visit.
 */
static void
reconcile_cache(TrDatabase *here)
{
	uint8 cursor[TR_ID_BYTES];
	bool moved;

	do
	{
		TrSection section;
		int count;

		memcpy(cursor, here->reconcile_cursor, TR_ID_BYTES);
		tr_step_begin(&section);
		count = tr_upkeep_reconcile(cursor, CACHE_BATCH);
		tr_step_commit(&section);
		moved = memcmp(cursor, here->reconcile_cursor, TR_ID_BYTES) != 0;
		memcpy(here->reconcile_cursor, cursor, TR_ID_BYTES);
		if (count < CACHE_BATCH)
			pg_atomic_write_u32(&here->cache_trusted, 1);
		tr_step_settled();
		if (count < CACHE_BATCH)
			return;
	} while (moved && tr_step_go_on());
	if (!moved)
		tr_step_visit_by(tr_step_again());
}

/*
 * Fill the cache from where the visit before stopped.  A pass that had to leave
 * tokens out, because they were locked, is followed by another one; so is one
 * during which somebody changed tokens by hand, maybe behind the cursor, or
 * truncated the cache, which gave it another file.
 */
static void
fill_cache(TrDatabase *here)
{
	static const uint8 start[TR_ID_BYTES] = {0};
	bool left_out;
	int count;

	do
	{
		uint8 cursor[TR_ID_BYTES];
		TrSection section;
		int skipped = here->fill_skipped;

		memcpy(cursor, here->fill_cursor, TR_ID_BYTES);
		/* the count first: what it counts is seen by what is read after it */
		if (memcmp(cursor, start, TR_ID_BYTES) == 0)
			here->by_hand_seen = pg_atomic_read_u32(&here->by_hand);
		pg_memory_barrier();
		tr_step_begin(&section);
		if (memcmp(cursor, start, TR_ID_BYTES) == 0)
			here->fill_file = tr_upkeep_cache_file();
		count = tr_upkeep_fill(cursor, CACHE_BATCH, &skipped);
		TR_STOP_POINT("cache_copied");
		if (tr_upkeep_cache_file() != here->fill_file)
			skipped++;
		left_out = skipped > 0;
		if (count < CACHE_BATCH)
		{
			if (skipped == 0 && pg_atomic_read_u32(&here->by_hand) == here->by_hand_seen)
				tr_upkeep_set_complete();
			memset(cursor, 0, TR_ID_BYTES);
			skipped = 0;
		}
		tr_step_commit(&section);
		memcpy(here->fill_cursor, cursor, TR_ID_BYTES);
		here->fill_skipped = skipped > 0;
		tr_step_settled();
	} while (count == CACHE_BATCH && tr_step_go_on());
	if (count < CACHE_BATCH && left_out)
		tr_step_visit_by(tr_step_again());
}

void
tr_cache_keep(void)
{
	TrDatabase *here = tr_visits_here();
	TrSection section;
	bool complete;

	if (pg_atomic_read_u32(&here->cache_trusted) == 0)
		reconcile_cache(here);
	if (pg_atomic_read_u32(&here->cache_trusted) == 0)
		return;

	tr_step_begin(&section);
	if (pg_atomic_read_u32(&here->by_hand) != here->by_hand_seen)
		tr_upkeep_unset_complete();
	complete = tr_upkeep_complete();
	tr_step_commit(&section);
	tr_step_settled();
	/* where somebody has the mark locked it stays, and is looked at again */
	if (!complete)
		fill_cache(here);
}
