/*
 * schedule.c
 *	  tr_schedule, tr_unschedule, and what the view token_rotation.schedules reads:
 *	  jobs of pg_cron that call tr_rotate_due.
 *
 * pg_cron is no requirement.  It is looked for when it is called: the extension
 * pg_cron in this database, with the schema cron that belongs to it, so that nobody
 * else's functions of these names are run; and cron.database_name, because jobs of
 * any other database's cron.job are never started.
 *
 * It is called as the caller.  pg_cron runs a job as the role that made it, and its
 * row security shows everybody his own, so an operator can neither make a job that
 * can do more than himself nor see one.
 *
 * A job's text holds a schema, a policy and a number.  It answers a row for each
 * rotation that it started, without a column: of a result pg_cron keeps how many
 * rows it had.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "core/mask.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "verbs/args.h"
#include "verbs/mint.h"

/*
 * What one run of a job starts at most, in one transaction.  Once a minute that is
 * 14 million a day.
 */
#define JOB_MAX_TOKENS 10000

#define JOB_PREFIX "token_rotation: "
#define JOBS_SHOWN 9 /* columns of the view */

/*
 * The database whose cron.job pg_cron works on; NULL: it is not preloaded.
 */
static const char *
home_of_cron(void)
{
	if ((GetConfigOptionFlags("cron.database_name", true) & GUC_CUSTOM_PLACEHOLDER) != 0)
		return NULL;
	return GetConfigOption("cron.database_name", true, false);
}

static bool
is_at_home(const char *home)
{
	return home != NULL && strcmp(home, get_database_name(MyDatabaseId)) == 0;
}

/*
 * The schema cron of the extension pg_cron in this database, or InvalidOid.
 */
static Oid
schema_of_cron(void)
{
	Oid extension = get_extension_oid("pg_cron", true);
	Oid schema = get_namespace_oid("cron", true);

	if (!OidIsValid(extension) || !OidIsValid(schema) ||
		getExtensionOfObject(NamespaceRelationId, schema) != extension)
		return InvalidOid;
	return schema;
}

/*
 * 42501 where the caller may not look into pg_cron's schema, which it opens to
 * nobody.
 */
static void
require_usage(Oid schema)
{
	Oid caller = tr_caller();

	if (!DatumGetBool(DirectFunctionCall3(has_schema_privilege_id_id, ObjectIdGetDatum(caller),
										  ObjectIdGetDatum(schema), CStringGetTextDatum("USAGE"))))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for schema cron"),
						errdetail("Schedules are jobs of pg_cron, which are kept there."),
						errhint("Have a superuser run: GRANT USAGE ON SCHEMA cron TO %s",
								quote_identifier(GetUserNameFromId(caller, false)))));
}

/*
 * Raise 55000 where pg_cron does not work on this database.  there is the statement
 * that does the same in the database that it works on.
 */
static void
require_cron(const char *there)
{
	const char *home = home_of_cron();
	const char *here = get_database_name(MyDatabaseId);
	Oid schema = schema_of_cron();

	if (home == NULL)
		tr_raise_state("pg_cron is not preloaded", "Schedules are jobs of the extension pg_cron.",
					   psprintf("Put pg_cron before token_rotation into shared_preload_libraries, "
								"set cron.database_name = %s, restart the server, and run CREATE "
								"EXTENSION pg_cron. Any other scheduler can call tr_rotate_due().",
								quote_literal_cstr(here)));
	if (!is_at_home(home))
		tr_raise_state(psprintf("pg_cron keeps its jobs in database \"%s\"", home),
					   psprintf("So says cron.database_name; this is database \"%s\".", here),
					   psprintf("As a superuser, run this in that database: %s", there));
	if (!OidIsValid(schema))
		tr_raise_state("extension pg_cron is not installed in this database",
					   "The library is loaded, and works on this database.",
					   "Run CREATE EXTENSION pg_cron.");
	require_usage(schema);
}

/*
 * pg_cron logs in as the role that made a job.
 */
static void
require_login(void)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(tr_caller()));
	bool can_login = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!can_login)
		tr_raise_state(psprintf("role \"%s\" cannot log in", GetUserNameFromId(tr_caller(), false)),
					   "pg_cron logs in as the role that made a job.",
					   "Schedule it as a role with LOGIN, without SET ROLE.");
}

/*
 * A job's name, one for each database and policy (NULL: all of them): pg_cron keeps
 * the jobs of a role, whatever their databases are, by name.  It fits into type name,
 * which pg_cron 1.4 stores it as: a longer one ends in a hash of all of it.
 */
