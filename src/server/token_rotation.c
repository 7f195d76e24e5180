/*
 * token_rotation.c
 *	  What the server calls when it loads the library: a table of contents.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "frame/circuit.h"
#include "frame/identity.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/xact.h"
#include "server/launcher.h"
#include "server/redact.h"
#include "server/shmem.h"
#include "state/cutoff.h"
#include "state/stats.h"
#include "verbs/precommit.h"
#include "verbs/reuse.h"
#include "verbs/use.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

/*
 * Loaded by a session instead of the postmaster, the library has no shared
 * memory: it does nothing, and its functions say what is missing.
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	TR_STOP_POINT_DEFINE();
	tr_settings_define();
	tr_redact_install();
	tr_shmem_install();
	tr_xact_init();
	tr_identity_init();
	tr_circuit_init();
	tr_cutoff_init();
	tr_precommit_init();
	tr_use_init();
	tr_reuse_init();
	tr_stats_init();

	/* pg_upgrade wants nobody connected, and nothing done behind its back */
	if (!IsBinaryUpgrade)
		tr_launcher_register();
}
