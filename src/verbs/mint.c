/*
 * mint.c
 *	  Making tokens, for issue and rotation: see mint.h.
 */
#include "postgres.h"

#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/catalog.h"
#include "frame/interval.h"
#include "frame/token_hash.h"
#include "frame/verdict.h"
#include "verbs/mint.h"
#include "verbs/risk.h"

void
tr_mint_find_policy(const char *name, TrPolicy *policy)
{
	if (*name == '\0' || !tr_policy_read(name, policy))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("policy \"%s\" does not exist", tr_shown(name)),
						errdetail("The table token_rotation.policy has no such row."),
						errhint("Insert it into token_rotation.policy, or name another.")));
}

void
tr_mint_policy(const char *name, TrPolicy *policy)
{
	/* whoever deletes a policy waits for us, then sees our token */
	LockRelationOid(tr_catalog()->token, RowExclusiveLock);
	tr_mint_find_policy(name, policy);
}

void
tr_mint_check_scopes(const TrPolicy *policy, Datum scopes)
{
	if (!tr_policy_allows(policy, DatumGetArrayTypeP(scopes)))
		tr_raise_value("scope is not allowed",
					   psprintf("Policy \"%s\" does not allow all of these scopes.", policy->name),
					   "Ask for fewer scopes, or add them to the policy's allowed_scopes.");
}

void
tr_mint_random(void *bytes, size_t len)
{
	if (!pg_strong_random(bytes, len))
		tr_raise_crypto();
}

void
tr_mint_id(uint8 id[TR_ID_BYTES])
{
	static const uint8 zero[TR_ID_BYTES] = {0};

	/* all zero is the mark of a complete cache */
	do
		tr_mint_random(id, TR_ID_BYTES);
	while (memcmp(id, zero, TR_ID_BYTES) == 0);
}

void
tr_mint_secrets(const TrPolicy *policy, TrSecrets *secrets)
{
	uint8 raw[2][TR_SECRET_BYTES];

	tr_mint_random(raw, sizeof(raw));
	tr_secret_encode(raw[0], secrets->token);
	tr_secret_encode(raw[1], secrets->rotation);
	secrets->has_rotation = policy->needs_rotation_key;
	tr_wipe(raw, sizeof(raw));
}

void
tr_mint_derive(const char *proof, const uint8 *nonce, const uint8 *predecessor,
			   const uint8 *successor, bool rotation_key, TrSecrets *secrets)
{
	secrets->has_rotation = rotation_key;
	if (!tr_secret_derive(TR_DERIVED_TOKEN, proof, nonce, predecessor, successor, secrets->token) ||
		!tr_secret_derive(TR_DERIVED_ROTATION_KEY, proof, nonce, predecessor, successor,
						  secrets->rotation))
		tr_raise_crypto();
}

void
tr_mint_hashes(TrToken *token, const TrSecrets *secrets)
{
	uint8 secret[TR_HASH_BYTES];
	uint8 rotation[TR_HASH_BYTES];

	token->has_rotation_hash = secrets->has_rotation;
	if (!tr_secret_hash(secrets->token, secret) || !tr_secret_hash(secrets->rotation, rotation))
		tr_raise_crypto();
	tr_token_hash_make(token, secret, rotation);
}

bool
tr_mint_life(TrToken *token, const TrPolicy *policy, TimestampTz now, TimestampTz family_birth)
{
	int64 ttl = tr_risk_life(token, policy, now);
	int64 own;

	if (token->ttl != NULL && tr_interval_usec(token->ttl, &own))
		ttl = Min(ttl, own);
	if (policy->max_family_age != PG_INT64_MAX)
		ttl = Min(ttl, family_birth + policy->max_family_age - now);
	if (ttl <= 0)
		return false;

	token->life.status = TR_ACTIVE;
	token->life.issued_at = now;
	token->life.expires_at = now + ttl;
	token->life.rotated_at = TR_NEVER;
	token->life.overlap_ends_at = TR_FOREVER;
	token->life.replay_ends_at = TR_NEVER;
	token->refresh_at = now + Min(ttl - Min(policy->refresh_before, ttl / 4), policy->rotate_after);
	token->first_used_at = TR_NEVER;
	token->last_used_at = TR_NEVER;
	token->revoked_at = TR_NEVER;
	return true;
}

/*
 * The text of a token or rotation key, as a datum.
 */
static Datum
token_text(const TrToken *token, bool rotation_key, const char *secret)
{
	char prefix[TR_PREFIX_MAX + 1];
	char buffer[TR_TEXT_SIZE];
	Datum result;
	size_t len;

	text_to_cstring_buffer(token->prefix, prefix, sizeof(prefix));
	len = tr_token_format(prefix, rotation_key, token->id, secret, buffer);
	result = PointerGetDatum(cstring_to_text_with_len(buffer, len));
	tr_wipe(buffer, sizeof(buffer));
	return result;
}

void
tr_mint_answer(const TrToken *token, const TrSecrets *secrets, bool pending, Datum *values,
			   bool *nulls)
{
	memset(nulls, 0, TR_MINT_COLUMNS * sizeof(bool));
	values[0] = token_text(token, false, secrets->token);
	nulls[1] = !secrets->has_rotation;
	values[1] = secrets->has_rotation ? token_text(token, true, secrets->rotation) : (Datum) 0;
	values[2] = PointerGetDatum(token->id);
	values[3] = PointerGetDatum(token->family);
	values[4] = PointerGetDatum(token->client_id);
	values[5] = PointerGetDatum(token->owner);
	values[6] = CStringGetTextDatum(pending ? "pending" : tr_status_text(token->life.status));
	values[7] = token->scopes;
	values[8] = token->metadata;
	values[9] = TimestampTzGetDatum(token->life.issued_at);
	values[10] = TimestampTzGetDatum(token->life.expires_at);
	values[11] = TimestampTzGetDatum(token->refresh_at);
}
