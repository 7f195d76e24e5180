/*
 * stats_file.c
 *	  Statistics over a restart of the server: see stats_file.h.
 *
 * A file beside the server's own statistics, of the same nature: written at a
 * clean shutdown, and removed as soon as it was read.  So a crash begins at 0,
 * and nothing is ever read twice.  It is read by the library that wrote it or
 * by one that counts the same things; another one passes over it.
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "frame/stat.h"
#include "frame/visits.h"
#include "server/stats_file.h"
#include "state/stats.h"

#define FILE_NAME PGSTAT_STAT_PERMANENT_DIRECTORY "/token_rotation.stat"
#define MAGIC 0x54525354

typedef struct Header
{
	uint32 magic;
	uint32 names; /* a sum of what is counted */
	uint32 size;  /* of a tally */
	uint32 count; /* of tallies, which follow */
} Header;

/*
 * A sum of the names of what is counted, in their order.
 */
static uint32
sum_of_names(void)
{
	uint32 sum = 0;
	int i;

	for (i = 0; i < TR_STAT_COUNT; i++)
	{
		const char *event;
		const char *reason;

		tr_stat_name((TrStat) i, &event, &reason);
		sum = hash_combine(sum, hash_bytes((const uint8 *) event, (int) strlen(event)));
		if (reason != NULL)
			sum = hash_combine(sum, hash_bytes((const uint8 *) reason, (int) strlen(reason)));
	}
	return sum;
}

/*
 * Take a tally over.  Its database becomes known, so that the launcher notices
 * if it is gone.
 */
static void
take_over(TrTally *tally)
{
	TrFound found = {.database = tally->database};

	tally->policy[NAMEDATALEN - 1] = '\0';
	if (OidIsValid(tally->database) && tr_visits_learn(&found, 1))
		(void) tr_stats_restore(tally);
}

/*
 * Read the file, if there is one, and remove it.
 */
static void
load(void)
{
	FILE *file = AllocateFile(FILE_NAME, PG_BINARY_R);
	Header header;
	TrTally tally;

	if (file == NULL)
		return;
	if (fread(&header, sizeof(header), 1, file) == 1 && header.magic == MAGIC &&
		header.names == sum_of_names() && header.size == sizeof(tally))
		while (header.count-- > 0 && fread(&tally, sizeof(tally), 1, file) == 1)
			take_over(&tally);
	FreeFile(file);
	unlink(FILE_NAME);
}

/*
 * Write the tallies; false: not whole.
 */
static bool
write_all(FILE *file, const TrTally *tallies, int count)
{
	Header header = {
		.magic = MAGIC, .names = sum_of_names(), .size = sizeof(TrTally), .count = (uint32) count};

	return fwrite(&header, sizeof(header), 1, file) == 1 &&
		   fwrite(tallies, sizeof(TrTally), (size_t) count, file) == (size_t) count;
}

/*
 * Was this a clean shutdown?  An immediate one is none, though the postmaster
 * exits with 0: who was killed in it may hold the lock for ever.
 */
static bool
is_clean(int code)
{
	ControlFileData *control;
	bool intact;
	bool clean;

	if (code != 0)
		return false;
	control = get_controlfile(DataDir, &intact);
	clean =
		intact && (control->state == DB_SHUTDOWNED || control->state == DB_SHUTDOWNED_IN_RECOVERY);
	pfree(control);
	return clean;
}

/*
 * At the end of the server, when nobody counts any more.
 */
static void
save(int code, Datum arg)
{
	TrTally *tallies;
	FILE *file;
	bool whole;
	int count;

	if (!is_clean(code))
		return;
	count = tr_stats_read(InvalidOid, NULL, 0);
	if (count == 0)
		return;
	tallies = palloc0(count * sizeof(TrTally));
	(void) tr_stats_read(InvalidOid, tallies, count);
	file = AllocateFile(FILE_NAME ".tmp", PG_BINARY_W);
	whole = file != NULL && write_all(file, tallies, count);
	whole = (file == NULL || FreeFile(file) == 0) && whole;
	if (!whole || durable_rename(FILE_NAME ".tmp", FILE_NAME, LOG) != 0)
	{
		ereport(LOG,
				(errcode_for_file_access(), errmsg("could not write file \"%s\": %m", FILE_NAME),
				 errdetail("The statistics of token_rotation begin again at 0.")));
		unlink(FILE_NAME ".tmp");
	}
}

void
tr_stats_file_begin(void)
{
	on_shmem_exit(save, (Datum) 0);
	load();
}
