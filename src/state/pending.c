/*
 * pending.c
 *	  The table pending: see pending.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "frame/interval.h"
#include "frame/sql.h"
#include "state/pending.h"

void
tr_pending_insert(const uint8 *id, const uint8 *predecessor, int64 overlap)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.pending (token_id, predecessor_id, overlap)"
				" VALUES ($1, $2, $3)",
		.nargs = 3,
		.types = {UUIDOID, UUIDOID, INTERVALOID},
	};
	Datum values[3];

	values[0] = PointerGetDatum(id);
	values[1] = PointerGetDatum(predecessor);
	values[2] = tr_interval_datum(overlap);
	tr_sql_run(&sql, values, NULL);
}

bool
tr_pending_waits(const uint8 *id)
{
	static TrSql sql = {
		.text = "SELECT FROM token_rotation.pending w WHERE w.token_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum value = PointerGetDatum(id);

	return tr_sql_run(&sql, &value, NULL) > 0;
}

bool
tr_pending_successor(const uint8 *predecessor, uint8 id[TR_ID_BYTES])
{
	static TrSql sql = {
		.text = "SELECT w.token_id FROM token_rotation.pending w"
				" WHERE w.predecessor_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum value = PointerGetDatum(predecessor);

	if (tr_sql_run(&sql, &value, NULL) == 0)
		return false;
	memcpy(id, tr_sql_id(0, 1), TR_ID_BYTES);
	return true;
}

bool
tr_pending_remove(const uint8 *id, uint8 predecessor[TR_ID_BYTES], int64 *overlap)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.pending w WHERE w.token_id OPERATOR(pg_catalog.=) $1"
				" RETURNING w.predecessor_id, (pg_catalog.date_part('epoch', w.overlap)"
				" OPERATOR(pg_catalog.*) 1000000::pg_catalog.float8)::pg_catalog.int8",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum value = PointerGetDatum(id);
	bool isnull;

	if (tr_sql_run(&sql, &value, NULL) == 0)
		return false;
	if (predecessor != NULL)
		memcpy(predecessor, tr_sql_id(0, 1), TR_ID_BYTES);
	if (overlap != NULL)
		*overlap = DatumGetInt64(tr_sql_value(0, 2, &isnull));
	return true;
}

int
tr_pending_find(const TrUsage *usage, int count, bool *waits)
{
	static TrSql sql = {
		.text = "SELECT u.n FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (token_id, n)"
				" JOIN token_rotation.pending w ON w.token_id OPERATOR(pg_catalog.=) u.token_id",
		.nargs = 1,
		.types = {UUIDARRAYOID},
	};
	Datum *ids;
	Datum value;
	int found;
	int i;

	memset(waits, 0, count * sizeof(bool));
	if (count == 0)
		return 0;
	ids = palloc(count * sizeof(Datum));
	for (i = 0; i < count; i++)
		ids[i] = PointerGetDatum(usage[i].token);
	value = tr_ids_datum(ids, count);
	found = (int) tr_sql_run(&sql, &value, NULL);
	for (i = 0; i < found; i++)
	{
		bool isnull;

		waits[DatumGetInt64(tr_sql_value(i, 1, &isnull)) - 1] = true;
	}
	return found;
}
