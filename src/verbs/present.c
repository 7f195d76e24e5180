/*
 * present.c
 *	  A token or rotation key that somebody presents: see present.h.
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "frame/caller.h"
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

/* What is compared where there is no hash, so that it takes as long. */
static const uint8 none[TR_HASH_BYTES] = {0};

TrReason
tr_present_match(const TrPresented *presented, bool found, const TrToken *token)
{
	bool equal = tr_hash_equal(found ? token->secret_hash : none, presented->hash);

	if (!found || !tr_realm_visible(token->owner))
		return TR_UNKNOWN;
	return equal ? TR_OK : TR_BAD_SECRET;
}

bool
tr_present_match_key(const TrPresented *presented, const TrToken *token)
{
	bool has = token != NULL && token->has_rotation_hash;
	bool equal = tr_hash_equal(presented->hash, has ? token->rotation_hash : none);

	return has && equal && memcmp(presented->text.id, token->id, TR_ID_BYTES) == 0;
}

TrReason
tr_present_read(const text *value, TrPresented *presented, TrToken *token)
{
	Snapshot snapshot;
	bool found;

	if (!tr_present(value, presented))
		return TR_MALFORMED;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = tr_store_read(presented->text.id, snapshot, token);
	UnregisterSnapshot(snapshot);
	return tr_present_match(presented, found, token);
}

bool
tr_present_lock_id(const uint8 *id, TrToken *token)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool found = tr_store_read(id, snapshot, token) && tr_realm_visible(token->owner);

	UnregisterSnapshot(snapshot);
	/* it may have been given to another realm while we waited */
	return found && tr_store_lock(id, token) && tr_realm_visible(token->owner);
}
