/*
 * stat.c
 *	  What the view tr_stat reads, and tr_stat_reset.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "frame/catalog.h"
#include "state/stats.h"

#define COLUMNS 5

/*
 * The rows of one policy, or those without one: what can be counted for it, and
 * whatever else was.
 */
static void
put_rows(ReturnSetInfo *result, const TrTally *tally)
{
	bool of_policy = tally->policy[0] != '\0';
	int i;

	for (i = 0; i < TR_STAT_COUNT; i++)
	{
		const char *event;
		const char *reason;
		Datum values[COLUMNS];
		bool nulls[COLUMNS] = {false};

		if (tally->counts[i] == 0 && !tr_stat_possible((TrStat) i, of_policy))
			continue;
		tr_stat_name((TrStat) i, &event, &reason);
		nulls[0] = !of_policy;
		values[0] = CStringGetTextDatum(tally->policy);
		values[1] = CStringGetTextDatum(event);
		nulls[2] = reason == NULL;
		values[2] = reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason);
		values[3] = Int64GetDatum((int64) tally->counts[i]);
		values[4] = TimestampTzGetDatum(tally->reset_at);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

PG_FUNCTION_INFO_V1(tr_stat_counters);

/*
 * tr_stat_counters(): a row for each policy, event and reason of this database.
 */
Datum
tr_stat_counters(PG_FUNCTION_ARGS)
{
	TrTally *tallies;
	TimestampTz reset_at = 0;
	int room;
	int count;
	int i;

	tr_catalog();
	/* so that there are rows, whatever was counted */
	(void) tr_stats_of(NULL);
	room = tr_stats_read(MyDatabaseId, NULL, 0);
	tallies = palloc(Max(room, 1) * sizeof(TrTally));
	count = Min(tr_stats_read(MyDatabaseId, tallies, room), room);

	/* they are all counted since then, also those of a younger policy */
	for (i = 0; i < count; i++)
		if (tallies[i].policy[0] == '\0')
			reset_at = tallies[i].reset_at;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < count; i++)
	{
		tallies[i].reset_at = reset_at;
		put_rows((ReturnSetInfo *) fcinfo->resultinfo, &tallies[i]);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(tr_stat_reset);

/*
 * tr_stat_reset(): nothing.
 */
Datum
tr_stat_reset(PG_FUNCTION_ARGS)
{
	tr_catalog();
	tr_stats_reset();
	PG_RETURN_VOID();
}
