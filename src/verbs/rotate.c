/*
 * rotate.c
 *	  tr_rotate and tr_rotate_id: the successor of a token.
 *
 * A holder's rotation goes through these steps:
 *
 * 1. The secret, and the rotation key where one is needed, are matched without
 *	  a lock, so that nobody without them can lock or write anything.  While the
 *	  circuit is open (frame/circuit.h), nobody with them does either.
 * 2. The family is locked.  Of several rotations of one token the first makes
 *	  the successor; the others wait here and find it made.
 * 3. The lifecycle decides over what is true now: make, replay or refuse.  What
 *	  is refused may be the reuse of a dead token (reuse.c).
 * 4. Made: the successor's secret is derived from the proof and a fresh nonce,
 *	  which goes into the cache only.  Replayed: derived again (replay.c).
 * 5. At pre-commit the cutoffs are looked at once more (state/cutoff.c).
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/activity.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/circuit.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/token_hash.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/cutoff.h"
#include "state/pending.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/args.h"
#include "verbs/first_use.h"
#include "verbs/precommit.h"
#include "verbs/reuse.h"
#include "verbs/rotate.h"

#define COLUMNS (TR_MINT_COLUMNS + 4)

/*
 * Is the rotation key right, where the token needs one?  TR_OK, or why not.
 */
static TrReason
match_rotation_key(const text *key, TrPresented *presented, const TrToken *token)
{
	if (!token->has_rotation_hash)
		return TR_OK;
	if (key == NULL)
		return TR_PROOF_REQUIRED;
	if (!tr_present(key, presented))
		return TR_MALFORMED;
	return tr_present_match_key(presented, token) ? TR_OK : TR_BAD_SECRET;
}

/*
 * Does the window wait for the first use of the successor?  One that was asked for
 * begins at once.
 */
static bool
waits_for_use(const TrRotate *rotate, const TrPolicy *policy)
{
	return policy->first_use && !rotate->has_overlap;
}

/*
 * The overlap of this rotation: the policy's, longer where the server starts it, or
 * the one asked for, which only an operator may make longer; never past the token's
 * own expiry.
 */
static TimestampTz
overlap_end(const TrRotate *rotate, const TrPolicy *policy)
{
	const TrLife *life = &rotate->token.life;

	if (waits_for_use(rotate, policy))
		return life->expires_at;
	if (rotate->sealed_to != NULL)
		return Min(rotate->now + tr_policy_started(policy), life->expires_at);
	if (!rotate->has_overlap)
		return Min(rotate->now + policy->overlap, life->expires_at);
	if (!rotate->by_id && rotate->overlap > policy->overlap)
		tr_raise_value("overlap is out of range",
					   psprintf("Policy \"%s\" allows at most " INT64_FORMAT " seconds.",
								policy->name, policy->overlap / USECS_PER_SEC),
					   "Ask for a shorter overlap; only tr_rotate_id can lengthen it.");
	if (rotate->overlap > 0 && rotate->overlap > life->expires_at - rotate->now)
		tr_raise_value("overlap is out of range", "It would end after the token's own expiry.",
					   "Ask for a shorter overlap, or leave it out for the policy's.");
	return Min(rotate->now + rotate->overlap, life->expires_at);
}

/*
 * The successor's record, but for its hashes.  false: the family is too old.
 */
static bool
make_record(TrRotate *rotate, const TrPolicy *policy)
{
	const TrToken *token = &rotate->token;
	TrToken *successor = &rotate->successor;

	memset(successor, 0, sizeof(*successor));
	tr_mint_id(successor->id);
	memcpy(successor->family, token->family, TR_ID_BYTES);
	successor->generation = token->generation + 1;
	successor->has_predecessor = true;
	memcpy(successor->predecessor, token->id, TR_ID_BYTES);
	successor->prefix = cstring_to_text(policy->prefix);
	successor->client_id = token->client_id;
	successor->policy = token->policy;
	successor->owner = token->owner;
	successor->scopes =
		PointerGetDatum(tr_policy_allowed(policy, DatumGetArrayTypeP(token->scopes)));
	successor->metadata = token->metadata;
	successor->ttl = token->ttl;
	return tr_mint_life(successor, policy, rotate->now, tr_store_family_birth(token));
}

