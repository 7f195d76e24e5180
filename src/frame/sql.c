/*
 * sql.c
 *	  Running the extension's own constant SQL: see sql.h.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/snapmgr.h"

#include "frame/caller.h"
#include "frame/sql.h"

/*
 * Prepare a statement and keep its plan for the session.
 */
static void
prepare(TrSql *sql)
{
	SPIPlanPtr plan = SPI_prepare(sql->text, sql->nargs, sql->types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql->text, SPI_result_code_string(SPI_result));
	sql->plan = plan;
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
	code =
		SPI_execute_snapshot(sql->plan, values, nulls, snapshot, InvalidSnapshot, false, true, 0);
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
