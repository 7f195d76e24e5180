/*
 * seal_lock.c
 *	  Who may touch the seals of the audit trail now: see seal_lock.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"

#include "frame/catalog.h"
#include "frame/seal_lock.h"

bool
tr_seal_lock_try(void)
{
	return ConditionalLockDatabaseObject(RelationRelationId, tr_catalog()->audit_seal, 0,
										 ExclusiveLock);
}

void
tr_seal_lock_wait(void)
{
	LockDatabaseObject(RelationRelationId, tr_catalog()->audit_seal, 0, ExclusiveLock);
}

/*
 * What is held without a transaction would outlive the process.
 */
static void
release(int code, Datum arg)
{
	LockReleaseSession(DEFAULT_LOCKMETHOD);
}

/*
 * How often this session has taken it, and of which table it has it, which may be
 * dropped and made again: a transaction that fails takes it away.
 */
static uint32 taken = 0;
static Oid held = InvalidOid;

static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		held = InvalidOid;
}

uint32
tr_seal_lock_restoring(void)
{
	LOCKTAG tag;

	if (held == tr_catalog()->audit_seal)
		return taken;
	if (taken == 0)
	{
		before_shmem_exit(release, (Datum) 0);
		RegisterXactCallback(at_end, NULL);
	}
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, tr_catalog()->audit_seal, 0);
	(void) LockAcquire(&tag, ShareLock, true, false);
	held = tr_catalog()->audit_seal;
	return ++taken;
}
