/*
 * shmem.c
 *	  The shared memory of all parts: sums and calls them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "frame/keys.h"
#include "frame/visits.h"
#include "server/shmem.h"
#include "server/stats_file.h"
#include "state/ring.h"
#include "state/stats.h"
#include "state/usage.h"

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

/*
 * Settings are read, nothing is allocated yet: say how much will be needed.
 */
static void
request(void)
{
	Size size = tr_visits_shmem_size();

	if (previous_request)
		previous_request();

	size = add_size(size, tr_ring_shmem_size());
	size = add_size(size, tr_usage_shmem_size());
	size = add_size(size, tr_stats_shmem_size());
	size = add_size(size, tr_keys_shmem_size());
	RequestAddinShmemSpace(size);

	RequestNamedLWLockTranche(TR_VISITS_TRANCHE, 1);
	RequestNamedLWLockTranche(TR_RING_TRANCHE, TR_RING_LOCKS);
	RequestNamedLWLockTranche(TR_USAGE_TRANCHE, TR_USAGE_PARTITIONS);
	RequestNamedLWLockTranche(TR_STATS_TRANCHE, 1);
}

/*
 * Make the parts, or find them in a process that does not inherit the memory;
 * again after a crash restart.
 */
static void
startup(void)
{
	if (previous_startup)
		previous_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	tr_visits_shmem_init();
	tr_ring_shmem_init();
	tr_usage_shmem_init();
	tr_stats_shmem_init();
	tr_keys_shmem_init();
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
		tr_stats_file_begin();
}

void
tr_shmem_install(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}
