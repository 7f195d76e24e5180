/*
 * precommit.c
 *	  The last look at the cutoffs before a new token commits: see precommit.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "frame/catalog.h"
#include "frame/stop_point.h"
#include "state/cutoff.h"
#include "verbs/precommit.h"

/* A token to be checked at pre-commit; kept in TopTransactionContext. */
typedef struct Check
{
	struct Check *next;
	int level; /* transaction nest level that it belongs to */
	TimestampTz issued_at;
	text *client_id;
	text *policy;
	text *owner;
} Check;

static Check *checks = NULL;

/*
 * Copy a text into the memory of the transaction.
 */
static text *
keep_text(const text *value)
{
	return (text *) DatumGetPointer(datumCopy(PointerGetDatum(value), false, -1));
}

void
tr_precommit_check(const TrToken *token)
{
	MemoryContext context = MemoryContextSwitchTo(TopTransactionContext);
	Check *check = palloc(sizeof(Check));

	check->level = GetCurrentTransactionNestLevel();
	check->issued_at = token->life.issued_at;
	check->client_id = keep_text(token->client_id);
	check->policy = keep_text(token->policy);
	check->owner = keep_text(token->owner);
	check->next = checks;
	checks = check;
	MemoryContextSwitchTo(context);
}

/*
 * The share lock of the protocol.  It is a lock on the table as an object, not
 * as a relation, so that nobody can take it with LOCK TABLE, and that taking
 * it does not cost every other backend its fast path.
 */
static void
check_all(void)
{
	const TrCatalog *catalog = tr_catalog();
	Snapshot snapshot;
	Check *check;

	LockDatabaseObject(RelationRelationId, catalog->cutoff, 0, ShareLock);
	TR_STOP_POINT("precommit_locked");
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (check = checks; check != NULL; check = check->next)
	{
		TrToken token = {0};

		token.client_id = check->client_id;
		token.policy = check->policy;
		token.owner = check->owner;
		tr_cutoff_apply(&token, snapshot);
		if (token.life.blocked || check->issued_at < token.life.cutoff)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("token was ended by a cutoff or a block while it was made"),
							errdetail("The client, the policy or everything was revoked or blocked "
									  "before this transaction committed."),
							errhint("Call again: the answer then tells the reason.")));
	}
	UnregisterSnapshot(snapshot);
	UnlockDatabaseObject(RelationRelationId, catalog->cutoff, 0, ShareLock);
}

/*
 * At the end of the top-level transaction.
 */
static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && checks != NULL)
		check_all();
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		checks = NULL;
}

/*
 * At the end of a subtransaction: its checks become its parent's, or go.
 */
static void
at_subend(SubXactEvent event, SubTransactionId self, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();
	Check **link = &checks;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (*link != NULL)
	{
		Check *check = *link;

		if (check->level < level)
			link = &check->next;
		else if (event == SUBXACT_EVENT_ABORT_SUB)
			*link = check->next;
		else
		{
			check->level = level - 1;
			link = &check->next;
		}
	}
}

void
tr_precommit_init(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subend, NULL);
}
