/*
 * reuse.c
 *	  A token that must be dead is used for rotating: see reuse.h.
 *
 * Who did it and what it ends are one event, written in the caller's transaction
 * together with the revocations, so that the answer "reuse" is as durable as they
 * are.  A back end that rolls back on any refusal, or a thief who reaches one that
 * does, must not undo that: the event is kept until the transaction has
 * committed, and if the transaction or the savepoint goes, it goes into the ring,
 * from which the worker does it all again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "frame/settings.h"
#include "state/audit.h"
#include "state/cutoff.h"
#include "state/policy.h"
#include "state/ring.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/ending.h"
#include "verbs/reuse.h"

/* What this transaction has done, in TopTransactionContext. */
typedef struct Done
{
	struct Done *next;
	int level; /* of the subtransaction */
	TrEvent event;
} Done;

static Done *dones = NULL;

/*
 * Did its holder rotate this token, by the trail's account?  Of an operator's
 * rotation he has not heard; of one that the trail has forgotten nobody knows.
 */
static bool
is_holders(const TrEvent *event)
{
	char origin[TR_EVENT_TEXT];
	char by[TR_EVENT_TEXT];

	tr_audit_rotation(event, origin, by);
	return strcmp(by, "holder") == 0;
}

/*
 * Is it a reuse?  The token and its successor are locked.
 */
static bool
is_reuse(TrRotate *rotate, const TrPolicy *policy, const TrEvent *event)
{
	TrToken *successor = &rotate->successor;
	TrRules rules = tr_rules();
	TrReason verdict = tr_life_verdict(&rotate->token.life, rotate->now, &rules);
	bool rotated = successor->life.rotated_at != TR_NEVER;

	/* what was ended on purpose needs no second end */
	if (successor->life.status == TR_REVOKED && !rotated)
		return false;
	return tr_life_reused(&rotate->token.life, verdict, rotated,
						  !rotated && tr_replay_accepted(successor), policy->ttl, rotate->now,
						  &rules) &&
		   is_holders(event);
}

/*
 * End what the policy says, and write the event.
 */
static void
act(const TrToken *token, const TrPolicy *policy, TrEvent *event)
{
	static const char *const measures[] = {
		[TR_REUSE_AUDIT] = "audit",
		[TR_REUSE_SUCCESSOR] = "revoke_successor",
		[TR_REUSE_FAMILY] = "revoke_family",
	};
	int ended = 0;

	if (policy->on_reuse != TR_REUSE_AUDIT)
		ended = tr_end_family(
			token->id, policy->on_reuse == TR_REUSE_FAMILY ? -1 : token->generation, "reuse");
	strlcpy(event->reason, measures[policy->on_reuse], sizeof(event->reason));
	tr_audit_write(event, psprintf("{\"ended\": %d}", ended));
}

/*
 * Begin the event, in memory that lives as long as the transaction.
 */
static Done *
begin_event(const TrRotate *rotate)
{
	Done *done = MemoryContextAlloc(TopTransactionContext, sizeof(Done));

	tr_note_begin(&done->event, TR_EVENT_REUSE, &rotate->token);
	done->event.has_successor = true;
	memcpy(done->event.successor, rotate->successor.id, TR_ID_BYTES);
	if (rotate->origin != NULL)
		tr_event_text(done->event.origin, VARDATA_ANY(rotate->origin),
					  VARSIZE_ANY_EXHDR(rotate->origin));
	return done;
}

TrReason
tr_reuse(TrRotate *rotate, TrReason reason)
{
	TrToken *token = &rotate->token;
	TrPolicy policy;
	Done *done;

	if (reason == TR_DISABLED || !tr_policy_read(text_to_cstring(token->policy), &policy) ||
		!tr_store_lock_successor(token, &rotate->successor))
		return reason;
	done = begin_event(rotate);
	if (!is_reuse(rotate, &policy, &done->event))
	{
		pfree(done);
		return reason;
	}

	/* from here on it is done again, whatever comes */
	done->level = GetCurrentTransactionNestLevel();
	done->next = dones;
	dones = done;
	tr_stats_add(tr_stats_of(token->policy), TR_STAT_ROTATION_REFUSED + TR_REUSE, 1);
	act(token, &policy, &done->event);
	return TR_REUSE;
}

/*
 * Read the token of an event as it is now.  false: it is gone.
 */
static bool
read_again(TrRotate *rotate, const TrEvent *event)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool found = tr_store_read(event->token, snapshot, &rotate->token);

	if (found)
		tr_cutoff_apply(&rotate->token, snapshot);
	UnregisterSnapshot(snapshot);
	rotate->now = GetCurrentTimestamp();
	return found;
}

bool
tr_reuse_again(TrEvent *event)
{
	TrRotate rotate = {0};
	TrPolicy policy;

	if (read_again(&rotate, event) && tr_policy_read(text_to_cstring(rotate.token.policy), &policy))
	{
		if (!tr_store_try_family(&rotate.token))
			return false;
		/* under the lock it may be another by now, and its successor may never have been */
		if (read_again(&rotate, event) &&
			tr_store_lock_successor(&rotate.token, &rotate.successor) &&
			memcmp(rotate.successor.id, event->successor, TR_ID_BYTES) == 0 &&
			is_reuse(&rotate, &policy, event))
		{
			act(&rotate.token, &policy, event);
			return true;
		}
	}
	strlcpy(event->reason, "rolled back", sizeof(event->reason));
	tr_audit_write(event, "{\"ended\": 0}");
	return true;
}

/*
 * At the end of the top-level transaction.
 */
static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
	{
		for (; dones != NULL; dones = dones->next)
			tr_ring_put_waiting(&dones->event);
	}
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		dones = NULL;
}

/*
 * At the end of a subtransaction: what it did becomes its parent's, or is undone.
 */
static void
at_subend(SubXactEvent event, SubTransactionId self, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();
	Done **link = &dones;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (*link != NULL)
	{
		Done *done = *link;

		if (done->level >= level && event == SUBXACT_EVENT_ABORT_SUB)
		{
			tr_ring_put_waiting(&done->event);
			*link = done->next;
			continue;
		}
		if (done->level >= level)
			done->level = level - 1;
		link = &done->next;
	}
}

void
tr_reuse_init(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subend, NULL);
}
