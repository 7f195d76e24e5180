/*
 * install.c
 *	  What CREATE EXTENSION needs before it makes anything: the preloaded
 *	  library, the role token_rotation_worker, and a place among the databases
 *	  that the launcher knows.
 *
 * Called by the extension's script only, which drops the function again; the
 * installer is a superuser.  Nothing is installed yet: there is no catalog to
 * ask and no section to enter, so the SQL here is run as he who installs.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "frame/catalog.h"
#include "frame/visits.h"
#include "frame/xact.h"

/*
 * What the role has that it must not have; an empty text: it is bare.  Owned
 * objects are looked for in every database.  Privileges and row-security
 * policies may be there: another database with the extension makes them.
 */
static const char not_bare[] =
	"SELECT pg_catalog.concat_ws(', ',"
	" CASE WHEN a.rolsuper THEN 'has SUPERUSER' END,"
	" CASE WHEN a.rolcreaterole THEN 'has CREATEROLE' END,"
	" CASE WHEN a.rolcreatedb THEN 'has CREATEDB' END,"
	" CASE WHEN a.rolcanlogin THEN 'has LOGIN' END,"
	" CASE WHEN a.rolreplication THEN 'has REPLICATION' END,"
	" CASE WHEN a.rolbypassrls THEN 'has BYPASSRLS' END,"
	" CASE WHEN a.rolconnlimit OPERATOR(pg_catalog.<>) (-1) THEN 'has a connection limit' END,"
	" CASE WHEN a.rolpassword IS NOT NULL THEN 'has a password' END,"
	" CASE WHEN a.rolvaliduntil IS NOT NULL THEN 'has a VALID UNTIL' END,"
	" CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s"
	" WHERE s.setrole OPERATOR(pg_catalog.=) a.oid) THEN 'has settings of its own' END,"
	" CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_auth_members m"
	" WHERE m.roleid OPERATOR(pg_catalog.=) a.oid) THEN 'has members' END,"
	" CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_auth_members m"
	" WHERE m.member OPERATOR(pg_catalog.=) a.oid) THEN 'is a member of another role' END,"
	" CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_shdepend d"
	" WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_authid'::pg_catalog.regclass"
	" AND d.refobjid OPERATOR(pg_catalog.=) a.oid"
	" AND d.deptype OPERATOR(pg_catalog.=) 'o') THEN 'owns objects' END)"
	" FROM pg_catalog.pg_authid a"
	" WHERE a.rolname OPERATOR(pg_catalog.=) '" TR_WORKER_ROLE "'";

/*
 * Raise where the library is not preloaded.
 */
static void
require_preload(void)
{
	if (!tr_visits_ready())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("token_rotation must be preloaded before it is installed"),
				 errdetail("The library keeps state in shared memory and runs a worker, which only "
						   "the start of the server can set up."),
				 errhint("Put this line into postgresql.conf, the library being the last one "
						 "where there are others, and restart the server:\n"
						 "shared_preload_libraries = 'token_rotation'")));
}

/*
 * Run the query not_bare under a snapshot taken now, as the look for the role
 * was; also where the transaction keeps an old one.
 */
static char *
what_is_not_bare(void)
{
	SPIPlanPtr plan = SPI_prepare(not_bare, 0, NULL);
	Snapshot snapshot;
	int code;

	if (plan == NULL)
		elog(ERROR, "could not prepare: %s", SPI_result_code_string(SPI_result));
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	code = SPI_execute_snapshot(plan, NULL, NULL, snapshot, InvalidSnapshot, true, true, 1);
	UnregisterSnapshot(snapshot);
	if (code != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not look at role " TR_WORKER_ROLE ": %s", SPI_result_code_string(code));
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/*
 * Accept the existing role where it is bare: another database or a restored
 * cluster has brought it.  Anything else is somebody's who would come to write
 * the audit trail.
 */
static void
require_bare_role(void)
{
	char *faults = what_is_not_bare();

	if (*faults != '\0')
		ereport(
			ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("role \"%s\" exists and is not bare", TR_WORKER_ROLE),
			 errdetail("The audit trail is written as this role, which must be nobody's. It %s.",
					   faults),
			 errhint("Take this away from the role, or drop the role: CREATE EXTENSION makes "
					 "it anew.")));
}

/*
 * Make the role, or accept a bare one.  The lock lets installations in several
 * databases at once follow each other; it stands for no role and hinders
 * nobody else.
 */
static void
provide_worker_role(void)
{
	int code;

	LockSharedObject(AuthIdRelationId, InvalidOid, 0, ExclusiveLock);
	SPI_connect();
	if (OidIsValid(get_role_oid(TR_WORKER_ROLE, true)))
		require_bare_role();
	else if ((code = SPI_execute("CREATE ROLE " TR_WORKER_ROLE " NOLOGIN", false, 0)) < 0)
		elog(ERROR, "could not create role: %s", SPI_result_code_string(code));
	SPI_finish();
}

/*
 * Have the worker come once this transaction has committed.
 */
static void
make_database_known(void)
{
	if (tr_visits_here() == NULL)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("too many databases for token_rotation"),
						errdetail("Its worker visits at most %d databases.", TR_MAX_DATABASES),
						errhint("Drop databases or move some to another server.")));
	tr_xact_visit_at(GetCurrentTimestamp());
}

PG_FUNCTION_INFO_V1(tr_install);

/*
 * SQL: tr_install()
 */
Datum
tr_install(PG_FUNCTION_ARGS)
{
	require_preload();
	provide_worker_role();
	make_database_known();
	PG_RETURN_VOID();
}
