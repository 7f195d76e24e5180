/*
 * event.c
 *	  Things that happened, on their way to the tables: see event.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "core/mask.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/event.h"

static bool is_worker = false;

/*
 * The address of the session's peer; empty for a Unix socket and for workers.
 * It does not change in a session's life.
 */
static const char *
client_address(void)
{
	static char address[64];
	static bool known = false;

	if (!known)
	{
		LOCAL_FCINFO(fcinfo, 0);
		Datum inet;

		InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
		inet = inet_client_addr(fcinfo);
		if (!fcinfo->isnull)
			strlcpy(address, DatumGetCString(DirectFunctionCall1(inet_out, inet)), sizeof(address));
		known = true;
	}
	return address;
}

/*
 * Mask, then clip at a character boundary to size bytes with the zero.
 */
static void
masked_copy(char *field, size_t size, const char *text, size_t len)
{
	char *masked;

	/* what lies beyond both the field and what masking may shorten is cut first */
	if (len > 16 * size)
		len = pg_mbcliplen(text, len, 16 * size);
	masked = palloc(len + 1);
	len = tr_token_mask(text, len, masked);
	len = pg_mbcliplen(masked, len, size - 1);
	memcpy(field, masked, len);
	field[len] = '\0';
	pfree(masked);
}

void
tr_event_as_worker(void)
{
	is_worker = true;
}

/*
 * Who the session is, by name.
 */
static void
set_identity(TrEvent *event)
{
	if (is_worker)
	{
		strlcpy(event->actor, TR_WORKER_ROLE, sizeof(event->actor));
		strlcpy(event->role, TR_WORKER_ROLE, sizeof(event->role));
		return;
	}
	strlcpy(event->actor, GetUserNameFromId(GetSessionUserId(), false), sizeof(event->actor));
	strlcpy(event->role, GetUserNameFromId(tr_caller(), false), sizeof(event->role));
}

void
tr_event_begin(TrEvent *event, const char *name)
{
	memset(event, 0, sizeof(*event));
	event->at = GetCurrentTimestamp();
	strlcpy(event->event, name, sizeof(event->event));
	set_identity(event);
	if (application_name != NULL && *application_name != '\0')
		masked_copy(event->application, sizeof(event->application), application_name,
					strlen(application_name));
	strlcpy(event->client_addr, client_address(), sizeof(event->client_addr));
}

void
tr_event_text(char *field, const char *text, size_t len)
{
	masked_copy(field, TR_EVENT_TEXT, text, len);
}

void
tr_event_owner(TrEvent *event, const text *owner)
{
	masked_copy(event->owner, sizeof(event->owner), VARDATA_ANY(owner), VARSIZE_ANY_EXHDR(owner));
}

char *
tr_event_moment(TimestampTz moment)
{
	int utc = 0;

	return JsonEncodeDateTime(palloc(MAXDATELEN + 1), TimestampTzGetDatum(moment), TIMESTAMPTZOID,
							  &utc);
}
