/*
 * stop_point.c
 *	  Named points at which a developer build can be stopped or killed: see
 *	  stop_point.h.
 *
 * Two settings, for superusers, each a list of names:
 *
 * - token_rotation.stop_at: a process that comes by takes an advisory lock and
 *	 gives it back.  The key is hashtext(name), so whoever holds
 *	 pg_advisory_lock(hashtext('validate_found')) decides when it goes on; and
 *	 the isolation tester sees it wait.
 * - token_rotation.kill_at: a process that comes by dies of SIGKILL.
 *
 * In an ordinary build this file is empty.
 */
#include "postgres.h"

#ifdef TR_STOP_POINTS

#include <signal.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "frame/stop_point.h"

/* All of them; test/stop_points compares with the sources. */
static const char *const points[] = {
	"before_commit",		  /* of a transaction that a verb was called in */
	"after_commit",			  /* visible, but not acknowledged */
	"validate_found",		  /* the record is read, but not yet weighed */
	"rotate_half",			  /* the predecessor is changed in token only */
	"rotate_made",			  /* everything is stored but the audit row */
	"revoke_half",			  /* the token is changed in token only */
	"window_half",			  /* the server opens a window: the token is changed in token only */
	"first_use_half",		  /* a first use opens a window: the token is changed in token only */
	"deliver_half",			  /* a successor is made, its delivery is encrypted and not stored */
	"sweep_selected",		  /* the tokens to end are locked */
	"sweep_half",			  /* the token is changed in token only */
	"replay_recorded",		  /* the replay is in the ring, and not answered */
	"reissue_half",			  /* the successor has its new secret in token only */
	"precommit_locked",		  /* under the share lock, before the snapshot */
	"cutoff_locked",		  /* under the exclusive lock, before the clock is read */
	"cutoff_generation_read", /* before the snapshot of the copy */
	"cutoff_in_doubt",		  /* committed and visible, still counted as in doubt */
	"cache_copied",			  /* the worker has filled, but not set the mark */
	"cache_compared",		  /* the worker has found suspects, but not locked them */
	"events_committed",		  /* the worker has audited, but not emptied the ring */
	"seal_written",			  /* the worker has sealed, but not committed */
	"sink_written",			  /* sealed rows are in the audit file, their position is not stored */
};

static char *stop_at = NULL;
static char *kill_at = NULL;

/*
 * Is this name in the list?
 */
static bool
is_listed(const char *list, const char *name)
{
	size_t len = strlen(name);
	const char *at;

	for (at = list; at != NULL && (at = strstr(at, name)) != NULL; at += len)
	{
		bool begins = at == list || strchr(", ", at[-1]) != NULL;
		bool ends = at[len] == '\0' || strchr(", ", at[len]) != NULL;

		if (begins && ends)
			return true;
	}
	return false;
}

/*
 * Check hook of both settings: a name that is misspelled stops nobody, and the
 * test would be passed.
 */
static bool
check_names(char **newval, void **extra, GucSource source)
{
	char *text = pstrdup(*newval);
	List *names;
	ListCell *cell;
	bool known = SplitIdentifierString(text, ',', &names);

	foreach (cell, names)
	{
		size_t i = 0;

		while (i < lengthof(points) && strcmp(points[i], lfirst(cell)) != 0)
			i++;
		known = known && i < lengthof(points);
	}
	return known;
}

/*
 * Wait for who holds the lock.  It is the session's, so that it needs no
 * transaction, and lock_timeout, which the worker has, does not count.
 */
static void
park(const char *name)
{
	int64 key = DatumGetInt32(hash_any((const unsigned char *) name, strlen(name)));
	int timeout = LockTimeout;
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, 1);
	LockTimeout = 0;
	PG_TRY();
	{
		(void) LockAcquire(&tag, ExclusiveLock, true, false);
	}
	PG_FINALLY();
	{
		LockTimeout = timeout;
	}
	PG_END_TRY();
	LockRelease(&tag, ExclusiveLock, true);
}

void
tr_stop_point(const char *name)
{
	if (is_listed(kill_at, name))
		kill(MyProcPid, SIGKILL);
	if (is_listed(stop_at, name))
		park(name);
}

void
tr_stop_point_define(void)
{
	DefineCustomStringVariable(
		"token_rotation.stop_at", "Points at which to wait for an advisory lock.", NULL, &stop_at,
		"" /* default */, PGC_SUSET, GUC_LIST_INPUT, check_names, NULL, NULL);
	DefineCustomStringVariable("token_rotation.kill_at", "Points at which to die.", NULL, &kill_at,
							   "" /* default */, PGC_SUSET, GUC_LIST_INPUT, check_names, NULL,
							   NULL);
}

#endif /* TR_STOP_POINTS */
