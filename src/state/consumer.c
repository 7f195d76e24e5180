/*
 * consumer.c
 *	  How far the consumers of events are: see consumer.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/sql.h"
#include "state/consumer.h"

bool
tr_consumer_read(const char *name, TrConsumer *consumer)
{
	static TrSql sql = {
		.text = "SELECT c.owner, c.\"position\" FROM token_rotation.consumer c"
				" WHERE c.name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID},
	};
	Datum value = CStringGetTextDatum(name);
	bool isnull;

	if (tr_sql_run(&sql, &value, NULL) == 0)
		return false;
	consumer->owner = DatumGetTextPCopy(tr_sql_value(0, 1, &isnull));
	consumer->position = DatumGetInt64(tr_sql_value(0, 2, &isnull));
	return true;
}

bool
tr_consumer_make(const char *name, const char *owner, int64 position)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.consumer (name, owner, \"position\", acked_at)"
				" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		.nargs = 4,
		.types = {TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID},
	};
	Datum values[4];

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(owner);
	values[2] = Int64GetDatum(position);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	return tr_sql_run(&sql, values, NULL) > 0;
}

void
tr_consumer_move(const char *name, int64 position)
{
	static TrSql sql = {
		.text = "UPDATE token_rotation.consumer c SET \"position\" = $2, acked_at = $3"
				" WHERE c.name OPERATOR(pg_catalog.=) $1"
				" AND c.\"position\" OPERATOR(pg_catalog.<) $2",
		.nargs = 3,
		.types = {TEXTOID, INT8OID, TIMESTAMPTZOID},
	};
	Datum values[3];

	values[0] = CStringGetTextDatum(name);
	values[1] = Int64GetDatum(position);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	tr_sql_run(&sql, values, NULL);
}
