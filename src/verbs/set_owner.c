/*
 * set_owner.c
 *	  Move what one realm owns to another, which is the way out when a role was
 *	  dropped whose tokens live on.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/cutoff_store.h"
#include "state/delivery.h"
#include "state/store_bulk.h"
#include "verbs/args.h"

/*
 * For superusers: it takes tokens out of the sight of one realm's members and
 * hands them to another's.
 */
static void
require_superuser(void)
{
	tr_catalog();
	if (!superuser_arg(tr_caller()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for tr_set_owner()"),
						errdetail("It moves tokens from one realm to another."),
						errhint("Ask a superuser to do it.")));
}

/*
 * The new owner must be a role, and not one of the server's or of this
 * extension's own.
 */
static void
require_realm(const char *name)
{
	if (IsReservedName(name) || strcmp(name, TR_WORKER_ROLE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME), errmsg("role \"%s\" is reserved", tr_shown(name)),
				 errdetail("It cannot be a realm."), errhint("Name an ordinary role.")));
	if (!OidIsValid(get_role_oid(name, true)))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("realm \"%s\" does not exist", tr_shown(name)),
						errdetail("No role has this name."), errhint("Make it with CREATE ROLE.")));
}

/*
 * Move the tokens.  A rotation that this waits for leaves a successor that the
 * statement could not see yet, so it is repeated until it finds none.
 */
static int64
move_tokens(const char *from, const char *to)
{
	int64 total = 0;
	int64 moved;

	while ((moved = tr_store_set_owner(from, to)) > 0)
		total += moved;
	return total;
}

/*
 * Move everything in the order of the locks, and write one audit row.  Tokens
 * come first: who holds one takes the lock of the cutoffs when he commits.  Under
 * that lock no cutoff is in flight, which would stay behind with the old realm.
 * The old name may be any text, so it is masked for the trail.
 */
static int64
move(const char *from, const char *to)
{
	char old_name[TR_EVENT_TEXT];
	TrEvent event;
	TrSection section;
	StringInfoData detail;
	int64 tokens;

	tr_event_begin(&event, TR_EVENT_OWNER_CHANGED);
	strlcpy(event.owner, to, sizeof(event.owner));
	tr_event_text(old_name, from, strlen(from));

	tr_section_begin(&section);
	tokens = move_tokens(from, to);
	tr_cache_set_owner(from, to);
	tr_delivery_set_owner(from, to);
	tr_cutoff_lock();
	tr_cutoff_copy(from, to);

	initStringInfo(&detail);
	appendStringInfoString(&detail, "{\"from\": ");
	escape_json(&detail, old_name);
	appendStringInfoString(&detail, ", \"to\": ");
	escape_json(&detail, to);
	appendStringInfo(&detail, ", \"tokens\": " INT64_FORMAT "}", tokens);
	tr_audit_write(&event, detail.data);
	tr_section_end(&section);
	return tokens;
}

PG_FUNCTION_INFO_V1(tr_set_owner);

/*
 * SQL: tr_set_owner("from" text, "to" text)
 */
Datum
tr_set_owner(PG_FUNCTION_ARGS)
{
	char *from;
	char *to;

	require_superuser();
	tr_xact_writes("tr_set_owner()");
	from = tr_arg_name(fcinfo, 0, "from");
	to = tr_arg_name(fcinfo, 1, "to");

	/* what the empty name owns are the cutoffs of every realm */
	if (*from == '\0')
		tr_raise_value("the old realm is not the name of a role",
					   "A role's name has 1 to 63 bytes.",
					   "Look for the name in the column owner of token_rotation.tokens.");
	require_realm(to);
	if (strcmp(from, to) == 0)
		tr_raise_value(psprintf("tokens of \"%s\" are already its own", to),
					   "Both arguments of tr_set_owner() name the same realm.",
					   "Name the old realm first, the new one second.");
	PG_RETURN_INT64(move(from, to));
}
