/*
 * bench.c
 *	  What the measurements need inside the server.
 *
 * bench_empty() does nothing: what it costs is the price of calling any C
 * function.  The others give out line n of a file of equally long lines, from
 * memory, so that every call gets another token although pgbench draws only
 * numbers.  That costs a tenth of a microsecond, which all candidates bear and
 * SELECT 1 does not.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmgr.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(bench_empty);
PG_FUNCTION_INFO_V1(bench_token);
PG_FUNCTION_INFO_V1(bench_written_token);

typedef struct Lines
{
	const char *name; /* in the data directory */
	const char *start;
	size_t		width; /* without the line end */
	size_t		count;
} Lines;

/*
 * Map the file at the first call.
 */
static void
map(Lines *lines)
{
	struct stat status;
	const char *end;
	int			file = open(lines->name, O_RDONLY);

	if (file < 0 || fstat(file, &status) != 0)
		elog(ERROR, "could not open \"%s\": %m", lines->name);
	lines->start = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, file, 0);
	close(file);
	if (lines->start == MAP_FAILED || (end = memchr(lines->start, '\n', status.st_size)) == NULL)
		elog(ERROR, "could not map \"%s\"", lines->name);
	lines->width = end - lines->start;
	lines->count = status.st_size / (lines->width + 1);
}

/*
 * Line n, counted from 1.
 */
static Datum
line(Lines *lines, int n)
{
	if (lines->count == 0)
		map(lines);
	if (n < 1 || (size_t) n > lines->count)
		elog(ERROR, "\"%s\" has no line %d", lines->name, n);
	return PointerGetDatum(cstring_to_text_with_len(lines->start + (n - 1) * (lines->width + 1),
													lines->width));
}

Datum
bench_empty(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

Datum
bench_token(PG_FUNCTION_ARGS)
{
	static Lines lines = {.name = "bench_tokens"};

	return line(&lines, PG_GETARG_INT32(0));
}

Datum
bench_written_token(PG_FUNCTION_ARGS)
{
	static Lines lines = {.name = "bench_written_tokens"};

	return line(&lines, PG_GETARG_INT32(0));
}
