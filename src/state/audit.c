/*
 * audit.c
 *	  The append-only trail: see audit.h.
 *
 * A row is inserted as token_rotation_worker, through row-level security, by a
 * statement of this file; the trigger refuses every other one.  The flag that
 * tells them apart lives in this backend and is set for the statement only.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "core/secret.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/rows.h"
#include "frame/seal_lock.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "state/audit.h"

#define ARGS 16

static bool writing = false;

/*
 * SHA-256 of a token id: the trail names no raw ids.
 */
static Datum
reference(const uint8 *id)
{
	uint8 hash[TR_HASH_BYTES];

	if (!tr_sha256(id, TR_ID_BYTES, hash))
		tr_raise_crypto();
	return tr_hash_datum(hash);
}

/*
 * Set a text parameter; an empty one is NULL.
 */
static void
set_text(Datum *values, char *nulls, int i, const char *value)
{
	nulls[i] = *value == '\0' ? 'n' : ' ';
	values[i] = *value == '\0' ? (Datum) 0 : CStringGetTextDatum(value);
}

/*
 * Fill the parameters from an event.
 */
static void
set_values(Datum *values, char *nulls, const TrEvent *event, const char *detail)
{
	memset(nulls, ' ', ARGS);
	values[0] = Int64GetDatum(nextval_internal(tr_catalog()->audit_seq, false));
	values[1] = TimestampTzGetDatum(event->at);
	set_text(values, nulls, 2, event->event);
	set_text(values, nulls, 3, event->client_id);
	set_text(values, nulls, 4, event->owner);
	nulls[5] = event->has_token ? ' ' : 'n';
	values[5] = event->has_token ? reference(event->token) : (Datum) 0;
	nulls[6] = event->has_successor ? ' ' : 'n';
	values[6] = event->has_successor ? reference(event->successor) : (Datum) 0;
	set_text(values, nulls, 7, event->actor);
	set_text(values, nulls, 8, event->role);
	set_text(values, nulls, 9, event->application);
	nulls[10] = *event->client_addr == '\0' ? 'n' : ' ';
	values[10] = *event->client_addr == '\0'
					 ? (Datum) 0
					 : DirectFunctionCall1(inet_in, CStringGetDatum(event->client_addr));
	set_text(values, nulls, 11, event->origin);
	set_text(values, nulls, 12, event->reason);
	nulls[13] = *detail == '\0' ? 'n' : ' ';
	values[13] =
		*detail == '\0' ? (Datum) 0 : DirectFunctionCall1(jsonb_in, CStringGetDatum(detail));
	values[14] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[15] = Int64GetDatum(tr_catalog()->segment);
}

void
tr_audit_write(const TrEvent *event, const char *detail)
{
	static TrSql insert = {
		.text = "INSERT INTO token_rotation.audit (seq, at, event, client_id, owner, token_ref,"
				" successor_ref, actor, role, application_name, client_addr, origin, reason,"
				" detail, xid, segment) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,"
				" $12, $13, $14, $15, $16)",
		.nargs = ARGS,
		.types = {INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, BYTEAOID, BYTEAOID, TEXTOID,
				  TEXTOID, TEXTOID, INETOID, TEXTOID, TEXTOID, JSONBOID, XID8OID, INT8OID},
	};
	Datum values[ARGS];
	char nulls[ARGS];

	if (!OidIsValid(tr_catalog()->worker))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("role \"%s\" does not exist", TR_WORKER_ROLE),
						errdetail("The audit trail is written as this role; nothing was changed."),
						errhint("Give it its name back with ALTER ROLE ... RENAME TO %s.",
								TR_WORKER_ROLE)));
	set_values(values, nulls, event, detail != NULL ? detail : event->detail);
	tr_act_as(tr_catalog()->worker);
	PG_TRY();
	{
		writing = true;
		tr_sql_run(&insert, values, nulls);
	}
	PG_FINALLY();
	{
		writing = false;
	}
	PG_END_TRY();
	tr_act_as_owner();
}

/*
 * A text column of the last result's first row; NULL is "".
 */
static void
get_text(int column, char *to)
{
	bool isnull;
	Datum value = tr_sql_value(0, column, &isnull);

	if (!isnull)
		text_to_cstring_buffer(DatumGetTextPP(value), to, TR_EVENT_TEXT);
}

void
tr_audit_rotation(const TrEvent *event, char *origin, char *by)
{
	static TrSql sql = {
		.text = "SELECT a.origin, a.reason FROM token_rotation.audit a"
				" WHERE a.client_id OPERATOR(pg_catalog.=) $1"
				" AND a.token_ref OPERATOR(pg_catalog.=) $2"
				" AND a.event OPERATOR(pg_catalog.=) '" TR_EVENT_ROTATED "'"
				" ORDER BY a.seq DESC",
		.nargs = 2,
		.types = {TEXTOID, BYTEAOID},
	};
	Datum values[2];

	/* no LIMIT, which would make a long walk along the client's rows look short */
	*origin = *by = '\0';
	values[0] = CStringGetTextDatum(event->client_id);
	values[1] = reference(event->token);
	if (tr_sql_run(&sql, values, NULL) == 0)
		return;
	get_text(1, origin);
	get_text(2, by);
}

PG_FUNCTION_INFO_V1(tr_audit_guard);

/*
 * Trigger on audit: BEFORE INSERT per row, BEFORE UPDATE, DELETE, TRUNCATE per
 * statement.
 */
Datum
tr_audit_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tr_audit_guard must be called as a trigger")));
	if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("the audit trail is append-only"),
				 errdetail("Its rows can be neither changed nor removed."),
				 errhint("Use tr_audit_prune() for retention.")));
	if (!writing && tr_is_restore())
		(void) tr_seal_lock_restoring();
	else if (!writing)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("the audit trail is written by the extension only"),
						errdetail("A row that records nothing that happened would be a forgery."),
						errhint("A superuser restores rows from a dump with COPY.")));
	return PointerGetDatum(trigger->tg_trigtuple);
}