/*
 * The window that the server has opened for this token ends when it said, unless
 * somebody asks for another end: its holder for an earlier one only.
 */
static TimestampTz
claimed_overlap_end(const TrRotate *rotate, TimestampTz asked)
{
	TimestampTz opened = rotate->token.life.overlap_ends_at;

	if (!rotate->has_overlap)
		return opened;
	return rotate->by_id ? asked : Min(asked, opened);
}

/*
 * Change the predecessor: rotating from now on, or from its end on where it lives
 * by the leeway already.
 */
static void
begin_overlap(TrRotate *rotate, const TrPolicy *policy, const uint8 *nonce)
{
	TrToken *token = &rotate->token;
	TimestampTz ends = overlap_end(rotate, policy);
	bool claim = token->life.status == TR_ROTATING;

	if (claim)
		ends = claimed_overlap_end(rotate, ends);
	if (!tr_life_step(token->life.status, claim ? TR_STEP_CLAIM : TR_STEP_ROTATE,
					  &token->life.status))
		elog(ERROR, "a token that may be rotated has no such step");
	token->life.rotated_at = Min(rotate->now, ends);
	token->life.overlap_ends_at = ends;
	token->life.replay_ends_at =
		nonce == NULL ? TR_NEVER : Min(rotate->now + policy->replay_window, token->life.expires_at);
	tr_store_update(token);
	TR_STOP_POINT("rotate_half");
	tr_cache_update(token, nonce);
	tr_xact_visit_at(nonce == NULL ? ends : Min(ends, token->life.replay_ends_at));
}

/*
 * Record what became of it.
 */
static void
note_rotated(const TrRotate *rotate)
{
	TrStat stat = TR_STAT_ROTATED_HOLDER;
	const char *who = "holder";
	TrEvent event;

	if (rotate->sealed_to != NULL)
	{
		stat = TR_STAT_ROTATED_SEALED;
		who = "sealed";
	}
	else if (rotate->by_id)
	{
		stat = TR_STAT_ROTATED_OPERATOR;
		who = "operator";
	}
	tr_note_begin(&event, TR_EVENT_ROTATED, &rotate->token);
	event.has_successor = true;
	memcpy(event.successor, rotate->successor.id, TR_ID_BYTES);
	if (rotate->origin != NULL)
		tr_event_text(event.origin, VARDATA_ANY(rotate->origin), VARSIZE_ANY_EXHDR(rotate->origin));
	strlcpy(event.reason, who, sizeof(event.reason));
	tr_audit_write(&event, tr_note_made(&rotate->successor, &rotate->token, rotate->sealed_to));
	tr_stats_at_commit(rotate->token.policy, stat);
}

/*
 * Make the successor.
 */
static TrReason
make_successor(TrRotate *rotate)
{
	TrToken *successor = &rotate->successor;
	uint8 nonce[TR_NONCE_BYTES];
	TrPolicy policy;
	bool derived;

	tr_mint_policy(text_to_cstring(rotate->token.policy), &policy);
	if (!make_record(rotate, &policy))
		return TR_EXPIRED_REASON;

	derived =
		!rotate->by_id && policy.replay_window > 0 && rotate->now < rotate->token.life.expires_at;
	if (derived)
	{
		tr_mint_random(nonce, sizeof(nonce));
		tr_mint_derive(rotate->proof, nonce, rotate->token.id, successor->id,
					   policy.needs_rotation_key, &rotate->secrets);
	}
	else
		tr_mint_secrets(&policy, &rotate->secrets);
	tr_mint_hashes(successor, &rotate->secrets);

	/* who rotates a token uses it; after an operator the one before is as little wanted */
	tr_first_use(rotate->token.id, rotate->now);
	begin_overlap(rotate, &policy, derived ? nonce : NULL);
	tr_wipe(nonce, sizeof(nonce));
	tr_store_insert(successor);
	tr_cache_insert(successor);
	rotate->pending = waits_for_use(rotate, &policy);
	if (rotate->pending)
		tr_pending_insert(successor->id, rotate->token.id, policy.overlap);
	TR_STOP_POINT("rotate_made");

	note_rotated(rotate);
	tr_precommit_check(&rotate->token);
	return TR_OK;
}

