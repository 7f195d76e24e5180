/*
 * store.c
 *	  The table token: see store.h.  The only file that knows the places of its
 *	  columns, besides upkeep.c which fills the cache from it and store_client.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/rows.h"
#include "frame/settings.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "state/store.h"

/* Columns of token in their order. */
enum
{
	COL_TOKEN_ID,
	COL_PREFIX,
	COL_FAMILY_ID,
	COL_GENERATION,
	COL_PREDECESSOR_ID,
	COL_CLIENT_ID,
	COL_POLICY,
	COL_OWNER,
	COL_STATUS,
	COL_SECRET_HASH,
	COL_ROTATION_HASH,
	COL_SCOPES,
	COL_METADATA,
	COL_TTL,
	COL_ISSUED_AT,
	COL_EXPIRES_AT,
	COL_REFRESH_AT,
	COL_ROTATED_AT,
	COL_OVERLAP_ENDS_AT,
	COL_REPLAY_ENDS_AT,
	COL_FIRST_USED_AT,
	COL_LAST_USED_AT,
	COL_REVOKED_AT,
	COL_REVOKED_REASON,
	COL_KEY_ID, /* added by 0.3, wherever it stands */
	COLUMNS
};
#define FIRST_COLUMNS COL_KEY_ID

#define ALL_COLUMNS                                                                                \
	"t.token_id, t.prefix, t.family_id, t.generation, t.predecessor_id, t.client_id, t.policy,"    \
	" t.owner, t.status, t.secret_hash, t.rotation_hash, t.scopes, t.metadata, t.ttl,"             \
	" t.issued_at, t.expires_at, t.refresh_at, t.rotated_at, t.overlap_ends_at,"                   \
	" t.replay_ends_at, t.first_used_at, t.last_used_at, t.revoked_at, t.revoked_reason, t.key_id"
/* Whose locks keep everybody from changing a family. */
#define FIRST_OR_LIVE "(t.generation OPERATOR(pg_catalog.=) 0 OR t." TR_LIVE ")"
#define IN_REALM(n) "(" n " IS NULL OR t.owner OPERATOR(pg_catalog.=) ANY (" n "))"

/*
 * When a live token is due: the end that tr_life_verdict would find, leeway
 * included.  $1 is now, $2 the leeway, $3 whether overlaps are enforced.  SQL
 * only picks candidates with it; tr_life_due decides.
 */
#define DUE                                                                                        \
	"(CASE WHEN t.overlap_ends_at IS NULL OR NOT $3 THEN t.expires_at"                             \
	" ELSE t.overlap_ends_at END)"                                                                 \
	" OPERATOR(pg_catalog.+)"                                                                      \
	" (CASE WHEN $3 AND t.overlap_ends_at OPERATOR(pg_catalog.=) t.rotated_at"                     \
	" THEN '0'::pg_catalog.interval"                                                               \
	" ELSE least($2, (t.expires_at OPERATOR(pg_catalog.-) t.issued_at)"                            \
	" OPERATOR(pg_catalog./) 10::pg_catalog.float8) END)"

/*
 * A time that may be NULL, which stands for the given value.
 */
static TimestampTz
time_of(Datum value, bool isnull, TimestampTz ifnull)
{
	return isnull ? ifnull : DatumGetTimestampTz(value);
}

/*
 * Copy a hash column; XX001 unless it has the right length.
 */
static void
copy_hash(uint8 *hash, Datum value)
{
	bytea *bytes = (bytea *) DatumGetPointer(value);

	if (VARSIZE_ANY_EXHDR(bytes) != TR_HASH_BYTES)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("token has a damaged hash")));
	memcpy(hash, VARDATA_ANY(bytes), TR_HASH_BYTES);
}

/*
 * Make a record of a row that was taken apart.
 */
