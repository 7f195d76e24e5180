/*
 * upkeep.c
 *	  What the worker does to token_cache: see upkeep.h.
 *
 * Besides store.c this is the only file that knows the columns of token: the
 * cache is a copy of them, and a copy is made and compared best by the SQL that
 * moves it.
 *
 * Locks.  Verbs lock a token's row, then its cache row.  What copies from token
 * or decides by it does the same, so that it can neither revive nor contradict
 * what a verb is just writing.  What looks at the cache alone (counters, nonces
 * that are over) locks cache rows only.  Nothing here ever waits for a row: what
 * is locked is skipped, so no order of locks can lead to a deadlock.  A row that
 * was locked is read in its newest version, whatever the snapshot said, because
 * the worker's transactions are READ COMMITTED.
 *
 * A nonce never leaves its row: no statement returns, sorts or stores one, so
 * none can get into a temporary file.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/catalog.h"
#include "frame/sql.h"
#include "frame/stop_point.h"
#include "state/upkeep.h"

#define MARK "'00000000-0000-0000-0000-000000000000'::pg_catalog.uuid"

/* What the cache (c) has of token (t). */
#define COPIED_C                                                                                   \
	"c.status, c.secret_hash, c.client_id, c.policy, c.owner, c.scopes, c.metadata, c.issued_at,"  \
	" c.expires_at, c.refresh_at, c.rotated_at, c.overlap_ends_at, c.replay_ends_at, c.key_id,"    \
	" c.family_id, c.rotation_key"
#define COPIED_T                                                                                   \
	"t.status, t.secret_hash, t.client_id, t.policy, t.owner, t.scopes, t.metadata, t.issued_at,"  \
	" t.expires_at, t.refresh_at, t.rotated_at, t.overlap_ends_at, t.replay_ends_at, t.key_id,"    \
	" CASE WHEN t.key_id IS NOT NULL THEN t.family_id END,"                                        \
	" CASE WHEN t.key_id IS NOT NULL THEN t.rotation_hash IS NOT NULL END"

/* May cache row c stay beside token t at the moment $1? */
#define KEEP                                                                                       \
	"((" COPIED_C ") IS NOT DISTINCT FROM (" COPIED_T ") AND (t." TR_LIVE                          \
	" OR c.nonce IS NOT NULL AND c.replay_ends_at OPERATOR(pg_catalog.>) $1))"

/* Usage u as rows: $1 token ids, $2 first and $3 last moments; n counts from 1. */
#define USED "ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"

/* Must usage u be written to token t? */
#define NEWS                                                                                       \
	"(t.first_used_at IS NULL OR t.last_used_at IS NULL OR t.last_used_at"                         \
	" OPERATOR(pg_catalog.<) (u.last_at OPERATOR(pg_catalog.-) '1 hour'::pg_catalog.interval))"

/*
 * Moments as a timestamptz[]; counts as an int8[].
 */