/*
 * Decide over what is true now, and do it.
 */
TrReason
tr_rotate_locked(TrRotate *rotate)
{
	TrRules rules = tr_rules();
	TrRotation rotation;
	TrReason reason;
	TrLife life;

	rotate->now = GetCurrentTimestamp();
	tr_cutoff_apply_now(&rotate->token);

	/* an operator's rotation is never replayed */
	life = rotate->token.life;
	if (rotate->by_id)
		life.replay_ends_at = TR_NEVER;
	rotation = tr_life_rotation(&life, rotate->now, &rules, &reason);
	if (rotation != TR_ROTATION_REFUSE && !tr_circuit_enter())
	{
		rotate->held_up = true;
		return TR_DISABLED;
	}
	switch (rotation)
	{
		case TR_ROTATION_MAKE:
			return make_successor(rotate);
		case TR_ROTATION_REPLAY:
			reason = tr_replay(rotate);
			rotate->pending = reason == TR_OK && tr_pending_waits(rotate->successor.id);
			break;
		case TR_ROTATION_REFUSE:
			break;
	}
	return reason == TR_OK || rotate->by_id ? reason : tr_reuse(rotate, reason);
}

/*
 * The columns of the answer.  When the rotation is refused, all but reason are
 * NULL.
 */
static Datum
answer(FunctionCallInfo fcinfo, TrRotate *rotate, TrReason reason)
{
	/* tr_rotate and tr_rotate_id answer with the same columns */
	static TrAnswer kept;
	Datum values[COLUMNS];
	bool nulls[COLUMNS];

	memset(nulls, true, sizeof(nulls));
	if (reason == TR_OK)
	{
		TrRules rules = tr_rules();

		tr_mint_answer(&rotate->successor, &rotate->secrets, rotate->pending, values, nulls);
		values[TR_MINT_COLUMNS] = PointerGetDatum(rotate->token.id);
		values[TR_MINT_COLUMNS + 1] =
			TimestampTzGetDatum(tr_life_valid_until(&rotate->token.life, &rules));
		values[TR_MINT_COLUMNS + 2] = BoolGetDatum(rotate->replayed);
		nulls[TR_MINT_COLUMNS] = nulls[TR_MINT_COLUMNS + 1] = nulls[TR_MINT_COLUMNS + 2] = false;
	}
	values[COLUMNS - 1] = CStringGetTextDatum(tr_reason_text(reason));
	nulls[COLUMNS - 1] = false;
	tr_wipe(&rotate->secrets, sizeof(rotate->secrets));
	return HeapTupleGetDatum(heap_form_tuple(tr_answer_desc(fcinfo, &kept), values, nulls));
}

/*
 * The overlap that was asked for.
 */
static void
arg_overlap(FunctionCallInfo fcinfo, int n, TrRotate *rotate)
{
	rotate->has_overlap = !PG_ARGISNULL(n);
	if (rotate->has_overlap)
		rotate->overlap = tr_arg_duration(fcinfo, n, "overlap");
}

/*
 * Steps 1 to 4 for a holder.
 */
