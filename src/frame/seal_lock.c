/*
 * seal_lock.c
 *	  Who may touch the seals of the audit trail now: see seal_lock.h.
 */
#include "postgres.h"

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

void
tr_seal_lock_restoring(void)
{
	static Oid held = InvalidOid;
	static bool registered = false;
	LOCKTAG tag;

	if (held == tr_catalog()->audit_seal)
		return;
	if (!registered)
		before_shmem_exit(release, (Datum) 0);
	registered = true;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, tr_catalog()->audit_seal, 0);
	(void) LockAcquire(&tag, ShareLock, true, false);
	held = tr_catalog()->audit_seal;
}
