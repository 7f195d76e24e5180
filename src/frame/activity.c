/*
 * activity.c
 *	  This session's line in pg_stat_activity: see activity.h.
 *
 * Only this backend writes its entry; others copy it, and take it again when
 * st_changecount was odd or has changed meanwhile.
 */
#include "postgres.h"

#include "port/atomics.h"
#include "utils/backend_status.h"

#include "core/mask.h"
#include "frame/activity.h"

void
tr_activity_mask(void)
{
	static int masked_at = -1; /* an odd count is nobody's */
	volatile PgBackendStatus *entry = MyBEEntry;
	char *activity;
	size_t len;
	size_t masked;

	if (entry == NULL || entry->st_changecount == masked_at)
		return;

	activity = entry->st_activity_raw;
	len = strlen(activity);
	PGSTAT_BEGIN_WRITE_ACTIVITY(entry);
	masked = tr_token_mask(activity, len, activity);
	/* it may have left the end of a secret behind itself */
	memset(activity + masked, 0, len - masked);
	PGSTAT_END_WRITE_ACTIVITY(entry);
	masked_at = entry->st_changecount;
}
