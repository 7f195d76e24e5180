/*
 * policy_triggers.c
 *	  What happens when a DBA edits token_rotation.policy with SQL.
 *
 * Nobody may take the rules away from under a token that lives by them.  The
 * protocol between who deletes (or renames) a policy and who issues:
 *
 * 1. An issuer takes RowExclusiveLock on token before he reads the policy, and
 *	  keeps it until he commits.
 * 2. A deleter takes ShareLock on token, which waits for the issuers in flight,
 *	  and keeps it until he commits.  Then he looks for live tokens under a
 *	  fresh snapshot, which shows what those issuers have committed.
 * 3. An issuer who comes later waits in 1 and does not find the policy.
 *
 * The deleter has looked once without the lock: an attempt on a policy that
 * is plainly in use holds nobody up.
 *
 * The triggers run with the rights of whoever edits; what they read and write
 * beyond the row at hand they do inside a section.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "core/mask.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/sql.h"
#include "state/audit.h"

/* The longest value that an audit row takes; only allowed_scopes can exceed it. */
#define VALUE_MAX_BYTES 1000

/* A shipped row is being deleted because a restored one takes its place. */
static bool replacing = false;

/*
 * The trigger's data, once it is certain that this is a trigger on policy.
 */
static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || RelationGetRelid(data->tg_relation) != tr_catalog()->policy)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("not called as a trigger on token_rotation.policy"),
						errdetail("The function knows what to do there only."),
						errhint("Leave it to the triggers that the extension has made.")));
	return data;
}

/*
 * Is this the extension's own install or upgrade script?  What it writes is
 * what is shipped.
 */
static bool
by_own_script(void)
{
	return creating_extension && CurrentExtensionObject == tr_catalog()->extension;
}

/*
 * A column of a row by name.
 */
static Datum
column(HeapTuple row, TupleDesc desc, const char *name, bool *isnull)
{
	return heap_getattr(row, SPI_fnumber(desc, name), desc, isnull);
}

/*
 * The row with its mark set or cleared.
 */
static HeapTuple
mark(HeapTuple row, TupleDesc desc, bool shipped)
{
	int number = SPI_fnumber(desc, "shipped");
	Datum value = BoolGetDatum(shipped);
	bool isnull = false;

	return heap_modify_tuple_by_cols(row, desc, 1, &number, &value, &isnull);
}

/*
 * Do two rows differ in this column?
 */
static bool
differs(HeapTuple one, HeapTuple two, TupleDesc desc, int number)
{
	Form_pg_attribute attribute = TupleDescAttr(desc, number - 1);
	bool null_one;
	bool null_two;
	Datum value_one = heap_getattr(one, number, desc, &null_one);
	Datum value_two = heap_getattr(two, number, desc, &null_two);

	if (null_one || null_two)
		return null_one != null_two;
	return !datum_image_eq(value_one, value_two, attribute->attbyval, attribute->attlen);
}

/*
 * Do two rows differ in anything but the mark?
 */
static bool
edited(HeapTuple one, HeapTuple two, TupleDesc desc)
{
	int shipped = SPI_fnumber(desc, "shipped");
	int number;

	for (number = 1; number <= desc->natts; number++)
		if (number != shipped && !TupleDescAttr(desc, number - 1)->attisdropped &&
			differs(one, two, desc, number))
			return true;
	return false;
}

/*
 * Is there a token that still lives by this policy?  One that a cutoff has
 * ended does not: it never rotates again, whatever its recorded status.
 */
static bool
has_live_token(Datum policy)
{
	static TrSql sql = {
		.text = "SELECT 1 FROM token_rotation.token t"
				" WHERE t.policy OPERATOR(pg_catalog.=) $1"
				" AND t.status IN ('active', 'rotating')"
				" AND NOT EXISTS (SELECT 1 FROM token_rotation.cutoff c"
				" WHERE c.before OPERATOR(pg_catalog.>) t.issued_at"
				" AND c.owner IN ('', t.owner)"
				" AND CASE c.kind WHEN 'all' THEN true"
				" WHEN 'policy' THEN c.subject OPERATOR(pg_catalog.=) t.policy"
				" WHEN 'client' THEN c.subject OPERATOR(pg_catalog.=) t.client_id END)"
				" LIMIT 1",
		.nargs = 1,
		.types = {TEXTOID},
	};

	return tr_sql_run(&sql, &policy, NULL) != 0;
}

