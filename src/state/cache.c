/*
 * cache.c
 *	  The UNLOGGED table token_cache: see cache.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/rows.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/cache.h"

/* Columns of token_cache in their order. */
enum
{
	COL_TOKEN_ID,
	COL_STATUS,
	COL_SECRET_HASH,
	COL_CLIENT_ID,
	COL_POLICY,
	COL_OWNER,
	COL_SCOPES,
	COL_METADATA,
	COL_ISSUED_AT,
	COL_EXPIRES_AT,
	COL_REFRESH_AT,
	COL_ROTATED_AT,
	COL_OVERLAP_ENDS_AT,
	COL_REPLAY_ENDS_AT,
	COL_NONCE,
	COL_FIRST_USED_AT,
	COL_LAST_USED_AT,
	COL_USE_COUNT,
	/* added by 0.3, wherever they stand; all of them NULL where there is no server key */
	COL_KEY_ID,
	COL_FAMILY_ID,
	COL_ROTATION_KEY,
	COLUMNS
};
#define FIRST_COLUMNS COL_KEY_ID

/* The state of a token as arguments: the columns to the nonce, then those for its server key. */
#define STATE_ARGS 18
#define KEY_ARGS 15
static const Oid state_types[STATE_ARGS] = {
	UUIDOID,		TEXTOID,		BYTEAOID,		TEXTOID,		TEXTOID,		TEXTOID,
	TEXTARRAYOID,	JSONBOID,		TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID,		INT4OID,		UUIDOID,		BOOLOID,
};

/*
 * The columns in this database.
 */
static TrColumns
columns_here(const TrCatalog *catalog)
{
	TrColumns columns = {
		FIRST_COLUMNS,
		3,
		{catalog->cache_key_id, catalog->cache_family_id, catalog->cache_rotation_key}};

	return columns;
}

/*
 * A time that may be NULL, which stands for the given value.
 */
static TimestampTz
time_of(const Datum *values, const bool *nulls, int column, TimestampTz ifnull)
{
	return nulls[column] ? ifnull : DatumGetTimestampTz(values[column]);
}

/*
 * Copy 32 bytes of a column; false unless it has just these.
 */
static bool
copy_bytes(uint8 *to, Datum value)
{
	bytea *bytes = (bytea *) DatumGetPointer(value);

	if (VARSIZE_ANY_EXHDR(bytes) != TR_HASH_BYTES)
		return false;
	memcpy(to, VARDATA_ANY(bytes), TR_HASH_BYTES);
	return true;
}

/*
 * Read what only tokens with a server key have.  false: a damaged row.
 */
static bool
read_key(TrToken *token, const Datum *values, const bool *nulls)
{
	token->key_id = nulls[COL_KEY_ID] ? 0 : DatumGetInt32(values[COL_KEY_ID]);
	if (nulls[COL_KEY_ID])
		return true;
	if (nulls[COL_FAMILY_ID] || nulls[COL_ROTATION_KEY])
		return false;
	memcpy(token->family, DatumGetUUIDP(values[COL_FAMILY_ID]), TR_ID_BYTES);
	token->has_rotation_hash = DatumGetBool(values[COL_ROTATION_KEY]);
	return true;
}

bool
tr_cache_read(const uint8 *id, Snapshot snapshot, TrToken *token)
{
	const TrCatalog *catalog = tr_catalog();
	TrColumns columns = columns_here(catalog);
	Datum values[COLUMNS];
	bool nulls[COLUMNS];

	if (!tr_row_read(catalog->cache, catalog->cache_pkey, id, snapshot, &columns, values, nulls))
		return false;
	/* the mark of a complete cache is no token, and a damaged row is no answer */
	if (nulls[COL_STATUS] || !copy_bytes(token->secret_hash, values[COL_SECRET_HASH]) ||
		!read_key(token, values, nulls))
		return false;

	memcpy(token->id, id, TR_ID_BYTES);
	token->life.status = tr_status_read((text *) DatumGetPointer(values[COL_STATUS]));
	token->life.issued_at = DatumGetTimestampTz(values[COL_ISSUED_AT]);
	token->life.expires_at = DatumGetTimestampTz(values[COL_EXPIRES_AT]);
	token->life.rotated_at = time_of(values, nulls, COL_ROTATED_AT, TR_NEVER);
	token->life.overlap_ends_at = time_of(values, nulls, COL_OVERLAP_ENDS_AT, TR_FOREVER);
	token->life.replay_ends_at = time_of(values, nulls, COL_REPLAY_ENDS_AT, TR_NEVER);
	token->life.cutoff = TR_NEVER;
	token->life.blocked = false;
	token->client_id = (text *) DatumGetPointer(values[COL_CLIENT_ID]);
	token->policy = (text *) DatumGetPointer(values[COL_POLICY]);
	token->owner = (text *) DatumGetPointer(values[COL_OWNER]);
	token->scopes = values[COL_SCOPES];
	token->metadata = values[COL_METADATA];
	token->refresh_at = DatumGetTimestampTz(values[COL_REFRESH_AT]);
	token->first_used_at = time_of(values, nulls, COL_FIRST_USED_AT, TR_NEVER);
	token->last_used_at = time_of(values, nulls, COL_LAST_USED_AT, TR_NEVER);
	return true;
}