static void
read_columns(TrToken *token, const Datum *values, const bool *nulls)
{
	memset(token, 0, sizeof(*token));
	memcpy(token->id, DatumGetUUIDP(values[COL_TOKEN_ID]), TR_ID_BYTES);
	token->prefix = (text *) DatumGetPointer(values[COL_PREFIX]);
	memcpy(token->family, DatumGetUUIDP(values[COL_FAMILY_ID]), TR_ID_BYTES);
	token->generation = DatumGetInt32(values[COL_GENERATION]);
	token->has_predecessor = !nulls[COL_PREDECESSOR_ID];
	if (token->has_predecessor)
		memcpy(token->predecessor, DatumGetUUIDP(values[COL_PREDECESSOR_ID]), TR_ID_BYTES);
	token->client_id = (text *) DatumGetPointer(values[COL_CLIENT_ID]);
	token->policy = (text *) DatumGetPointer(values[COL_POLICY]);
	token->owner = (text *) DatumGetPointer(values[COL_OWNER]);
	token->key_id = nulls[COL_KEY_ID] ? 0 : DatumGetInt32(values[COL_KEY_ID]);
	copy_hash(token->secret_hash, values[COL_SECRET_HASH]);
	token->has_rotation_hash = !nulls[COL_ROTATION_HASH];
	if (token->has_rotation_hash)
		copy_hash(token->rotation_hash, values[COL_ROTATION_HASH]);
	token->scopes = values[COL_SCOPES];
	token->metadata = values[COL_METADATA];
	token->ttl = nulls[COL_TTL] ? NULL : DatumGetIntervalP(values[COL_TTL]);

	token->life.status = tr_status_read((text *) DatumGetPointer(values[COL_STATUS]));
	token->life.issued_at = DatumGetTimestampTz(values[COL_ISSUED_AT]);
	token->life.expires_at = DatumGetTimestampTz(values[COL_EXPIRES_AT]);
	token->life.rotated_at = time_of(values[COL_ROTATED_AT], nulls[COL_ROTATED_AT], TR_NEVER);
	token->life.overlap_ends_at =
		time_of(values[COL_OVERLAP_ENDS_AT], nulls[COL_OVERLAP_ENDS_AT], TR_FOREVER);
	token->life.replay_ends_at =
		time_of(values[COL_REPLAY_ENDS_AT], nulls[COL_REPLAY_ENDS_AT], TR_NEVER);
	token->life.cutoff = TR_NEVER;

	token->refresh_at = DatumGetTimestampTz(values[COL_REFRESH_AT]);
	token->first_used_at = time_of(values[COL_FIRST_USED_AT], nulls[COL_FIRST_USED_AT], TR_NEVER);
	token->last_used_at = time_of(values[COL_LAST_USED_AT], nulls[COL_LAST_USED_AT], TR_NEVER);
	token->revoked_at = time_of(values[COL_REVOKED_AT], nulls[COL_REVOKED_AT], TR_NEVER);
	token->revoked_reason =
		nulls[COL_REVOKED_REASON] ? NULL : (text *) DatumGetPointer(values[COL_REVOKED_REASON]);
}

/*
 * The columns in this database.
 */
static TrColumns
columns_here(const TrCatalog *catalog)
{
	TrColumns columns = {FIRST_COLUMNS, 1, {catalog->token_key_id}};

	return columns;
}

/*
 * Lock a row of token by its id and read it.
 */
static bool
lock_row(const uint8 *id, TrToken *token)
{
	const TrCatalog *catalog = tr_catalog();
	TrColumns columns = columns_here(catalog);
	Datum values[COLUMNS];
	bool nulls[COLUMNS];

	if (!tr_row_lock(catalog->token, catalog->token_pkey, id, LockTupleNoKeyExclusive, &columns,
					 values, nulls))
		return false;
	read_columns(token, values, nulls);
	return true;
}

bool
tr_store_read(const uint8 *id, Snapshot snapshot, TrToken *token)
{
	const TrCatalog *catalog = tr_catalog();
	TrColumns columns = columns_here(catalog);
	Datum values[COLUMNS];
	bool nulls[COLUMNS];

	if (!tr_row_read(catalog->token, catalog->token_pkey, id, snapshot, &columns, values, nulls))
		return false;
	read_columns(token, values, nulls);
	return true;
}

bool
tr_store_read_now(const uint8 *id, TrToken *token)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool found = tr_store_read(id, snapshot, token);

	UnregisterSnapshot(snapshot);
	return found;
}

bool
tr_store_lock(const uint8 *id, TrToken *token)
{
	TrToken first;

	if (!tr_store_read_now(id, token))
		return false;

	/* a token never changes its family */
	if (memcmp(token->family, id, TR_ID_BYTES) != 0 && !lock_row(token->family, &first))
		return false;
	return lock_row(id, token);
}

/*
 * Lock every token of a family whose first token is locked, by a scan that
 * begins now and so sees what the holder before us made.
 */
static List *
lock_members(const uint8 *family)
{
	const TrCatalog *catalog = tr_catalog();
	TrColumns columns = columns_here(catalog);
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	List *tokens = NIL;
	TrRows rows;
	ScanKeyData key;

	tr_key_uuid(&key, 1, family);
	tr_rows_begin(&rows, catalog->token, catalog->token_family, 1, RowShareLock);
	tr_rows_seek(&rows, &key, 1);
	while (tr_rows_next(&rows))
	{
		TrToken *token;

		if (!tr_rows_lock(&rows, LockTupleNoKeyExclusive))
			continue;
		token = palloc(sizeof(TrToken));
		tr_rows_copy(&rows, &columns, values, nulls);
		read_columns(token, values, nulls);
		tokens = lappend(tokens, token);
	}
	tr_rows_end(&rows);
	return tokens;
}