/*
 * Raise where a policy is in use: steps 2 of the protocol above.
 */
static void
require_unused(HeapTuple row, TupleDesc desc, const char *hint)
{
	bool isnull;
	Datum name = column(row, desc, "name", &isnull);
	TrSection section;
	bool in_use;

	tr_section_begin(&section);
	in_use = has_live_token(name);
	if (!in_use)
	{
		LockRelationOid(tr_catalog()->token, ShareLock);
		in_use = has_live_token(name);
	}
	tr_section_end(&section);

	if (in_use)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("policy \"%s\" is in use", TextDatumGetCString(name)),
						errdetail("At least one active or rotating token names it."),
						errhint("%s", hint)));
}

/*
 * A restored row replaces a shipped one of its name, which no edit has touched.
 * Any other one stays and makes the ordinary duplicate-key error.
 */
static void
drop_shipped(HeapTuple row, TupleDesc desc)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.policy AS p"
				" WHERE p.name OPERATOR(pg_catalog.=) $1 AND p.shipped",
		.nargs = 1,
		.types = {TEXTOID},
	};
	TrSection section;
	bool isnull;
	Datum name = column(row, desc, "name", &isnull);

	if (isnull)
		return;
	tr_section_begin(&section);
	PG_TRY();
	{
		replacing = true;
		tr_sql_run(&sql, &name, NULL);
	}
	PG_FINALLY();
	{
		replacing = false;
	}
	PG_END_TRY();
	tr_section_end(&section);
}

/*
 * BEFORE INSERT: only what the extension ships is marked as shipped.
 */
static HeapTuple
guard_insert(HeapTuple row, TupleDesc desc)
{
	if (by_own_script())
		return row;
	if (tr_is_restore())
	{
		drop_shipped(row, desc);
		return row;
	}
	return mark(row, desc, false);
}

/*
 * BEFORE UPDATE: an edit clears the mark, nobody sets it, and a policy in use
 * keeps its name.
 */
static HeapTuple
guard_update(HeapTuple before, HeapTuple after, TupleDesc desc)
{
	bool isnull;

	if (differs(before, after, desc, SPI_fnumber(desc, "name")))
		require_unused(before, desc,
					   "Insert a policy of the new name beside it, and delete this one when its "
					   "tokens have ended.");
	if (by_own_script())
		return after;
	if (edited(before, after, desc) || !DatumGetBool(column(before, desc, "shipped", &isnull)))
		return mark(after, desc, false);
	return after;
}

/*
 * BEFORE DELETE: not while it is in use.  A restored row that replaces a
 * shipped one leaves the tokens their policy.
 */
static HeapTuple
guard_delete(HeapTuple row, TupleDesc desc)
{
	if (!replacing)
		require_unused(row, desc,
					   "End its tokens with tr_revoke_policy(), or wait until they have expired.");
	return row;
}

/*
 * BEFORE TRUNCATE: never.  It would neither look for tokens in use nor leave
 * an audit row for each policy, which DELETE does at no cost that matters in a
 * table of this size; like the server, which truncates no table that a foreign
 * key points to, empty or not.
 */
static void
refuse_truncate(void)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot truncate token_rotation.policy"),
					errdetail("Each policy that goes is checked for tokens that use it, and its "
							  "loss is audited."),
					errhint("Use DELETE.")));
}

PG_FUNCTION_INFO_V1(tr_policy_guard);

/*
 * SQL: trigger tr_policy_guard
 */
Datum
tr_policy_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	HeapTuple result = NULL;

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		refuse_truncate();
	else if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		result = guard_insert(data->tg_trigtuple, desc);
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		result = guard_update(data->tg_trigtuple, data->tg_newtuple, desc);
	else
		result = guard_delete(data->tg_trigtuple, desc);
	return PointerGetDatum(result);
}

/*
 * Append text as a JSON string, clipped where it is long.
 */