static TrReason
rotate_held(const text *value, const text *key, TrRotate *rotate, bool *proven)
{
	TrPresented presented;
	TrPresented presented_key;
	TrReason reason = tr_present_read(value, &presented, &rotate->token);
	TrSection section;

	*proven = reason == TR_OK;
	if (reason == TR_OK)
		reason = match_rotation_key(key, &presented_key, &rotate->token);
	if (reason != TR_OK || rotate->held_up)
		return reason == TR_OK ? TR_DISABLED : reason;

	tr_section_begin(&section);
	/* while we waited for the lock the token may have been given a new secret */
	reason = tr_present_match(&presented, tr_store_lock(presented.text.id, &rotate->token),
							  &rotate->token);
	if (reason == TR_OK)
		reason = match_rotation_key(key, &presented_key, &rotate->token);
	if (reason == TR_OK)
	{
		rotate->proof =
			rotate->token.has_rotation_hash ? presented_key.text.secret : presented.text.secret;
		reason = tr_rotate_locked(rotate);
	}
	tr_section_end(&section);
	return reason;
}

/*
 * Begin a rotation.  While it is held up nothing is written, so that it is
 * answered in a read-only transaction, too.
 */
static void
begin(TrRotate *rotate, const char *verb)
{
	tr_catalog();
	rotate->held_up = tr_circuit_refuses();
	if (!rotate->held_up)
		tr_xact_writes(verb);
}

/*
 * Record a refusal; proven: the secret matched.  Not that of the open circuit,
 * for as long as nothing can be written, the ring would be full of them.  A reuse
 * has its own event.
 */
static void
note_refusal(const TrRotate *rotate, TrReason reason, bool proven)
{
	const TrToken *token = proven ? &rotate->token : NULL;

	if (reason == TR_OK || reason == TR_REUSE)
		return;
	if (rotate->held_up && reason == TR_DISABLED)
		tr_stats_add(tr_stats_of(rotate->token.policy), TR_STAT_ROTATION_REFUSED + reason, 1);
	else if (rotate->by_id)
		tr_note_refusal_by_id(reason, token);
	else
		tr_note_refusal(TR_EVENT_ROTATION_REFUSED, reason, token, rotate->origin);
}

PG_FUNCTION_INFO_V1(tr_rotate);

/*
 * tr_rotate(token, rotation_key, overlap, origin): one row.
 */
Datum
tr_rotate(PG_FUNCTION_ARGS)
{
	TrRotate rotate = {0};
	TrReason reason;
	bool proven;

	tr_activity_mask();
	begin(&rotate, "tr_rotate()");
	arg_overlap(fcinfo, 2, &rotate);
	rotate.origin = tr_arg_text(fcinfo, 3);
	reason = rotate_held(tr_arg_text(fcinfo, 0), tr_arg_text(fcinfo, 1), &rotate, &proven);
	note_refusal(&rotate, reason, proven);
	return answer(fcinfo, &rotate, reason);
}

/*
 * The same for an operator.
 */
static TrReason
rotate_by_id(const uint8 *id, TrRotate *rotate)
{
	TrReason reason = TR_UNKNOWN;
	TrSection section;

	if (rotate->held_up)
		return tr_present_read_id(id, &rotate->token) ? TR_DISABLED : TR_UNKNOWN;
	tr_section_begin(&section);
	if (tr_present_lock_id(id, &rotate->token))
		reason = tr_token_hash_check_row(&rotate->token);
	if (reason == TR_OK)
		reason = tr_rotate_locked(rotate);
	tr_section_end(&section);
	return reason;
}

PG_FUNCTION_INFO_V1(tr_rotate_id);

/*
 * tr_rotate_id(token_id, overlap): one row.
 */
Datum
tr_rotate_id(PG_FUNCTION_ARGS)
{
	TrRotate rotate = {.by_id = true};
	const uint8 *id;
	TrReason reason;

	begin(&rotate, "tr_rotate_id()");
	id = (const uint8 *) DatumGetPointer(tr_arg(fcinfo, 0, "token_id"));
	arg_overlap(fcinfo, 1, &rotate);
	reason = rotate_by_id(id, &rotate);
	note_refusal(&rotate, reason, reason != TR_UNKNOWN);
	return answer(fcinfo, &rotate, reason);
}
