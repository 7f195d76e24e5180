/*
 * token_hash.c
 *	  The hashes that are stored for a token: see token_hash.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/mac.h"
#include "frame/keys.h"
#include "frame/settings.h"
#include "frame/token_hash.h"
#include "frame/verdict.h"

/*
 * The bytes of a text.
 */
static TrBytes
bytes_of(const text *value)
{
	TrBytes bytes = {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};

	return bytes;
}

/*
 * The client of a token in UTF-8, so that a dump can be restored into a database
 * with another encoding.  Scopes are ASCII.
 */
static TrBytes
client_of(const TrToken *token)
{
	TrBytes bytes = bytes_of(token->client_id);
	const char *converted = pg_server_to_any(bytes.at, (int) bytes.len, PG_UTF8);

	if (converted != bytes.at)
	{
		bytes.at = converted;
		bytes.len = strlen(converted);
	}
	return bytes;
}

/*
 * The scopes of a token.  A null, which no verb stores, is taken for a text that
 * none is.
 */
static void
set_scopes(TrRow *row, Datum scopes)
{
	static const TrBytes null = {"\377", 1};
	ArrayType *array = DatumGetArrayTypeP(scopes);
	TrBytes *texts;
	Datum *elements;
	bool *nulls;
	int i;

	if (ARR_NDIM(array) == 0)
		return;
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  &row->scope_count);
	texts = palloc(row->scope_count * sizeof(TrBytes));
	for (i = 0; i < row->scope_count; i++)
		texts[i] = nulls[i] ? null : bytes_of((const text *) DatumGetPointer(elements[i]));
	row->scopes = texts;
}

/*
 * The keyed hash of a use over a token's row.
 */
static void
make_mac(const TrKey *key, TrKeyUse use, const TrToken *token, const uint8 *secret, uint8 *out)
{
	TrRow row = {
		.id = token->id,
		.family = token->family,
		.issued_at = token->life.issued_at,
		.expires_at = token->life.expires_at,
		.rotation_key = token->has_rotation_hash,
		.client = client_of(token),
	};

	set_scopes(&row, token->scopes);
	if (!tr_mac(key, use, &row, secret, out))
		tr_raise_crypto();
}

/*
 * A token like any other that is none: what is checked for want of one.
 */
static const TrToken *
nobody(void)
{
	static TrToken token;

	if (token.client_id == NULL)
	{
		MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
		text *name = cstring_to_text("nobody");
		Datum scope = PointerGetDatum(name);

		token.scopes =
			PointerGetDatum(construct_array(&scope, 1, TEXTOID, -1, false, TYPALIGN_INT));
		token.client_id = name;
		MemoryContextSwitchTo(context);
	}
	return &token;
}

/*
 * Do the work of a check under a server key, if there is one.
 */
static void
check_nobody(TrKeyUse use, const uint8 *secret)
{
	uint8 mac[TR_HASH_BYTES];
	TrKey key;

	if (!tr_keys_find(0, &key))
		return;
	make_mac(&key, use, nobody(), secret, mac);
	tr_wipe(&key, sizeof(key));
}

/*
 * Are tokens without a key good now?
 */
static bool
unkeyed_accepted(void)
{
	TimestampTz until = tr_accept_unkeyed_until();

	return until == TR_NEVER ? !tr_keys_configured() : GetCurrentTimestamp() < until;
}

/*
 * What becomes of one whose secret matched.  While a key is asked for and none
 * could be read it is not sure that they are meant to end.
 */
static TrReason
judge_unkeyed(void)
{
	if (unkeyed_accepted())
		return TR_OK;
	return tr_accept_unkeyed_until() == TR_NEVER && !tr_keys_state().any ? TR_DISABLED
																		 : TR_BAD_SECRET;
}

/*
 * The key of a token that has one.
 */
static bool
find_key(const TrToken *token, TrKey *key)
{
	/* 0 stands for the newest one there */
	if (tr_keys_find(token->key_id, key))
		return true;
	tr_keys_missing(token->key_id);
	return false;
}