List *
tr_store_lock_family(const uint8 *id)
{
	TrToken token;

	if (!tr_store_lock(id, &token))
		return NIL;
	return lock_members(token.family);
}

bool
tr_store_try_family(const TrToken *token)
{
	static TrSql sql = {
		.text =
			"WITH locked AS MATERIALIZED (SELECT t.token_id FROM token_rotation.token t"
			" WHERE t.family_id OPERATOR(pg_catalog.=) $1 AND " FIRST_OR_LIVE
			" FOR NO KEY UPDATE SKIP LOCKED) SELECT FROM token_rotation.token t"
			" WHERE t.family_id OPERATOR(pg_catalog.=) $1 AND " FIRST_OR_LIVE
			" AND NOT EXISTS (SELECT FROM locked l"
			" WHERE l.token_id OPERATOR(pg_catalog.=) t.token_id)",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum id = PointerGetDatum(token->family);

	return tr_sql_run(&sql, &id, NULL) == 0;
}

bool
tr_store_lock_successor(const TrToken *predecessor, TrToken *successor)
{
	static TrSql sql = {
		.text = "SELECT t.token_id FROM token_rotation.token t"
				" WHERE t.predecessor_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum id = PointerGetDatum(predecessor->id);
	uint8 found[TR_ID_BYTES];

	if (tr_sql_run(&sql, &id, NULL) == 0)
		return false;
	memcpy(found, tr_sql_id(0, 1), TR_ID_BYTES);
	return lock_row(found, successor);
}

/*
 * Set a parameter that is NULL when the pointer is.
 */
static void
set_pointer(Datum *values, char *nulls, int i, const void *pointer)
{
	nulls[i] = pointer == NULL ? 'n' : ' ';
	values[i] = PointerGetDatum(pointer);
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
 * Set the number of a token's server key, NULL where it has none.
 */
static void
set_key(Datum *values, char *nulls, int i, const TrToken *token)
{
	nulls[i] = token->key_id == 0 ? 'n' : ' ';
	values[i] = Int32GetDatum(token->key_id);
}

void
tr_store_insert(const TrToken *token)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.token (token_id, prefix, family_id, generation,"
				" predecessor_id, client_id, policy, owner, status, secret_hash, rotation_hash,"
				" scopes, metadata, ttl, issued_at, expires_at, refresh_at, key_id)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,"
				" $17, $18)",
		.nargs = 18,
		.types = {UUIDOID, TEXTOID, UUIDOID, INT4OID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
				  BYTEAOID, BYTEAOID, TEXTARRAYOID, JSONBOID, INTERVALOID, TIMESTAMPTZOID,
				  TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID},
	};
	Datum values[18];
	char nulls[18];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(token->id);
	values[1] = PointerGetDatum(token->prefix);
	values[2] = PointerGetDatum(token->family);
	values[3] = Int32GetDatum(token->generation);
	set_pointer(values, nulls, 4, token->has_predecessor ? token->predecessor : NULL);
	values[5] = PointerGetDatum(token->client_id);
	values[6] = PointerGetDatum(token->policy);
	values[7] = PointerGetDatum(token->owner);
	values[8] = CStringGetTextDatum(tr_status_text(token->life.status));
	values[9] = tr_hash_datum(token->secret_hash);
	set_pointer(values, nulls, 10,
				token->has_rotation_hash ? DatumGetPointer(tr_hash_datum(token->rotation_hash))
										 : NULL);
	values[11] = token->scopes;
	values[12] = token->metadata;
	set_pointer(values, nulls, 13, token->ttl);
	values[14] = TimestampTzGetDatum(token->life.issued_at);
	values[15] = TimestampTzGetDatum(token->life.expires_at);
	values[16] = TimestampTzGetDatum(token->refresh_at);
	set_key(values, nulls, 17, token);
	tr_sql_run(&sql, values, nulls);
}

void
tr_store_update(const TrToken *token)
{
	static TrSql sql = {
		.text = "UPDATE token_rotation.token SET predecessor_id = $2, status = $3,"
				" secret_hash = $4, rotation_hash = $5, rotated_at = $6, overlap_ends_at = $7,"
				" replay_ends_at = $8, first_used_at = $9, last_used_at = $10, revoked_at = $11,"
				" revoked_reason = $12, key_id = $13, refresh_at = $14"
				" WHERE token_id OPERATOR(pg_catalog.=) $1",
		.nargs = 14,
		.types = {UUIDOID, UUIDOID, TEXTOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
				  TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT4OID,
				  TIMESTAMPTZOID},
	};
	Datum values[14];
	char nulls[14];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(token->id);
	set_pointer(values, nulls, 1, token->has_predecessor ? token->predecessor : NULL);
	values[2] = CStringGetTextDatum(tr_status_text(token->life.status));
	values[3] = tr_hash_datum(token->secret_hash);
	set_pointer(values, nulls, 4,
				token->has_rotation_hash ? DatumGetPointer(tr_hash_datum(token->rotation_hash))
										 : NULL);
	set_time(values, nulls, 5, token->life.rotated_at, TR_NEVER);
	set_time(values, nulls, 6, token->life.overlap_ends_at, TR_FOREVER);
	set_time(values, nulls, 7, token->life.replay_ends_at, TR_NEVER);
	set_time(values, nulls, 8, token->first_used_at, TR_NEVER);
	set_time(values, nulls, 9, token->last_used_at, TR_NEVER);
	set_time(values, nulls, 10, token->revoked_at, TR_NEVER);
	set_pointer(values, nulls, 11, token->revoked_reason);
	set_key(values, nulls, 12, token);
	values[13] = TimestampTzGetDatum(token->refresh_at);
	if (tr_sql_run(&sql, values, nulls) != 1)
		elog(ERROR, "a locked token could not be updated");
}

TimestampTz
tr_store_family_birth(const TrToken *token)
{
	TrToken first;

	if (token->generation == 0)
		return token->life.issued_at;
	if (!tr_store_read_now(token->family, &first))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("family has no first token")));
	return first.life.issued_at;
}

