/*
 * other_hook.c
 *	  A library with a log hook of its own, as an exporter of logs has one:
 *	  test/t/070_redaction.pl loads it before and after ours.
 *
 * It adds each message and its detail to the file that other_hook.file names.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static emit_log_hook_type previous_hook = NULL;
static char *file_name = NULL;

/*
 * The log hook.
 */
static void
write_down(ErrorData *edata)
{
	FILE *file = file_name != NULL ? fopen(file_name, "a") : NULL;

	if (file != NULL)
	{
		fprintf(file, "%s | %s\n", edata->message != NULL ? edata->message : "",
				edata->detail != NULL ? edata->detail : "");
		fclose(file);
	}
	if (previous_hook)
		previous_hook(edata);
}

void
_PG_init(void)
{
	DefineCustomStringVariable("other_hook.file", "Where to write.", NULL, &file_name, NULL,
							   PGC_POSTMASTER, 0, NULL, NULL, NULL);
	previous_hook = emit_log_hook;
	emit_log_hook = write_down;
}
