/*
 * store_bulk.c
 *	  Statements over many rows of token: see store_bulk.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/lifecycle.h"
#include "frame/sql.h"
#include "state/store_bulk.h"

TimestampTz
tr_store_newest_of_client(const char *client_id)
{
	static TrSql sql = {
		.text = "SELECT pg_catalog.max(t.issued_at) FROM token_rotation.token t"
				" WHERE t.client_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID},
	};
	Datum client = CStringGetTextDatum(client_id);
	Datum value;
	bool isnull;

	tr_sql_run(&sql, &client, NULL);
	value = tr_sql_value(0, 1, &isnull);
	return isnull ? TR_NEVER : DatumGetTimestampTz(value);
}

bool
tr_store_find_successor(const uint8 *id, uint8 successor[TR_ID_BYTES], bool *used)
{
	static TrSql sql = {
		.text = "SELECT t.token_id, t.first_used_at IS NOT NULL OR t.last_used_at IS NOT NULL"
				" OR t.rotated_at IS NOT NULL FROM token_rotation.token t"
				" WHERE t.predecessor_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum value = PointerGetDatum(id);
	bool isnull;

	if (tr_sql_run(&sql, &value, NULL) == 0)
		return false;
	memcpy(successor, tr_sql_id(0, 1), TR_ID_BYTES);
	*used = DatumGetBool(tr_sql_value(0, 2, &isnull));
	return true;
}

TimestampTz
tr_store_oldest_end(TimestampTz before, bool enforced)
{
	static TrSql sql = {
		.text = "SELECT e.ended FROM (SELECT " TR_ENDS " AS place,"
				" CASE WHEN $2 THEN " TR_ENDS
				" ELSE t.expires_at END AS ended"
				" FROM token_rotation.token t WHERE t." TR_LIVE ") e"
				" WHERE e.place OPERATOR(pg_catalog.<) $1 AND e.ended OPERATOR(pg_catalog.<) $1"
				" ORDER BY e.place LIMIT 1",
		.nargs = 2,
		.types = {TIMESTAMPTZOID, BOOLOID},
	};
	Datum values[2];
	bool isnull;

	values[0] = TimestampTzGetDatum(before);
	values[1] = BoolGetDatum(enforced);
	if (tr_sql_run(&sql, values, NULL) == 0)
		return TR_FOREVER;
	return DatumGetTimestampTz(tr_sql_value(0, 1, &isnull));
}

/* Which active tokens t are meant, and come after the one at ($5, $6), by when they are due. */
#define REFRESHABLE(due)                                                                           \
	"t.status OPERATOR(pg_catalog.=) 'active'"                                                     \
	" AND ROW(" due ", t.token_id) OPERATOR(pg_catalog.>) ROW($5, $6)"                             \
	" AND ($3 IS NULL OR t.owner OPERATOR(pg_catalog.=) ANY ($3))"
#define BY_AGE "(t.issued_at OPERATOR(pg_catalog.+) p.rotate_after)"

/*
 * Two indexes: by refresh_at, and for each policy that has a rotate_after by age.
 */
List *
tr_store_lock_refreshable(TimestampTz now, const char *policy, ArrayType *realms, int max,
						  TrDueToken *after)
{
	static TrSql sql = {
		.text = "WITH due AS MATERIALIZED (SELECT u.token_id, u.due FROM ("
				"(SELECT t.token_id, t.refresh_at AS due FROM token_rotation.token t"
				" WHERE t.refresh_at OPERATOR(pg_catalog.<=) $1"
				" AND ($2 IS NULL OR t.policy OPERATOR(pg_catalog.=) $2)"
				" AND " REFRESHABLE("t.refresh_at") " ORDER BY t.refresh_at, t.token_id LIMIT $4)"
				" UNION ALL SELECT x.token_id, x.due FROM token_rotation.policy p, LATERAL ("
				"SELECT t.token_id, " BY_AGE " AS due FROM token_rotation.token t"
				" WHERE t.policy OPERATOR(pg_catalog.=) p.name"
				" AND t.issued_at OPERATOR(pg_catalog.<=) ($1 OPERATOR(pg_catalog.-) p.rotate_after)"
				" AND t.refresh_at OPERATOR(pg_catalog.>) $1"
				" AND " REFRESHABLE(BY_AGE) " ORDER BY t.issued_at, t.token_id LIMIT $4) x"
				" WHERE p.rotate_after IS NOT NULL"
				" AND ($2 IS NULL OR p.name OPERATOR(pg_catalog.=) $2)) u"
				" ORDER BY u.due, u.token_id LIMIT $4),"
				" locked AS MATERIALIZED (SELECT t.token_id FROM token_rotation.token t"
				" WHERE t.token_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT d.token_id FROM due d))"
				" AND t.status OPERATOR(pg_catalog.=) 'active' FOR NO KEY UPDATE SKIP LOCKED)"
				" SELECT d.token_id, d.due, l.token_id IS NOT NULL FROM due d LEFT JOIN locked l"
				" ON l.token_id OPERATOR(pg_catalog.=) d.token_id ORDER BY d.due, d.token_id",
		.nargs = 6,
		.types = {TIMESTAMPTZOID, TEXTOID, TEXTARRAYOID, INT4OID, TIMESTAMPTZOID, UUIDOID},
	};
	Datum values[6];
	char nulls[] = "      ";
	List *tokens = NIL;
	uint64 count;
	uint64 i;

	values[0] = TimestampTzGetDatum(now);
	values[1] = policy == NULL ? (Datum) 0 : CStringGetTextDatum(policy);
	nulls[1] = policy == NULL ? 'n' : ' ';
	values[2] = PointerGetDatum(realms);
	nulls[2] = realms == NULL ? 'n' : ' ';
	values[3] = Int32GetDatum(max);
	values[4] = TimestampTzGetDatum(after->due);
	values[5] = PointerGetDatum(after->id);
	count = tr_sql_run(&sql, values, nulls);
	for (i = 0; i < count; i++)
	{
		TrDueToken *token = palloc(sizeof(TrDueToken));
		bool isnull;

		memcpy(token->id, tr_sql_id(i, 1), TR_ID_BYTES);
		token->due = DatumGetTimestampTz(tr_sql_value(i, 2, &isnull));
		token->locked = DatumGetBool(tr_sql_value(i, 3, &isnull));
		tokens = lappend(tokens, token);
	}
	if (tokens != NIL)
		*after = *(TrDueToken *) llast(tokens);
	return tokens;
}