static void
append_string(StringInfo json, char *value)
{
	int len = strlen(value);

	if (len > VALUE_MAX_BYTES)
		value = psprintf("%.*s...", pg_mbcliplen(value, len, VALUE_MAX_BYTES), value);
	escape_json(json, value);
}

/*
 * Append a value: truth values and lists as such, anything else as its text.
 */
static void
append_value(StringInfo json, Oid type, Datum value)
{
	Oid output;
	bool varlena;

	if (type == BOOLOID)
	{
		appendStringInfoString(json, DatumGetBool(value) ? "true" : "false");
		return;
	}
	if (type == TEXTARRAYOID)
	{
		char *list = TextDatumGetCString(DirectFunctionCall1(array_to_json, value));

		if (strlen(list) <= VALUE_MAX_BYTES)
		{
			appendStringInfoString(json, list);
			return;
		}
	}
	getTypeOutputInfo(type, &output, &varlena);
	append_string(json, OidOutputFunctionCall(output, value));
}

/*
 * Append those columns of a row that differ from the other row, as the JSON
 * object under this key.  Without another row, all that are not NULL.
 */
static void
append_row(StringInfo json, const char *key, HeapTuple row, HeapTuple other, TupleDesc desc)
{
	const char *separator = "";
	int number;

	if (row == NULL)
		return;
	appendStringInfo(json, ", \"%s\": {", key);
	for (number = 1; number <= desc->natts; number++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, number - 1);
		bool isnull;
		Datum value;

		if (attribute->attisdropped)
			continue;
		value = heap_getattr(row, number, desc, &isnull);
		if (other != NULL ? !differs(row, other, desc, number) : isnull)
			continue;
		appendStringInfoString(json, separator);
		escape_json(json, NameStr(attribute->attname));
		appendStringInfoString(json, ": ");
		if (isnull)
			appendStringInfoString(json, "null");
		else
			append_value(json, attribute->atttypid, value);
		separator = ", ";
	}
	appendStringInfoChar(json, '}');
}

/*
 * What was done to the policy, as JSON; inside a section.  The session's style
 * of intervals does not get into the trail.  Token-shaped text in a scope is
 * masked at the end: the mask takes base62 away, never JSON's own characters.
 */
static char *
describe(const char *operation, HeapTuple before, HeapTuple after, TupleDesc desc)
{
	StringInfoData json;
	bool isnull;
	char *masked;

	if (IntervalStyle != INTSTYLE_POSTGRES)
		set_config_option("intervalstyle", "postgres", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
						  true, 0, false);
	initStringInfo(&json);
	appendStringInfo(&json, "{\"operation\": \"%s\", \"policy\": ", operation);
	append_string(
		&json, TextDatumGetCString(column(before != NULL ? before : after, desc, "name", &isnull)));
	append_row(&json, "old", before, after, desc);
	append_row(&json, "new", after, before, desc);
	appendStringInfoChar(&json, '}');

	masked = palloc(json.len + 1);
	tr_token_mask(json.data, json.len, masked);
	return masked;
}

/*
 * Write the audit row.  The event begins outside of the section: the role in
 * it is the DBA's.
 */
static void
audit_change(const char *operation, HeapTuple before, HeapTuple after, TupleDesc desc)
{
	TrEvent event;
	TrSection section;

	tr_event_begin(&event, TR_EVENT_POLICY_CHANGED);
	tr_section_begin(&section);
	tr_audit_write(&event, describe(operation, before, after, desc));
	tr_section_end(&section);
}

PG_FUNCTION_INFO_V1(tr_policy_audit);

/*
 * SQL: trigger tr_policy_audit.  A restore brings the old trail with it, so it
 * adds nothing of its own: neither for a restored row nor for the shipped one
 * that had to go.
 */
Datum
tr_policy_audit(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	HeapTuple row = data->tg_trigtuple;

	if (tr_is_restore())
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		audit_change("insert", NULL, row, desc);
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		audit_change("delete", row, NULL, desc);
	else if (edited(row, data->tg_newtuple, desc) ||
			 differs(row, data->tg_newtuple, desc, SPI_fnumber(desc, "shipped")))
		audit_change("update", row, data->tg_newtuple, desc);
	return PointerGetDatum(NULL);
}
