/*
 * told.c
 *	  How far the worker has told of what nobody does: see told.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/interval.h"
#include "frame/sql.h"
#include "state/told.h"

TimestampTz
tr_told_until(const char *event, int64 lead)
{
	static TrSql sql = {
		.text = "SELECT t.until FROM token_rotation.told t"
				" WHERE t.event OPERATOR(pg_catalog.=) $1 AND t.lead OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {TEXTOID, INTERVALOID},
	};
	Datum values[2];
	bool isnull;

	values[0] = CStringGetTextDatum(event);
	values[1] = tr_interval_datum(lead);
	if (tr_sql_run(&sql, values, NULL) == 0)
		return TR_NEVER;
	return DatumGetTimestampTz(tr_sql_value(0, 1, &isnull));
}

void
tr_told_store(const char *event, int64 lead, TimestampTz until, int32 key)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.told AS t (event, lead, until, key_id)"
				" VALUES ($1, $2, $3, $4) ON CONFLICT (event, lead)"
				" DO UPDATE SET until = excluded.until, key_id = excluded.key_id",
		.nargs = 4,
		.types = {TEXTOID, INTERVALOID, TIMESTAMPTZOID, INT4OID},
	};
	Datum values[4];
	char nulls[] = "    ";

	values[0] = CStringGetTextDatum(event);
	values[1] = tr_interval_datum(lead);
	values[2] = TimestampTzGetDatum(until);
	values[3] = Int32GetDatum(key);
	nulls[3] = key < 0 ? 'n' : ' ';
	tr_sql_run(&sql, values, nulls);
}

void
tr_told_keep(const char *event, const int64 *leads, int count)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.told t WHERE t.event OPERATOR(pg_catalog.=) $1"
				" AND t.lead OPERATOR(pg_catalog.<>) ALL ($2)",
		.nargs = 2,
		.types = {TEXTOID, INTERVALARRAYOID},
	};
	Datum *kept = palloc(Max(count, 1) * sizeof(Datum));
	Datum values[2];
	int i;

	for (i = 0; i < count; i++)
		kept[i] = tr_interval_datum(leads[i]);
	values[0] = CStringGetTextDatum(event);
	values[1] = PointerGetDatum(
		construct_array(kept, count, INTERVALOID, sizeof(Interval), false, TYPALIGN_DOUBLE));
	tr_sql_run(&sql, values, NULL);
}

int32
tr_told_key(const char *event)
{
	static TrSql sql = {
		.text = "SELECT t.key_id FROM token_rotation.told t"
				" WHERE t.event OPERATOR(pg_catalog.=) $1 AND t.key_id IS NOT NULL",
		.nargs = 1,
		.types = {TEXTOID},
	};
	Datum value = CStringGetTextDatum(event);
	bool isnull;

	if (tr_sql_run(&sql, &value, NULL) == 0)
		return -1;
	return DatumGetInt32(tr_sql_value(0, 1, &isnull));
}