List *
tr_store_prune(TimestampTz before, ArrayType *realms, int max)
{
	static TrSql sql = {
		.text = "WITH dead AS ("
				"SELECT t.family_id, pg_catalog.min(coalesce(t.revoked_at, t.expires_at)) AS ended"
				" FROM token_rotation.token t"
				" WHERE t.rotated_at IS NULL AND t.status IN ('revoked', 'expired')"
				" AND coalesce(t.revoked_at, t.expires_at) OPERATOR(pg_catalog.<) $1 AND ($2 IS "
				"NULL OR t.owner OPERATOR(pg_catalog.=) ANY ($2))"
				" AND NOT EXISTS (SELECT FROM token_rotation.token m"
				" WHERE m.family_id OPERATOR(pg_catalog.=) t.family_id"
				" AND (m." TR_LIVE " OR coalesce(m.revoked_at,"
				" m.overlap_ends_at, m.expires_at) OPERATOR(pg_catalog.>=) $1))"
				" GROUP BY t.family_id ORDER BY 2 LIMIT $3),"
				" counted AS (SELECT d.family_id, d.ended, (SELECT pg_catalog.count(*)"
				" FROM token_rotation.token m"
				" WHERE m.family_id OPERATOR(pg_catalog.=) d.family_id) AS size FROM dead d),"
				" bounded AS (SELECT c.family_id, pg_catalog.sum(c.size)"
				" OVER (ORDER BY c.ended, c.family_id) OPERATOR(pg_catalog.-) c.size AS sofar"
				" FROM counted c),"
				" locked AS (SELECT t.token_id FROM token_rotation.token t WHERE t.token_id"
				" OPERATOR(pg_catalog.=) ANY (SELECT b.family_id FROM bounded b"
				" WHERE b.sofar OPERATOR(pg_catalog.<) $3) FOR UPDATE SKIP LOCKED)"
				" DELETE FROM token_rotation.token t USING locked l"
				" WHERE t.family_id OPERATOR(pg_catalog.=) l.token_id RETURNING t.token_id",
		.nargs = 3,
		.types = {TIMESTAMPTZOID, TEXTARRAYOID, INT4OID},
	};
	Datum values[3];
	char nulls[] = "   ";
	List *ids = NIL;
	uint64 count;
	uint64 i;

	values[0] = TimestampTzGetDatum(before);
	values[1] = PointerGetDatum(realms);
	nulls[1] = realms == NULL ? 'n' : ' ';
	values[2] = Int32GetDatum(max);
	count = tr_sql_run(&sql, values, nulls);
	for (i = 0; i < count; i++)
	{
		pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

		memcpy(id->data, tr_sql_id(i, 1), TR_ID_BYTES);
		ids = lappend(ids, id);
	}
	return ids;
}

int64
tr_store_set_owner(const char *from, const char *to)
{
	static TrSql sql = {
		.text = "UPDATE token_rotation.token t SET owner = $2"
				" WHERE t.owner OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	Datum values[2];

	values[0] = CStringGetTextDatum(from);
	values[1] = CStringGetTextDatum(to);
	return (int64) tr_sql_run(&sql, values, NULL);
}
