/*
 * present.c
 *	  A token or rotation key that somebody presents: see present.h.
 */
#include "postgres.h"


#include "frame/caller.h"
#include "frame/token_hash.h"
#include "frame/verdict.h"
#include "state/store.h"
#include "verbs/present.h"

bool
tr_present(const text *value, TrPresented *presented)
{
	if (value == NULL ||
		!tr_token_parse(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &presented->text))
		return false;
	if (!tr_secret_hash(presented->text.secret, presented->hash))
		tr_raise_crypto();
	return true;
}

TrReason
tr_present_match(const TrPresented *presented, bool found, const TrToken *token)
{
	TrReason reason = tr_token_hash_check(found ? token : NULL, presented->hash);

	return found && tr_realm_visible(token->owner) ? reason : TR_UNKNOWN;
}

bool
tr_present_match_key(const TrPresented *presented, const TrToken *token)
{
	return tr_token_hash_check_rotation(token, presented->hash) &&
		   memcmp(presented->text.id, token->id, TR_ID_BYTES) == 0;
}

TrReason
tr_present_read(const text *value, TrPresented *presented, TrToken *token)
{
	if (!tr_present(value, presented))
		return TR_MALFORMED;
	return tr_present_match(presented, tr_store_read_now(presented->text.id, token), token);
}

void
tr_present_raise_disabled(void)
{
	tr_raise_state("the server key of this token is not at hand",
				   "It cannot be told whether the token is genuine; nothing was ended.",
				   "Put the key back and reload the configuration, or end the token by its id "
				   "with tr_revoke_id(), or its client's with tr_revoke_client().");
}

bool
tr_present_read_id(const uint8 *id, TrToken *token)
{
	return tr_store_read_now(id, token) && tr_realm_visible(token->owner);
}

bool
tr_present_lock_id(const uint8 *id, TrToken *token)
{
	/* it may be given to another realm while we wait */
	return tr_present_read_id(id, token) && tr_store_lock(id, token) &&
		   tr_realm_visible(token->owner);
}
