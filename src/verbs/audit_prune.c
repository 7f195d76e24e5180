/*
 * audit_prune.c
 *	  tr_audit_prune: retention of the audit trail.
 *
 * Rows go by whole seals.  The seals stay, without their lists: they are small,
 * the chain needs them, and a head that was saved when they were new can still be
 * looked up.  That rows were pruned is itself an event; it tells until when, so
 * that verification knows which lists may be missing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/seal_lock.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/seal.h"
#include "state/trail.h"
#include "verbs/args.h"
#include "verbs/seal.h"

/* What was done. */
typedef struct Pruned
{
	int64 rows;
	int64 seals;
	int64 changed; /* seals whose list or rows were not what was sealed */
} Pruned;

/*
 * Remove the rows of a seal.  It is the last chance to see what somebody has done
 * to them.
 */
static void
prune_seal(const TrSeal *seal, TrTrail *trail, Pruned *pruned)
{
	int64 good;

	if (tr_seal_check_list(seal, trail, &good) != TR_LIST_GOOD)
		pruned->changed++;
	pruned->rows += tr_trail_remove(seal->seqs, (int) seal->listed);
	tr_seal_empty(seal->segment, seal->number);
	pruned->seals++;
}

/*
 * Remove the rows of all seals whose rows are older than that.
 */
static void
prune(TimestampTz before, Pruned *pruned)
{
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext context =
		AllocSetContextCreate(outer, "token_rotation seal", ALLOCSET_DEFAULT_SIZES);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TrTrail trail;
	TrRows rows;
	TrSeal seal;

	tr_trail_open(&trail, snapshot);
	tr_seals_begin(&rows, snapshot);
	MemoryContextSwitchTo(context);
	while (tr_seals_next(&rows, &seal))
	{
		CHECK_FOR_INTERRUPTS();
		if (seal.seqs != NULL && seal.rows > 0 && seal.newest_at < before)
			prune_seal(&seal, &trail, pruned);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(outer);
	tr_seals_end(&rows);
	tr_trail_close(&trail);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(context);
}

/*
 * Tell that it was done.  What earlier events told is told again, for they may
 * be gone now: before_us counts as timestamptz does, from 2000 on.
 */
static void
tell(TimestampTz before, TimestampTz told, const Pruned *pruned)
{
	TrEvent event;

	tr_event_begin(&event, TR_EVENT_AUDIT_PRUNED);
	tr_audit_write(&event, psprintf("{\"before\": \"%s\", \"before_us\": " INT64_FORMAT
									", \"rows\": " INT64_FORMAT ", \"seals\": " INT64_FORMAT
									", \"changed\": " INT64_FORMAT "}",
									tr_event_moment(before), Max(before, told), pruned->rows,
									pruned->seals, pruned->changed));
	if (pruned->changed > 0)
		ereport(WARNING,
				(errmsg(INT64_FORMAT " of " INT64_FORMAT
									 " seals had other rows than those that were sealed",
						pruned->changed, pruned->seals),
				 errdetail("Somebody has changed or removed rows of the audit trail."),
				 errhint("Roll back, and see what tr_audit_verify() says. After a commit the event "
						 "audit_pruned tells it.")));
}

PG_FUNCTION_INFO_V1(tr_audit_prune);

/*
 * SQL: tr_audit_prune(before timestamptz)
 */
Datum
tr_audit_prune(PG_FUNCTION_ARGS)
{
	TimestampTz before;
	TimestampTz told;
	Pruned pruned = {0};
	TrSection section;

	tr_catalog();
	tr_require_owner("tr_audit_prune()");
	tr_xact_writes("tr_audit_prune()");
	before = DatumGetTimestampTz(tr_arg(fcinfo, 0, "before"));
	if (TIMESTAMP_NOT_FINITE(before) || before > GetCurrentTimestamp())
		tr_raise_value("before is out of range", "It must be a finite moment that has passed.",
					   "Pass a moment like now() - interval '2 years'.");

	tr_section_begin(&section);
	tr_seal_lock_wait();
	told = tr_trail_pruned_before();
	prune(before, &pruned);
	if (pruned.seals > 0)
		tell(before, told, &pruned);
	tr_section_end(&section);
	PG_RETURN_INT64(pruned.rows);
}