static char *
job_name(const char *policy)
{
	char *name = psprintf(JOB_PREFIX "%s in %s", policy == NULL ? "*" : policy,
						  get_database_name(MyDatabaseId));
	int len = strlen(name);
	uint64 hash;

	if (len < NAMEDATALEN)
		return name;
	hash = hash_bytes_extended((unsigned char *) name, len, 0);
	return psprintf("%.*s~%016llx", pg_mbcliplen(name, len, NAMEDATALEN - 1 - 17), name,
					(unsigned long long) hash);
}

/*
 * What the job runs, and how that begins, by which the view knows one of ours.
 */
static char *
job_command_begin(void)
{
	return psprintf("SELECT FROM %s.tr_rotate_due(",
					quote_identifier(get_namespace_name(tr_catalog()->functions_schema)));
}

static char *
job_command(const char *policy)
{
	return psprintf("%s%s, %d) r, pg_catalog.generate_series(1, r.started)", job_command_begin(),
					policy == NULL ? "NULL" : quote_literal_cstr(policy), JOB_MAX_TOKENS);
}

/*
 * The policy argument: NULL stands for every policy.
 */
static char *
arg_policy(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(0) ? NULL : tr_arg_name(fcinfo, 0, "policy");
}

/*
 * The schedule, masked: pg_cron stores and logs it.  What it means is pg_cron's.
 */
static char *
arg_cron(FunctionCallInfo fcinfo)
{
	text *cron = DatumGetTextPP(tr_arg(fcinfo, 1, "cron"));
	char *masked = palloc(TR_EVENT_TEXT);

	if (VARSIZE_ANY_EXHDR(cron) >= TR_EVENT_TEXT)
		tr_raise_value(
			"cron is too long",
			psprintf("It has %zu bytes; 255 are allowed.", (size_t) VARSIZE_ANY_EXHDR(cron)),
			"Pass a schedule like '*/5 * * * *'.");
	tr_event_text(masked, VARDATA_ANY(cron), VARSIZE_ANY_EXHDR(cron));
	return masked;
}

/*
 * Write the audit row.
 */
static void
note_change(const char *policy, const char *cron, int64 job, bool removed)
{
	TrEvent event;
	StringInfoData detail;
	char *masked;

	initStringInfo(&detail);
	appendStringInfoString(&detail, "{\"policy\": ");
	if (policy != NULL)
		escape_json(&detail, policy);
	else
		appendStringInfoString(&detail, "null");
	appendStringInfoString(&detail, ", \"schedule\": ");
	escape_json(&detail, cron);
	appendStringInfo(&detail, ", \"job_id\": " INT64_FORMAT ", \"removed\": %s}", job,
					 removed ? "true" : "false");
	masked = palloc(detail.len + 1);
	tr_token_mask(detail.data, detail.len, masked);

	tr_event_begin(&event, TR_EVENT_SCHEDULE_CHANGED);
	tr_audit_write(&event, masked);
}

/*
 * pg_cron leaves a job that somebody has switched off as it is when it gets another
 * schedule.
 */
static void
warn_of_inactive(int64 job)
{
	static TrSql sql = {
		.text = "SELECT 1 FROM cron.job j"
				" WHERE j.jobid OPERATOR(pg_catalog.=) $1 AND NOT j.active",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum value = Int64GetDatum(job);

	if (tr_sql_run(&sql, &value, NULL) != 0)
		ereport(WARNING, (errmsg("job " INT64_FORMAT " of pg_cron is switched off", job),
						  errdetail("It has the new schedule, and stays switched off."),
						  errhint("Run SELECT cron.alter_job(" INT64_FORMAT ", active => true), or "
								  "tr_unschedule() first.",
								  job)));
}

/*
 * Make the job or give it another schedule, as the caller.
 */
static int64
schedule_job(const char *policy, const char *cron)
{
	static TrSql sql = {
		.text = "SELECT cron.schedule($1, $2, $3)",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, TEXTOID},
	};
	Datum values[3] = {CStringGetTextDatum(job_name(policy)), CStringGetTextDatum(cron),
					   CStringGetTextDatum(job_command(policy))};
	bool isnull;
	int64 job;

	tr_act_as(tr_caller());
	tr_sql_run(&sql, values, NULL);
	job = DatumGetInt64(tr_sql_value(0, 1, &isnull));
	warn_of_inactive(job);
	tr_act_as_owner();
	return job;
}

/*
 * The statement that does what tr_schedule does, in the database of pg_cron.
 */
static char *
schedule_there(const char *policy, const char *cron)
{
	return psprintf("SELECT cron.schedule_in_database(%s, %s, %s, %s, %s)",
					quote_literal_cstr(job_name(policy)), quote_literal_cstr(cron),
					quote_literal_cstr(job_command(policy)),
					quote_literal_cstr(get_database_name(MyDatabaseId)),
					quote_literal_cstr(GetUserNameFromId(tr_caller(), false)));
}

