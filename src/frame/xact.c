/*
 * xact.c
 *	  What a transaction that changes tokens owes at its end: see xact.h.
 *
 * The flags are of the top-level transaction.  A savepoint that is rolled back
 * leaves them set: committing synchronously without need costs little, and a
 * prepared transaction that should not be costs much.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/stop_point.h"
#include "frame/visits.h"
#include "frame/xact.h"

static bool writes = false;
static bool by_hand = false;
static TimestampTz visit_at = TR_FOREVER;

/*
 * Whatever the session says, what was acknowledged is durable, and has reached
 * a synchronous standby where there is one (ForceSyncCommit alone does not
 * wait for that).  Done at pre-commit, because a SET LOCAL may come after the
 * verb; the commit itself puts the setting back.
 */
static void
raise_synchronous_commit(void)
{
	ForceSyncCommit();
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
						  true, 0, false);
}

/*
 * At the end of the top-level transaction.
 */
static void
at_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (writes)
			{
				raise_synchronous_commit();
				TR_STOP_POINT("before_commit");
			}
			return;

		case XACT_EVENT_PRE_PREPARE:
			if (writes)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that changed tokens"),
						 errdetail("A prepared transaction could hide a revocation for days."),
						 errhint("Commit it with COMMIT.")));
			return;

		case XACT_EVENT_COMMIT:
			if (writes)
				TR_STOP_POINT("after_commit");
			/* not earlier: who reads the new count must see the rows */
			if (by_hand && tr_visits_here() != NULL)
				pg_atomic_fetch_add_u32(&tr_visits_here()->by_hand, 1);
			if (visit_at != TR_FOREVER)
				tr_visits_ask(visit_at);
			break;

		default:
			break;
	}
	writes = false;
	by_hand = false;
	visit_at = TR_FOREVER;
}

void
tr_xact_writes(const char *verb)
{
	PreventCommandDuringRecovery(verb);
	PreventCommandIfReadOnly(verb);
	PreventCommandIfParallelMode(verb);
	writes = true;
}

bool
tr_xact_may_have_made(TimestampTz issued_at)
{
	return writes && issued_at >= GetCurrentTransactionStartTimestamp();
}

void
tr_xact_visit_at(TimestampTz when)
{
	if (when < visit_at)
		visit_at = when;
}

void
tr_xact_by_hand(void)
{
	by_hand = true;
	tr_xact_visit_at(GetCurrentTimestamp());
}

void
tr_xact_init(void)
{
	RegisterXactCallback(at_end, NULL);
}
