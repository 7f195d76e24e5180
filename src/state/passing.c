/*
 * passing.c
 *	  Tokens that a moment of theirs passes: see passing.h.
 *
 * Rows are not locked: who is about to change one goes first or comes a moment too
 * late, and nobody is kept waiting for a warning.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/sql.h"
#include "state/passing.h"

#define FIND(time, whose)                                                                          \
	"SELECT t.token_id, " time " FROM token_rotation.token t WHERE " whose " AND " time            \
	" OPERATOR(pg_catalog.>) $1 AND " time " OPERATOR(pg_catalog.<=) $2"                           \
	" AND ($3 IS NULL OR t.policy OPERATOR(pg_catalog.=) ANY ($3))"                                \
	" ORDER BY " time " FETCH FIRST ($4) ROWS WITH TIES"
#define FIND_ARGS .nargs = 4, .types = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID, INT4OID}

List *
tr_passing_find(TrPassing what, ArrayType *policies, TimestampTz after, TimestampTz upto, int max)
{
	static TrSql sql[] = {
		[TR_PASSING_REFRESH] = {.text = FIND("t.refresh_at",
											 "t.status OPERATOR(pg_catalog.=) 'active'"),
								FIND_ARGS},
		[TR_PASSING_WINDOW] = {.text = FIND(TR_ENDS, "t.status OPERATOR(pg_catalog.=) 'rotating'"
													 " AND t.rotated_at IS NULL"),
							   FIND_ARGS},
		[TR_PASSING_END] = {.text = FIND(TR_ENDS, "t." TR_LIVE " AND t.rotated_at IS NULL"),
							FIND_ARGS},
	};
	Datum values[4];
	char nulls[] = "    ";
	List *found = NIL;
	uint64 count;
	uint64 i;

	values[0] = TimestampTzGetDatum(after);
	values[1] = TimestampTzGetDatum(upto);
	values[2] = PointerGetDatum(policies);
	nulls[2] = policies == NULL ? 'n' : ' ';
	values[3] = Int32GetDatum(max);
	count = tr_sql_run(&sql[what], values, nulls);
	for (i = 0; i < count; i++)
	{
		TrPassed *passed = palloc(sizeof(TrPassed));
		bool isnull;

		memcpy(passed->id, tr_sql_id(i, 1), TR_ID_BYTES);
		passed->at = DatumGetTimestampTz(tr_sql_value(i, 2, &isnull));
		found = lappend(found, passed);
	}
	return found;
}

/*
 * What a statement finds: lengths and policies.
 */
static List *
find_leads(TrSql *sql)
{
	List *leads = NIL;
	uint64 count = tr_sql_run(sql, NULL, NULL);
	uint64 i;

	for (i = 0; i < count; i++)
	{
		TrLead *lead = palloc(sizeof(TrLead));
		bool isnull;

		lead->length = palloc(sizeof(Interval));
		*lead->length = *DatumGetIntervalP(tr_sql_value(i, 1, &isnull));
		lead->policies = DatumGetArrayTypePCopy(tr_sql_value(i, 2, &isnull));
		leads = lappend(leads, lead);
	}
	return leads;
}

List *
tr_passing_windows(void)
{
	static TrSql sql = {
		.text = "SELECT greatest(p.overlap, p.refresh_before), pg_catalog.array_agg(p.name)"
				" FROM token_rotation.policy p GROUP BY 1",
	};

	return find_leads(&sql);
}

List *
tr_passing_warnings(void)
{
	static TrSql sql = {
		.text = "SELECT w.lead, pg_catalog.array_agg(DISTINCT p.name) FROM token_rotation.policy p,"
				" pg_catalog.unnest(p.warn_before) AS w (lead) GROUP BY w.lead",
	};

	return find_leads(&sql);
}