PG_FUNCTION_INFO_V1(tr_schedule);

/*
 * SQL: tr_schedule(policy text, cron text)
 */
Datum
tr_schedule(PG_FUNCTION_ARGS)
{
	TrSection section;
	char *policy;
	char *cron;
	int64 job;

	tr_catalog();
	tr_xact_writes("tr_schedule()");
	policy = arg_policy(fcinfo);
	cron = arg_cron(fcinfo);

	tr_section_begin(&section);
	if (policy != NULL)
	{
		TrPolicy known;

		tr_mint_policy(policy, &known);
	}
	require_login();
	require_cron(schedule_there(policy, cron));
	job = schedule_job(policy, cron);
	note_change(policy, cron, job, false);
	tr_section_end(&section);
	PG_RETURN_INT64(job);
}

/*
 * Remove the caller's job for a policy, as the caller.  false: he has none.
 */
static bool
unschedule_job(const char *policy, char **cron, int64 *job)
{
	static TrSql sql = {
		.text = "SELECT j.jobid, j.schedule, cron.unschedule(j.jobid) FROM cron.job j"
				" WHERE j.jobname::pg_catalog.text OPERATOR(pg_catalog.=) $1"
				" AND j.username OPERATOR(pg_catalog.=) CURRENT_USER",
		.nargs = 1,
		.types = {TEXTOID},
	};
	Datum value = CStringGetTextDatum(job_name(policy));
	bool found;
	bool isnull;

	tr_act_as(tr_caller());
	found = tr_sql_run(&sql, &value, NULL) != 0;
	if (found)
	{
		*job = DatumGetInt64(tr_sql_value(0, 1, &isnull));
		*cron = TextDatumGetCString(tr_sql_value(0, 2, &isnull));
	}
	tr_act_as_owner();
	return found;
}

/*
 * Likewise for tr_unschedule.
 */
static char *
unschedule_there(const char *policy)
{
	return psprintf(
		"SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = %s AND username = %s",
		quote_literal_cstr(job_name(policy)),
		quote_literal_cstr(GetUserNameFromId(tr_caller(), false)));
}

PG_FUNCTION_INFO_V1(tr_unschedule);

/*
 * SQL: tr_unschedule(policy text).  The policy need not be there any more.
 */
Datum
tr_unschedule(PG_FUNCTION_ARGS)
{
	TrSection section;
	char *policy;
	char *cron;
	int64 job;
	bool found;

	tr_catalog();
	tr_xact_writes("tr_unschedule()");
	policy = arg_policy(fcinfo);

	tr_section_begin(&section);
	require_cron(unschedule_there(policy));
	found = unschedule_job(policy, &cron, &job);
	if (found)
		note_change(policy, cron, job, true);
	tr_section_end(&section);
	PG_RETURN_BOOL(found);
}

PG_FUNCTION_INFO_V1(tr_schedules);

/*
 * SQL: tr_schedules().  No row where pg_cron does not work on this database.  The
 * newest run of a job is found from the end of the history, which has no index by job.
 */
Datum
tr_schedules(PG_FUNCTION_ARGS)
{
	static TrSql sql = {
		.text = "SELECT pg_catalog.substring(j.command, '^[^(]*[.]tr_rotate_due[(]''([^'']+)'''),"
				" j.schedule, j.active, j.jobid, j.database, j.username,"
				" d.start_time, d.status, d.return_message"
				" FROM cron.job j"
				" LEFT JOIN LATERAL (SELECT r.start_time, r.status, r.return_message"
				" FROM cron.job_run_details r WHERE r.jobid OPERATOR(pg_catalog.=) j.jobid"
				" ORDER BY r.runid DESC LIMIT 1) d ON true"
				" WHERE pg_catalog.starts_with(j.jobname::pg_catalog.text, '" JOB_PREFIX "')"
				" AND pg_catalog.starts_with(j.command, $1)",
		.nargs = 1,
		.types = {TEXTOID},
	};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TrSection section;
	Oid schema;
	Datum value;
	uint64 count;
	uint64 i;

	tr_catalog();
	InitMaterializedSRF(fcinfo, 0);
	schema = schema_of_cron();
	if (!OidIsValid(schema) || !is_at_home(home_of_cron()))
		return (Datum) 0;
	require_usage(schema);

	tr_section_begin(&section);
	tr_act_as(tr_caller());
	value = CStringGetTextDatum(job_command_begin());
	count = tr_sql_run(&sql, &value, NULL);
	for (i = 0; i < count; i++)
	{
		Datum values[JOBS_SHOWN];
		bool nulls[JOBS_SHOWN];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	tr_act_as_owner();
	tr_section_end(&section);
	return (Datum) 0;
}