/*
 * Raise that no token can be made.
 */
static void
require_unkeyed(void)
{
	if (tr_keys_configured())
		tr_raise_state("no server key is at hand",
					   "A key is asked for by token_rotation.key_file or "
					   "token_rotation.key_command, and none could be read.",
					   "See the server's log, put it right, and reload the configuration.");
	if (!unkeyed_accepted())
		tr_raise_state("a token without a server key would be refused",
					   "token_rotation.accept_unkeyed_until is over, and no key is set.",
					   "Set token_rotation.key_file, or reset accept_unkeyed_until.");
}

void
tr_token_hash_make(TrToken *token, const uint8 *secret, const uint8 *rotation_key)
{
	uint8 mac[TR_HASH_BYTES];
	TrKey key;

	memset(token->rotation_hash, 0, TR_HASH_BYTES);
	if (!tr_keys_find(0, &key))
	{
		require_unkeyed();
		token->key_id = 0;
		memcpy(token->secret_hash, secret, TR_HASH_BYTES);
		memcpy(token->rotation_hash, rotation_key, TR_HASH_BYTES);
		return;
	}
	token->key_id = key.number;
	make_mac(&key, TR_KEY_ROW, token, NULL, mac);
	memcpy(token->secret_hash, mac, TR_TAG_BYTES);
	make_mac(&key, TR_KEY_SECRET, token, secret, mac);
	memcpy(token->secret_hash + TR_TAG_BYTES, mac, TR_TAG_BYTES);
	if (token->has_rotation_hash)
		make_mac(&key, TR_KEY_ROTATION, token, rotation_key, token->rotation_hash);
	tr_wipe(&key, sizeof(key));
}

TrReason
tr_token_hash_check(const TrToken *token, const uint8 *secret)
{
	uint8 mac[TR_HASH_BYTES];
	TrKey key;

	if (token == NULL || token->key_id == 0)
		check_nobody(TR_KEY_SECRET, secret);
	if (token == NULL)
		return TR_BAD_SECRET;
	if (token->key_id == 0)
		return tr_hash_equal(token->secret_hash, secret) ? judge_unkeyed() : TR_BAD_SECRET;
	if (!find_key(token, &key))
		return TR_DISABLED;
	make_mac(&key, TR_KEY_SECRET, token, secret, mac);
	tr_wipe(&key, sizeof(key));
	return tr_bytes_equal(token->secret_hash + TR_TAG_BYTES, mac, TR_TAG_BYTES) ? TR_OK
																				: TR_BAD_SECRET;
}

bool
tr_token_hash_check_rotation(const TrToken *token, const uint8 *rotation_key)
{
	uint8 mac[TR_HASH_BYTES];
	TrKey key;

	if (token == NULL || !token->has_rotation_hash)
	{
		check_nobody(TR_KEY_ROTATION, rotation_key);
		return false;
	}
	if (token->key_id == 0)
	{
		check_nobody(TR_KEY_ROTATION, rotation_key);
		return tr_hash_equal(token->rotation_hash, rotation_key) && unkeyed_accepted();
	}
	if (!find_key(token, &key))
		return false;
	make_mac(&key, TR_KEY_ROTATION, token, rotation_key, mac);
	tr_wipe(&key, sizeof(key));
	return tr_hash_equal(token->rotation_hash, mac);
}

TrReason
tr_token_hash_check_row(const TrToken *token)
{
	uint8 mac[TR_HASH_BYTES];
	TrKey key;

	if (token->key_id == 0)
		return judge_unkeyed();
	if (!find_key(token, &key))
		return TR_DISABLED;
	make_mac(&key, TR_KEY_ROW, token, NULL, mac);
	tr_wipe(&key, sizeof(key));
	return tr_bytes_equal(token->secret_hash, mac, TR_TAG_BYTES) ? TR_OK : TR_BAD_SECRET;
}