/*
 * A duration of microseconds as an interval.
 */
static Interval *
interval_of(int64 usec)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = usec;
	return interval;
}

List *
tr_store_lock_due(TimestampTz now, const TrRules *rules, ArrayType *realms, int max)
{
	static TrSql sql = {
		.text = "SELECT " ALL_COLUMNS " FROM token_rotation.token t WHERE t." TR_LIVE
				" AND " IN_REALM("$4") " AND " DUE " OPERATOR(pg_catalog.<=) $1 AND " TR_ENDS
				" OPERATOR(pg_catalog.<=) $1 ORDER BY " TR_ENDS
				" LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED",
		.nargs = 5,
		.types = {TIMESTAMPTZOID, INTERVALOID, BOOLOID, TEXTARRAYOID, INT4OID},
	};
	Datum values[5];
	char nulls[] = "     ";
	List *tokens = NIL;
	uint64 count;
	uint64 i;

	values[0] = TimestampTzGetDatum(now);
	values[1] = IntervalPGetDatum(interval_of(rules->leeway));
	values[2] = BoolGetDatum(rules->overlap_enforced);
	set_pointer(values, nulls, 3, realms);
	values[4] = Int32GetDatum(max);
	count = tr_sql_run(&sql, values, nulls);
	for (i = 0; i < count; i++)
	{
		Datum columns[COLUMNS];
		bool isnull[COLUMNS];
		int column;
		TrToken *token = palloc(sizeof(TrToken));

		heap_deform_tuple(heap_copytuple(SPI_tuptable->vals[i]), SPI_tuptable->tupdesc, columns,
						  isnull);
		for (column = 0; column < FIRST_COLUMNS; column++)
			if (!isnull[column] && TupleDescAttr(SPI_tuptable->tupdesc, column)->attlen == -1)
				columns[column] = tr_plain_datum(columns[column]);
		read_columns(token, columns, isnull);
		tokens = lappend(tokens, token);
	}
	return tokens;
}

TimestampTz
tr_store_next_due(TimestampTz now, const TrRules *rules)
{
	static TrSql sql = {
		.text = "SELECT pg_catalog.min(n.due) FROM ("
				"SELECT " DUE " AS due FROM token_rotation.token t WHERE t." TR_LIVE " AND " TR_ENDS
				" OPERATOR(pg_catalog.<=) $1"
				" UNION ALL"
				" (SELECT " TR_ENDS " FROM token_rotation.token t WHERE t." TR_LIVE " AND " TR_ENDS
				" OPERATOR(pg_catalog.>) $1 ORDER BY " TR_ENDS " LIMIT 1)) n",
		.nargs = 3,
		.types = {TIMESTAMPTZOID, INTERVALOID, BOOLOID},
	};
	Datum values[3];
	Datum value;
	bool isnull;

	values[0] = TimestampTzGetDatum(now);
	values[1] = IntervalPGetDatum(interval_of(rules->leeway));
	values[2] = BoolGetDatum(rules->overlap_enforced);
	tr_sql_run(&sql, values, NULL);
	value = tr_sql_value(0, 1, &isnull);
	return isnull ? TR_FOREVER : DatumGetTimestampTz(value);
}
