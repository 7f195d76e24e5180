/*
 * rotate_due.c
 *	  tr_rotate_due: rotations that the server starts.
 *
 * The server knows no secret that it could derive a successor from, and must hand
 * none to a scheduler's log.  So it opens the overlap window, and the holder claims
 * the successor with tr_rotate.  Whoever does not come is listed in
 * token_rotation.unclaimed, and ends with his window.
 *
 * Under a policy that delivers, and with a key to encrypt to, the successor is made
 * at once, with a random secret that nobody here is shown (delivery.c).
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "core/lifecycle.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/circuit.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/token_hash.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/cutoff.h"
#include "state/pending.h"
#include "state/policy.h"
#include "state/stats.h"
#include "state/store.h"
#include "state/store_bulk.h"
#include "verbs/args.h"
#include "verbs/delivery.h"
#include "verbs/mint.h"
#include "verbs/note.h"
#include "verbs/rotate.h"

/* Rows that are locked at once. */
#define PAGE 500

/* A policy, and how many of its tokens this call has started. */
typedef struct Started
{
	TrPolicy policy;
	int count;
} Started;

/*
 * The policy of a token, read once a call.  NULL: somebody has deleted it.
 */
static Started *
started_of(List **all, const TrToken *token)
{
	const char *name = text_to_cstring(token->policy);
	Started *started;
	ListCell *cell;

	foreach (cell, *all)
	{
		started = lfirst(cell);
		if (strcmp(started->policy.name, name) == 0)
			return started;
	}
	started = palloc0(sizeof(Started));
	if (!tr_policy_read(name, &started->policy))
		return NULL;
	*all = lappend(*all, started);
	return started;
}

/*
 * Would the holder of this locked token get a successor now?  If not, a window
 * would only end his token early.
 */
static bool
may_start(TrToken *token, TimestampTz now)
{
	TrRules rules = tr_rules();
	TrReason reason;

	tr_cutoff_apply_now(token);
	return token->life.status == TR_ACTIVE && token->life.expires_at > now &&
		   tr_life_rotation(&token->life, now, &rules, &reason) == TR_ROTATION_MAKE &&
		   tr_token_hash_check_row(token) == TR_OK;
}

/*
 * Make the successor of a locked token and deliver it.  false: it cannot be made,
 * or somebody holds one of its family.
 */
static bool
make_delivery(const TrToken *token, const TrDeliveryKey *key)
{
	TrRotate rotate = {.by_id = true, .sealed_to = key->fingerprint, .token = *token};
	bool made;

	/* what this takes is given back for each token: there may be thousands */
	SPI_connect();
	made = tr_store_try_family(token) && tr_rotate_locked(&rotate) == TR_OK;
	if (made)
		tr_deliver(&rotate, key);
	SPI_finish();
	return made;
}

/*
 * Open the window of a locked token.
 */
static void
open_window(TrToken *token, const TrPolicy *policy, TimestampTz now)
{
	int64 length = tr_policy_started(policy);
	TrEvent event;

	if (!tr_life_step(token->life.status, TR_STEP_OPEN_WINDOW, &token->life.status))
		elog(ERROR, "a token that may be rotated has no such step");
	token->life.overlap_ends_at =
		length < token->life.expires_at - now ? now + length : token->life.expires_at;
	token->refresh_at = Min(token->refresh_at, now);
	tr_store_update(token);
	TR_STOP_POINT("window_half");
	tr_cache_update(token, NULL);
	tr_xact_visit_at(token->life.overlap_ends_at);

	tr_note_begin(&event, TR_EVENT_ROTATION_STARTED, token);
	if (policy->sealed)
		strlcpy(event.reason, "no_delivery_key", sizeof(event.reason));
	tr_audit_write(&event, tr_note_window(token));
	tr_stats_at_commit(token->policy,
					   policy->sealed ? TR_STAT_ROTATION_KEYLESS : TR_STAT_ROTATION_STARTED);
}

/*
 * Start the rotation of a locked token.  Where there is no key to deliver to its
 * window is opened all the same: its holder may come after all, and whoever does
 * not is listed.
 */
static bool
start(TrToken *token, const TrPolicy *policy, TimestampTz now)
{
	TrDeliveryKey key;

	/* a family that is too old gets no successor, and no shorter life either */
	if (policy->max_family_age != PG_INT64_MAX &&
		now - tr_store_family_birth(token) >= policy->max_family_age)
		return false;
	/* nor does one that still waits to be fetched */
	if (policy->sealed && tr_pending_waits(token->id))
		return false;
	if (policy->sealed && tr_deliver_key(token, now, &key))
		return make_delivery(token, &key);
	open_window(token, policy, now);
	return true;
}

/*
 * Start up to max rotations.  Tokens that cannot be rotated are passed over, how
 * many there may be.
 */
static List *
start_due(const char *policy, ArrayType *realms, int max)
{
	TimestampTz now = GetCurrentTimestamp();
	TrDueToken after = {.due = TR_NEVER};
	List *all = NIL;
	List *due;
	int count = 0;

	while (count < max && (due = tr_store_lock_refreshable(now, policy, realms,
														   Min(max - count, PAGE), &after)) != NIL)
	{
		ListCell *cell;

		foreach (cell, due)
		{
			const TrDueToken *found = lfirst(cell);
			TrToken token;
			Started *started;

			CHECK_FOR_INTERRUPTS();
			/* not its family, which somebody may hold who waits for this row */
			if (!found->locked || !tr_store_read_now(found->id, &token) || !may_start(&token, now))
				continue;
			started = started_of(&all, &token);
			if (started == NULL || !start(&token, &started->policy, now))
				continue;
			started->count++;
			count++;
		}
	}
	return all;
}

PG_FUNCTION_INFO_V1(tr_rotate_due);

/*
 * tr_rotate_due(policy, max_tokens): how many rotations of which policy this call
 * started.
 */
Datum
tr_rotate_due(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *policy = PG_ARGISNULL(0) ? NULL : tr_arg_name(fcinfo, 0, "policy");
	List *all = NIL;
	TrSection section;
	ListCell *cell;
	bool held_up;
	int32 max;

	tr_catalog();
	held_up = tr_circuit_refuses();
	if (!held_up)
		tr_xact_writes("tr_rotate_due()");
	max = tr_arg_max(fcinfo, 1);
	InitMaterializedSRF(fcinfo, 0);

	tr_section_begin(&section);
	if (policy != NULL)
	{
		TrPolicy known;

		tr_mint_policy(policy, &known);
	}
	if (tr_rotation_enabled && !held_up && tr_circuit_enter())
		all = start_due(policy, tr_realm_array_of_caller(), max);
	tr_section_end(&section);

	foreach (cell, all)
	{
		Started *started = lfirst(cell);
		Datum values[2];
		bool nulls[2] = {false, false};

		if (started->count == 0)
			continue;
		values[0] = CStringGetTextDatum(started->policy.name);
		values[1] = Int32GetDatum(started->count);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
