/*
 * sql.c
 *	  Running the extension's own constant SQL: see sql.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "frame/caller.h"
#include "frame/circuit.h"
#include "frame/sql.h"

/*
 * Prepare a statement and keep its plan for the session.
 */
static void
prepare(TrSql *sql)
{
	SPIPlanPtr plan = SPI_prepare(sql->text, sql->nargs, sql->types);
	CachedPlanSource *source;

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql->text, SPI_result_code_string(SPI_result));
	sql->plan = plan;
	/* no node, so that linitial_node() does not know it */
	source = linitial(SPI_plan_get_plan_sources(plan));
	sql->writes = source->commandTag != CMDTAG_SELECT;
}

/*
 * Run a prepared statement under this snapshot.
 */
static int
execute(const TrSql *sql, Datum *values, const char *nulls, Snapshot snapshot)
{
	return SPI_execute_snapshot(sql->plan, values, nulls, snapshot, InvalidSnapshot, false, true,
								0);
}

/*
 * The same for one that writes, whose failure and success the circuit wants to know.
 */
static int
execute_write(const TrSql *sql, Datum *values, const char *nulls, Snapshot snapshot)
{
	MemoryContext context = CurrentMemoryContext;
	int code;

	PG_TRY();
	{
		code = execute(sql, values, nulls, snapshot);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		tr_circuit_failed();
		PG_RE_THROW();
	}
	PG_END_TRY();
	/* an update may have found room in a page while there is none for what rotation adds */
	if (SPI_processed > 0 && (code == SPI_OK_INSERT || code == SPI_OK_INSERT_RETURNING))
		tr_circuit_wrote();
	return code;
}

uint64
tr_sql_run(TrSql *sql, Datum *values, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	Snapshot snapshot;
	int code;

	Assert(tr_section_active());
	if (sql->plan == NULL)
		prepare(sql);

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	code = sql->writes ? execute_write(sql, values, nulls, snapshot)
					   : execute(sql, values, nulls, snapshot);
	UnregisterSnapshot(snapshot);
	if (code < 0)
		elog(ERROR, "could not run \"%s\": %s", sql->text, SPI_result_code_string(code));

	MemoryContextSwitchTo(context);
	return SPI_processed;
}

Datum
tr_sql_value(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

const uint8 *
tr_sql_id(uint64 row, int column)
{
	bool isnull;
	Datum value = tr_sql_value(row, column, &isnull);

	return isnull ? NULL : DatumGetUUIDP(value)->data;
}

Datum
tr_ids_datum(Datum *ids, int count)
{
	return PointerGetDatum(construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}