bool
tr_cache_lock(const uint8 *id, TrCached *cached)
{
	const TrCatalog *catalog = tr_catalog();
	TrColumns columns = columns_here(catalog);
	Datum values[COLUMNS];
	bool nulls[COLUMNS];

	memset(cached, 0, sizeof(*cached));
	cached->first_used_at = TR_NEVER;
	cached->last_used_at = TR_NEVER;
	if (!tr_row_lock(catalog->cache, catalog->cache_pkey, id, LockTupleNoKeyExclusive, &columns,
					 values, nulls))
		return false;
	cached->has_nonce = !nulls[COL_NONCE] && copy_bytes(cached->nonce, values[COL_NONCE]);
	cached->first_used_at = time_of(values, nulls, COL_FIRST_USED_AT, TR_NEVER);
	cached->last_used_at = time_of(values, nulls, COL_LAST_USED_AT, TR_NEVER);
	return true;
}

/*
 * Set a time that is NULL when it has the value that stands for it.
 */
static void
set_time(Datum *values, char *nulls, int i, TimestampTz value, TimestampTz ifnull)
{
	nulls[i] = value == ifnull ? 'n' : ' ';
	values[i] = TimestampTzGetDatum(value);
}

/*
 * Run a statement whose arguments are the state of a token.
 */
static uint64
run_with_state(TrSql *sql, const TrToken *token, const uint8 *nonce)
{
	Datum values[STATE_ARGS];
	char nulls[STATE_ARGS];
	int i;

	if (sql->plan == NULL)
		memcpy(sql->types, state_types, sizeof(state_types));
	sql->nargs = STATE_ARGS;
	memset(nulls, ' ', sizeof(nulls));
	values[COL_TOKEN_ID] = PointerGetDatum(token->id);
	values[COL_STATUS] = CStringGetTextDatum(tr_status_text(token->life.status));
	values[COL_SECRET_HASH] = tr_hash_datum(token->secret_hash);
	values[COL_CLIENT_ID] = PointerGetDatum(token->client_id);
	values[COL_POLICY] = PointerGetDatum(token->policy);
	values[COL_OWNER] = PointerGetDatum(token->owner);
	values[COL_SCOPES] = token->scopes;
	values[COL_METADATA] = token->metadata;
	values[COL_ISSUED_AT] = TimestampTzGetDatum(token->life.issued_at);
	values[COL_EXPIRES_AT] = TimestampTzGetDatum(token->life.expires_at);
	values[COL_REFRESH_AT] = TimestampTzGetDatum(token->refresh_at);
	set_time(values, nulls, COL_ROTATED_AT, token->life.rotated_at, TR_NEVER);
	set_time(values, nulls, COL_OVERLAP_ENDS_AT, token->life.overlap_ends_at, TR_FOREVER);
	set_time(values, nulls, COL_REPLAY_ENDS_AT, token->life.replay_ends_at, TR_NEVER);
	nulls[COL_NONCE] = nonce == NULL ? 'n' : ' ';
	values[COL_NONCE] = nonce == NULL ? (Datum) 0 : tr_hash_datum(nonce);
	values[KEY_ARGS] = Int32GetDatum(token->key_id);
	values[KEY_ARGS + 1] = PointerGetDatum(token->family);
	values[KEY_ARGS + 2] = BoolGetDatum(token->has_rotation_hash);
	for (i = KEY_ARGS; i < STATE_ARGS; i++)
		nulls[i] = token->key_id == 0 ? 'n' : ' ';
	return tr_sql_run(sql, values, nulls);
}

