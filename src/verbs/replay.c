/*
 * replay.c
 *	  The same rotation asked again, because its answer got lost.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"

#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/token_hash.h"
#include "frame/verdict.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/cutoff.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/precommit.h"
#include "verbs/rotate.h"
#include "verbs/use.h"

/*
 * Derive the successor's secrets from a nonce.
 */
static void
derive(TrRotate *rotate, const uint8 *nonce, bool rotation_key)
{
	tr_mint_derive(rotate->proof, nonce, rotate->token.id, rotate->successor.id, rotation_key,
				   &rotate->secrets);
}

/*
 * Is this nonce the one that the successor was made with?
 */
static bool
derives_successor(TrRotate *rotate, const TrCached *cached)
{
	TrToken *successor = &rotate->successor;
	uint8 hash[TR_HASH_BYTES];

	if (!cached->has_nonce)
		return false;
	derive(rotate, cached->nonce, successor->has_rotation_hash);
	if (!tr_secret_hash(rotate->secrets.token, hash))
		tr_raise_crypto();
	return tr_token_hash_check(successor, hash) == TR_OK;
}

bool
tr_replay_accepted(const TrToken *token)
{
	TrCached cached;
	bool accepted;

	accepted = token->first_used_at != TR_NEVER || token->last_used_at != TR_NEVER ||
			   tr_use_seen(token->id);
	if (!accepted && tr_cache_lock(token->id, &cached))
		accepted = cached.first_used_at != TR_NEVER || cached.last_used_at != TR_NEVER;
	return accepted;
}

/*
 * Was the successor ever accepted, or rotated itself, or has it ended?
 */
static bool
was_used(const TrToken *token)
{
	return token->life.status != TR_ACTIVE || tr_replay_accepted(token);
}

/*
 * Is that the successor of this token, and not one that somebody has put there who
 * may write rows but does not know the server key?  predecessor_id is under no
 * keyed hash.  These are, so whoever gets the successor gets nothing that
 * rotating his own token would not give him.
 */
static bool
is_heir(const TrToken *successor, const TrToken *token)
{
	return memcmp(successor->family, token->family, TR_ID_BYTES) == 0 &&
		   successor->life.issued_at >= token->life.issued_at &&
		   DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID,
												PointerGetDatum(successor->client_id),
												PointerGetDatum(token->client_id))) &&
		   DatumGetBool(OidFunctionCall2Coll(F_ARRAYCONTAINED, C_COLLATION_OID, successor->scopes,
											 token->scopes));
}

/*
 * The nonce is lost.  Nobody can compute the first answer again, so an unused
 * successor gets a new secret; a used one is in somebody's hands.
 */
static TrReason
reissue(TrRotate *rotate)
{
	TrToken *successor = &rotate->successor;
	uint8 nonce[TR_NONCE_BYTES];
	TrReason reason = tr_token_hash_check_row(successor);
	TrEvent event;

	/* what somebody changed by hand gets no hash that vouches for it */
	if (reason != TR_OK)
		return reason;
	if (!is_heir(successor, &rotate->token))
		return TR_BAD_SECRET;
	if (was_used(successor))
		return TR_REPLAY_ENDED;
	tr_mint_random(nonce, sizeof(nonce));
	derive(rotate, nonce, successor->has_rotation_hash);
	tr_mint_hashes(successor, &rotate->secrets);
	tr_store_update(successor);
	TR_STOP_POINT("reissue_half");
	tr_cache_update(successor, NULL);
	tr_cache_update(&rotate->token, nonce);
	tr_wipe(nonce, sizeof(nonce));

	tr_note_begin(&event, TR_EVENT_REISSUED, &rotate->token);
	event.has_successor = true;
	memcpy(event.successor, successor->id, TR_ID_BYTES);
	strlcpy(event.reason, "nonce lost", sizeof(event.reason));
	tr_audit_write(&event, NULL);
	tr_stats_at_commit(rotate->token.policy, TR_STAT_REISSUED);
	tr_precommit_check(&rotate->token);
	return TR_OK;
}

TrReason
tr_replay(TrRotate *rotate)
{
	TrToken *successor = &rotate->successor;
	TrRules rules = tr_rules();
	TrCached cached;
	TrReason reason;
	bool same;

	if (!tr_store_lock_successor(&rotate->token, successor))
		return TR_REPLAY_ENDED;
	tr_cutoff_apply_now(successor);
	reason = tr_life_verdict(&successor->life, rotate->now, &rules);
	if (reason != TR_OK)
		return reason == TR_EXPIRED_REASON || reason == TR_OVERLAP_ENDED ? TR_REPLAY_ENDED : reason;

	tr_cache_lock(rotate->token.id, &cached);
	same = derives_successor(rotate, &cached);
	tr_wipe(&cached, sizeof(cached));
	if (!same)
		return reissue(rotate);

	/* recorded before the secret leaves: the caller may roll back */
	tr_note_replay(&rotate->token, successor, was_used(successor), rotate->origin);
	TR_STOP_POINT("replay_recorded");
	rotate->replayed = true;
	return TR_OK;
}