static Datum
time_array(Datum *times, int count)
{
	return PointerGetDatum(construct_array(times, count, TIMESTAMPTZOID, sizeof(TimestampTz),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum
count_array(Datum *counts, int count)
{
	return PointerGetDatum(
		construct_array(counts, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * A number in the first row of the last result.
 */
static int
count_value(int column)
{
	bool isnull;

	return (int) DatumGetInt64(tr_sql_value(0, column, &isnull));
}

bool
tr_upkeep_complete(void)
{
	static TrSql sql = {
		.text = "SELECT FROM token_rotation.token_cache c"
				" WHERE c.token_id OPERATOR(pg_catalog.=) " MARK,
	};

	return tr_sql_run(&sql, NULL, NULL) > 0;
}

void
tr_upkeep_set_complete(void)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.token_cache (token_id) VALUES (" MARK ")"
				" ON CONFLICT DO NOTHING",
	};

	tr_sql_run(&sql, NULL, NULL);
}

Oid
tr_upkeep_cache_file(void)
{
	static TrSql sql = {
		.text =
			"SELECT "
			"pg_catalog.pg_relation_filenode('token_rotation.token_cache'::pg_catalog.regclass)",
	};
	bool isnull;

	tr_sql_run(&sql, NULL, NULL);
	return DatumGetObjectId(tr_sql_value(0, 1, &isnull));
}

void
tr_upkeep_unset_complete(void)
{
	/* if somebody has it locked, he is doing the same */
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.token_cache d WHERE d.token_id IN ("
				"SELECT c.token_id FROM token_rotation.token_cache c"
				" WHERE c.token_id OPERATOR(pg_catalog.=) " MARK " FOR UPDATE SKIP LOCKED)",
	};

	tr_sql_run(&sql, NULL, NULL);
}

/*
 * The rows of token are counted whether they are live or not, so that a long
 * history with few live tokens in it comes in short batches, too.  Tokens that
 * the cache has are left alone.  What was live and is not when it is locked
 * counts as left out, which costs another pass and no more.
 */
int
tr_upkeep_fill(uint8 cursor[TR_ID_BYTES], int max, int *skipped)
{
	static TrSql sql = {
		.text =
			"WITH batch AS MATERIALIZED ("
			"SELECT t.token_id, t.status FROM token_rotation.token t"
			" WHERE t.token_id OPERATOR(pg_catalog.>) $1 ORDER BY t.token_id LIMIT $2),"
			" missing AS MATERIALIZED (SELECT b.token_id FROM batch b WHERE b." TR_LIVE
			" AND NOT EXISTS (SELECT FROM token_rotation.token_cache c"
			" WHERE c.token_id OPERATOR(pg_catalog.=) b.token_id)),"
			" locked AS MATERIALIZED (SELECT t.token_id, " COPIED_T
			", t.first_used_at, t.last_used_at FROM token_rotation.token t"
			" WHERE t.token_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT m.token_id FROM missing m))"
			" AND t." TR_LIVE " FOR SHARE SKIP LOCKED),"
			" filled AS (INSERT INTO token_rotation.token_cache (token_id, status, secret_hash,"
			" client_id, policy, owner, scopes, metadata, issued_at, expires_at, refresh_at,"
			" rotated_at, overlap_ends_at, replay_ends_at, key_id, family_id, rotation_key,"
			" first_used_at, last_used_at) SELECT l.* FROM locked l ON CONFLICT DO NOTHING)"
			" SELECT (SELECT pg_catalog.count(*) FROM batch),"
			" (SELECT pg_catalog.count(*) FROM missing)"
			" OPERATOR(pg_catalog.-) (SELECT pg_catalog.count(*) FROM locked),"
			" (SELECT b.token_id FROM batch b ORDER BY b.token_id DESC LIMIT 1)",
		.nargs = 2,
		.types = {UUIDOID, INT4OID},
	};
	Datum values[2];
	const uint8 *last;

	values[0] = PointerGetDatum(cursor);
	values[1] = Int32GetDatum(max);
	tr_sql_run(&sql, values, NULL);
	*skipped += count_value(2);
	last = tr_sql_id(0, 3);
	if (last != NULL)
		memcpy(cursor, last, TR_ID_BYTES);
	return count_value(1);
}

/*
 * Lock those of the suspects whose token is there and free, and drop the cache
 * rows that still differ once nobody can change them; likewise those of tokens
 * that are gone.  Returns how many of the ids in locked[] were locked.
 */
static int
drop_suspects(Datum *suspects, int count, TimestampTz now, uint8 (*locked)[TR_ID_BYTES])
{
	static TrSql lock_sql = {
		.text = "SELECT t.token_id FROM token_rotation.token t"
				" WHERE t.token_id OPERATOR(pg_catalog.=) ANY ($1)"
				" FOR NO KEY UPDATE SKIP LOCKED",
		.nargs = 1,
		.types = {UUIDARRAYOID},
	};
	static TrSql drop_sql = {
		.text = "DELETE FROM token_rotation.token_cache d WHERE d.token_id IN ("
				"SELECT c.token_id FROM token_rotation.token_cache c"
				" LEFT JOIN token_rotation.token t ON t.token_id OPERATOR(pg_catalog.=) c.token_id"
				" WHERE c.token_id OPERATOR(pg_catalog.=) ANY ($2) AND (t.token_id IS NULL"
				" OR t.token_id OPERATOR(pg_catalog.=) ANY ($3) AND " KEEP " IS NOT TRUE)"
				" FOR UPDATE OF c SKIP LOCKED)",
		.nargs = 3,
		.types = {TIMESTAMPTZOID, UUIDARRAYOID, UUIDARRAYOID},
	};
	Datum *ids = palloc(sizeof(Datum) * count);
	Datum values[3];
	int found;
	int i;

	values[0] = tr_ids_datum(suspects, count);
	found = (int) tr_sql_run(&lock_sql, values, NULL);
	for (i = 0; i < found; i++)
	{
		memcpy(locked[i], tr_sql_id(i, 1), TR_ID_BYTES);
		ids[i] = PointerGetDatum(locked[i]);
	}

	values[1] = values[0];
	values[0] = TimestampTzGetDatum(now);
	values[2] = tr_ids_datum(ids, found);
	if (tr_sql_run(&drop_sql, values, NULL) > 0)
		tr_upkeep_unset_complete();
	return found;
}

/*
 * Is this id among the locked ones?
 */
static bool
is_locked(const uint8 *id, uint8 (*locked)[TR_ID_BYTES], int count)
{
	int i;

	for (i = 0; i < count; i++)
	{
		if (memcmp(id, locked[i], TR_ID_BYTES) == 0)
			return true;
	}
	return false;
}

/*
 * A row that disagrees with a token that somebody else has locked cannot be
 * judged: the cursor stops before it, and the caller sees that it did not move
 * on.
 */
int
tr_upkeep_reconcile(uint8 cursor[TR_ID_BYTES], int max)
{
	static TrSql sql = {
		.text = "SELECT c.token_id, " KEEP " IS NOT TRUE, t.token_id IS NOT NULL"
				" FROM token_rotation.token_cache c"
				" LEFT JOIN token_rotation.token t ON t.token_id OPERATOR(pg_catalog.=) c.token_id"
				" WHERE c.token_id OPERATOR(pg_catalog.>) $2 ORDER BY c.token_id LIMIT $3",
		.nargs = 3,
		.types = {TIMESTAMPTZOID, UUIDOID, INT4OID},
	};
	TimestampTz now = GetCurrentTimestamp();
	Datum values[3];
	Datum *suspects = palloc(sizeof(Datum) * max);
	uint8(*locked)[TR_ID_BYTES] = palloc(TR_ID_BYTES * max);
	SPITupleTable *rows;
	int suspect_count = 0;
	int locked_count = 0;
	int count;
	int i;

	values[0] = TimestampTzGetDatum(now);
	values[1] = PointerGetDatum(cursor);
	values[2] = Int32GetDatum(max);
	count = (int) tr_sql_run(&sql, values, NULL);
	rows = SPI_tuptable;
	for (i = 0; i < count; i++)
	{
		bool isnull;

		if (DatumGetBool(tr_sql_value(i, 2, &isnull)))
			suspects[suspect_count++] = PointerGetDatum(tr_sql_id(i, 1));
	}
	TR_STOP_POINT("cache_compared");
	if (suspect_count > 0)
		locked_count = drop_suspects(suspects, suspect_count, now, locked);

	SPI_tuptable = rows;
	for (i = 0; i < count; i++)
	{
		const uint8 *id = tr_sql_id(i, 1);
		bool isnull;

		if (DatumGetBool(tr_sql_value(i, 2, &isnull)) &&
			DatumGetBool(tr_sql_value(i, 3, &isnull)) && !is_locked(id, locked, locked_count))
			return max;
		memcpy(cursor, id, TR_ID_BYTES);
	}
	return count;
}

int
tr_upkeep_erase_nonces(TimestampTz now, int max)
{
	static TrSql sql = {
		.text = "WITH ended AS MATERIALIZED ("
				"SELECT c.token_id, c." TR_LIVE " AS live FROM token_rotation.token_cache c"
				" WHERE c.nonce IS NOT NULL AND c.replay_ends_at OPERATOR(pg_catalog.<=) $1"
				" ORDER BY c.replay_ends_at LIMIT $2 FOR UPDATE SKIP LOCKED),"
				" dropped AS (DELETE FROM token_rotation.token_cache c USING ended e"
				" WHERE c.token_id OPERATOR(pg_catalog.=) e.token_id AND NOT e.live),"
				" erased AS (UPDATE token_rotation.token_cache c SET nonce = NULL FROM ended e"
				" WHERE c.token_id OPERATOR(pg_catalog.=) e.token_id AND e.live)"
				" SELECT pg_catalog.count(*) FROM ended",
		.nargs = 2,
		.types = {TIMESTAMPTZOID, INT4OID},
	};
	Datum values[2];

	values[0] = TimestampTzGetDatum(now);
	values[1] = Int32GetDatum(max);
	tr_sql_run(&sql, values, NULL);
	return count_value(1);
}

TimestampTz
tr_upkeep_next_nonce(void)
{
	static TrSql sql = {
		.text = "SELECT c.replay_ends_at FROM token_rotation.token_cache c"
				" WHERE c.nonce IS NOT NULL AND c.replay_ends_at IS NOT NULL"
				" ORDER BY c.replay_ends_at LIMIT 1",
	};
	bool isnull;

	if (tr_sql_run(&sql, NULL, NULL) == 0)
		return TR_FOREVER;
	return DatumGetTimestampTz(tr_sql_value(0, 1, &isnull));
}

/*
 * Take the mark from entries whose numbers (from 1) the last result has.
 */
static void
unmark(bool *flushed, uint64 rows)
{
	uint64 i;
	bool isnull;

	for (i = 0; i < rows; i++)
		flushed[DatumGetInt64(tr_sql_value(i, 1, &isnull)) - 1] = false;
}

/*
 * Write first uses, and last ones that are an hour old, to token.  Entries whose
 * token still has to be written, because somebody else has it locked, are
 * unmarked.
 */
static void
flush_tokens(Datum *values, bool *flushed)
{
	static TrSql write_sql = {
		.text = "UPDATE token_rotation.token w"
				" SET first_used_at = coalesce(w.first_used_at, n.first_at),"
				" last_used_at = greatest(w.last_used_at, n.last_at)"
				" FROM (SELECT t.token_id, u.first_at, u.last_at FROM " USED
				" AS u (token_id, first_at, last_at) JOIN token_rotation.token t"
				" ON t.token_id OPERATOR(pg_catalog.=) u.token_id WHERE " NEWS
				" FOR NO KEY UPDATE OF t SKIP LOCKED) n"
				" WHERE w.token_id OPERATOR(pg_catalog.=) n.token_id",
		.nargs = 3,
		.types = {UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
	};
	static TrSql left_sql = {
		.text = "SELECT u.n FROM " USED " WITH ORDINALITY AS u (token_id, first_at, last_at, n)"
				" JOIN token_rotation.token t ON t.token_id OPERATOR(pg_catalog.=) u.token_id"
				" WHERE " NEWS,
		.nargs = 3,
		.types = {UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
	};

	tr_sql_run(&write_sql, values, NULL);
	unmark(flushed, tr_sql_run(&left_sql, values, NULL));
}

/*
 * Add usage to the cache.  Entries whose row somebody else has locked are
 * unmarked; those whose row is not there are done.
 */
static void
flush_cache(Datum *values, bool *flushed)
{
	static TrSql sql = {
		.text = "WITH u AS MATERIALIZED (SELECT * FROM ROWS FROM (pg_catalog.unnest($1),"
				" pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))"
				" WITH ORDINALITY AS u (token_id, first_at, last_at, uses, n)),"
				" written AS (UPDATE token_rotation.token_cache w"
				" SET first_used_at = coalesce(w.first_used_at, n.first_at),"
				" last_used_at = greatest(w.last_used_at, n.last_at),"
				" use_count = w.use_count OPERATOR(pg_catalog.+) n.uses"
				" FROM (SELECT c.token_id, u.first_at, u.last_at, u.uses FROM u"
				" JOIN token_rotation.token_cache c ON c.token_id OPERATOR(pg_catalog.=) u.token_id"
				" WHERE u.uses OPERATOR(pg_catalog.>) 0"
				" FOR NO KEY UPDATE OF c SKIP LOCKED) n"
				" WHERE w.token_id OPERATOR(pg_catalog.=) n.token_id RETURNING w.token_id)"
				" SELECT u.n FROM u JOIN token_rotation.token_cache c"
				" ON c.token_id OPERATOR(pg_catalog.=) u.token_id"
				" WHERE u.uses OPERATOR(pg_catalog.>) 0 AND NOT EXISTS (SELECT FROM written w"
				" WHERE w.token_id OPERATOR(pg_catalog.=) u.token_id)",
		.nargs = 4,
		.types = {UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID},
	};

	unmark(flushed, tr_sql_run(&sql, values, NULL));
}

/*
 * An entry is stored as a whole or not at all: a token that has to wait takes
 * its count along (0 here), or it would be added twice.
 */
void
tr_upkeep_flush(const TrUsage *usage, int count, bool *flushed)
{
	Datum *ids = palloc(sizeof(Datum) * count);
	Datum *firsts = palloc(sizeof(Datum) * count);
	Datum *lasts = palloc(sizeof(Datum) * count);
	Datum *uses = palloc(sizeof(Datum) * count);
	Datum values[4];
	int i;

	for (i = 0; i < count; i++)
	{
		ids[i] = PointerGetDatum(usage[i].token);
		firsts[i] = TimestampTzGetDatum(usage[i].first_at);
		lasts[i] = TimestampTzGetDatum(usage[i].last_at);
		flushed[i] = true;
	}
	values[0] = tr_ids_datum(ids, count);
	values[1] = time_array(firsts, count);
	values[2] = time_array(lasts, count);
	flush_tokens(values, flushed);

	for (i = 0; i < count; i++)
		uses[i] = Int64GetDatum(flushed[i] ? (int64) usage[i].count : 0);
	values[3] = count_array(uses, count);
	flush_cache(values, flushed);
}