/*
 * Insert a row.
 */
static void
insert_row(const TrToken *token, const uint8 *nonce)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.token_cache (token_id, status, secret_hash, client_id,"
				" policy, owner, scopes, metadata, issued_at, expires_at, refresh_at, rotated_at,"
				" overlap_ends_at, replay_ends_at, nonce, key_id, family_id, rotation_key)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,"
				" $17, $18)",
	};

	run_with_state(&sql, token, nonce);
}

void
tr_cache_insert(const TrToken *token)
{
	insert_row(token, NULL);
}

void
tr_cache_update(const TrToken *token, const uint8 *nonce)
{
	static TrSql sql = {
		.text = "UPDATE token_rotation.token_cache SET status = $2, secret_hash = $3,"
				" client_id = $4, policy = $5, owner = $6, scopes = $7, metadata = $8,"
				" issued_at = $9, expires_at = $10, refresh_at = $11, rotated_at = $12,"
				" overlap_ends_at = $13, replay_ends_at = $14, nonce = $15, key_id = $16,"
				" family_id = $17, rotation_key = $18 WHERE token_id OPERATOR(pg_catalog.=) $1",
	};
	TrCached cached;

	if (tr_cache_lock(token->id, &cached))
		run_with_state(&sql, token, nonce);
	else
		insert_row(token, nonce);
	tr_wipe(&cached, sizeof(cached));
}

void
tr_cache_update_keeping(const TrToken *token)
{
	TrCached cached;

	tr_cache_lock(token->id, &cached);
	tr_cache_update(token, cached.has_nonce ? cached.nonce : NULL);
	tr_wipe(&cached, sizeof(cached));
}

void
tr_cache_drop(const uint8 *id)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.token_cache"
				" WHERE token_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum value = PointerGetDatum(id);
	TrCached cached;

	if (tr_cache_lock(id, &cached))
		tr_sql_run(&sql, &value, NULL);
	tr_wipe(&cached, sizeof(cached));
}

void
tr_cache_set_owner(const char *from, const char *to)
{
	static TrSql sql = {
		.text = "UPDATE token_rotation.token_cache c SET owner = $2"
				" WHERE c.owner OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	Datum values[2];

	values[0] = CStringGetTextDatum(from);
	values[1] = CStringGetTextDatum(to);
	tr_sql_run(&sql, values, NULL);
}

/*
 * Drop the mark of a complete cache and what it has of a token that somebody
 * changed by hand (NULL: of none), so that the worker fills it again.  A worker
 * that is filling it now, and sets the mark before these rows are committed, is
 * told once they are.
 */
static void
distrust(const uint8 *id)
{
	static const uint8 mark[TR_ID_BYTES] = {0};
	TrSection section;

	tr_section_begin(&section);
	tr_cache_drop(mark);
	if (id != NULL)
		tr_cache_drop(id);
	tr_section_end(&section);
	tr_xact_by_hand();
}

/*
 * Drop everything, the mark included: token was truncated, and no row trigger
 * names what is gone.  The lock of TRUNCATE keeps those away who would fill.
 */
static void
distrust_all(void)
{
	static TrSql sql = {.text = "DELETE FROM token_rotation.token_cache"};
	TrSection section;

	tr_section_begin(&section);
	tr_sql_run(&sql, NULL, NULL);
	tr_section_end(&section);
	tr_xact_by_hand();
}

PG_FUNCTION_INFO_V1(tr_token_guard);

/*
 * Trigger on token: AFTER UPDATE, DELETE per row and AFTER INSERT, TRUNCATE per
 * statement.  The extension's own statements pass; anything else makes the
 * cache's rows untrue.
 */
Datum
tr_token_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool isnull;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tr_token_guard must be called as a trigger")));
	if (!tr_section_active())
	{
		if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
			distrust((const uint8 *) DatumGetPointer(
				heap_getattr(trigger->tg_trigtuple, COL_TOKEN_ID + 1,
							 RelationGetDescr(trigger->tg_relation), &isnull)));
		else if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
			distrust_all();
		else
			distrust(NULL);
	}
	return PointerGetDatum(NULL);
}
