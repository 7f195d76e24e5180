/*
 * feed.c
 *	  The sealed rows of the audit trail, in the order of the seals: see feed.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "core/chain.h"
#include "frame/catalog.h"
#include "frame/sql.h"
#include "state/feed.h"

/* Columns of the look below that are not answered. */
enum
{
	COL_SEGMENT = 1,
	COL_SEAL,
	COL_ROWS,
	COL_AT,
	COL_PRUNED,
	COL_POSITION = TR_FEED_FIRST,
};

/*
 * The position after so many rows of a seal.
 */
static int64
position_of(int64 segment, int64 seal, int64 place)
{
	return segment + (seal - 1) * TR_SEAL_MAX_ROWS + place;
}

/*
 * A number in the first row of the last result.
 */
static int64
number(int column)
{
	bool isnull;

	return DatumGetInt64(tr_sql_value(0, column, &isnull));
}

int64
tr_feed_newest(void)
{
	static TrSql sql = {
		.text = "SELECT s.segment, s.seal, s.rows::pg_catalog.int8 FROM token_rotation.audit_seal s"
				" WHERE s.segment OPERATOR(pg_catalog.<=) $1"
				" ORDER BY s.segment DESC, s.seal DESC LIMIT 1",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum own = Int64GetDatum(tr_catalog()->segment);

	if (tr_sql_run(&sql, &own, NULL) == 0)
		return 0;
	return position_of(number(1), number(2), number(3));
}

void
tr_feed_begin(TrFeed *feed, int64 position)
{
	static TrSql sql = {
		.text = "SELECT s.segment FROM token_rotation.audit_seal s"
				" WHERE s.segment OPERATOR(pg_catalog.<=) $1"
				" AND s.segment OPERATOR(pg_catalog.<=) $2 ORDER BY s.segment DESC LIMIT 1",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	Datum values[2];

	feed->segment = PG_INT64_MIN;
	feed->seal = feed->place = 0;
	feed->position = position;
	values[0] = Int64GetDatum(position);
	values[1] = Int64GetDatum(tr_catalog()->segment);
	if (tr_sql_run(&sql, values, NULL) == 0)
		return;
	feed->segment = number(1);
	feed->seal = (position - feed->segment) / TR_SEAL_MAX_ROWS + 1;
	feed->place = (position - feed->segment) % TR_SEAL_MAX_ROWS;
}

/*
 * Take over what the look below found of the seal, in which it looked at rows from
 * the first one on.
 */
static void
read_seal(TrFeed *feed, int32 rows, int32 max, uint64 count)
{
	int64 sealed = number(COL_ROWS);
	bool same = feed->segment == number(COL_SEGMENT) && feed->seal == number(COL_SEAL);
	int64 first = same ? feed->place : 0;
	bool isnull;

	feed->segment = number(COL_SEGMENT);
	feed->seal = number(COL_SEAL);
	feed->at = DatumGetTimestampTz(tr_sql_value(0, COL_AT, &isnull));
	feed->pruned = DatumGetBool(tr_sql_value(0, COL_PRUNED, &isnull));
	tr_sql_value(0, COL_POSITION, &isnull);
	feed->found = isnull ? 0 : count;
	feed->place = feed->pruned ? sealed : Min(first + rows, sealed);
	feed->passed = Max(feed->place - first, 0);
	if (feed->found > 0)
	{
		int64 last = DatumGetInt64(tr_sql_value(count - 1, COL_POSITION, &isnull));

		/* there may be more than were wanted */
		if (feed->found == (uint64) max)
			feed->place = last - position_of(feed->segment, feed->seal, 0);
		feed->passed = position_of(feed->segment, feed->seal, feed->place) - last;
	}
	feed->position = Max(feed->position, position_of(feed->segment, feed->seal, feed->place));
	if (feed->place >= sealed)
	{
		feed->seal++;
		feed->place = 0;
	}
}

/*
 * One statement, so that rows that are pruned meanwhile are there or not with their
 * list.
 */
bool
tr_feed_next(TrFeed *feed, int32 rows, int32 max)
{
	static TrSql sql = {
		.text =
			"SELECT s.segment, s.seal, s.rows, s.at, s.pruned, s.segment"
			" OPERATOR(pg_catalog.+) ((s.seal OPERATOR(pg_catalog.-) 1)"
			" OPERATOR(pg_catalog.*) $9) OPERATOR(pg_catalog.+) r.place, r.seq, r.at, r.event,"
			" r.client_id, r.owner, r.token_ref, r.successor_ref, r.actor, r.role, r.origin,"
			" r.reason, r.detail FROM (SELECT x.segment, x.seal,"
			" x.rows::pg_catalog.int8 AS rows, x.at, x.seqs,"
			" x.seqs IS NULL AND x.rows OPERATOR(pg_catalog.>) 0 AS pruned,"
			" CASE WHEN x.segment OPERATOR(pg_catalog.=) $1 AND x.seal OPERATOR(pg_catalog.=) $2"
			" THEN $3 ELSE 0 END AS first FROM token_rotation.audit_seal x"
			" WHERE ROW(x.segment, x.seal) OPERATOR(pg_catalog.>=) ROW($1, $2)"
			" AND x.segment OPERATOR(pg_catalog.<=) $4 AND (x.seqs IS NOT NULL OR NOT $8)"
			" ORDER BY x.segment, x.seal LIMIT 1) s LEFT JOIN LATERAL ("
			"SELECT s.first OPERATOR(pg_catalog.+) u.n AS place, a.* FROM pg_catalog.unnest(s.seqs["
			"(s.first OPERATOR(pg_catalog.+) 1)::pg_catalog.int4:"
			"(s.first OPERATOR(pg_catalog.+) $5)::pg_catalog.int4])"
			" WITH ORDINALITY AS u (seq, n), token_rotation.audit a"
			" WHERE a.seq OPERATOR(pg_catalog.=) u.seq"
			" AND ($6 IS NULL OR a.owner OPERATOR(pg_catalog.=) ANY ($6))"
			" ORDER BY u.n LIMIT $7) r ON true ORDER BY r.place",
		.nargs = 9,
		.types = {INT8OID, INT8OID, INT8OID, INT8OID, INT4OID, TEXTARRAYOID, INT4OID, BOOLOID,
				  INT8OID},
	};
	Datum values[9];
	char nulls[] = "         ";
	uint64 count;

	values[0] = Int64GetDatum(feed->segment);
	values[1] = Int64GetDatum(feed->seal);
	values[2] = Int64GetDatum(feed->place);
	values[3] = Int64GetDatum(tr_catalog()->segment);
	values[4] = Int32GetDatum(rows);
	values[5] = PointerGetDatum(feed->realms);
	nulls[5] = feed->realms == NULL ? 'n' : ' ';
	values[6] = Int32GetDatum(max);
	values[7] = BoolGetDatum(feed->skip_pruned);
	values[8] = Int64GetDatum(TR_SEAL_MAX_ROWS);
	count = tr_sql_run(&sql, values, nulls);
	if (count == 0)
		return false;
	read_seal(feed, rows, max, count);
	return true;
}
