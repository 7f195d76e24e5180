/*
 * edit.c
 *	  What a DBA has done to a row with SQL: see edit.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "core/mask.h"
#include "frame/caller.h"
#include "frame/event.h"
#include "state/audit.h"
#include "verbs/edit.h"

/* The longest value that an audit row takes; only a policy's allowed_scopes can exceed it. */
#define VALUE_MAX_BYTES 1000

TriggerData *
tr_edit_trigger(FunctionCallInfo fcinfo, Oid table, const char *name)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || RelationGetRelid(data->tg_relation) != table)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("not called as a trigger on token_rotation.%s", name),
						errdetail("The function knows what to do there only."),
						errhint("Leave it to the triggers that the extension has made.")));
	return data;
}

Datum
tr_edit_column(HeapTuple row, TupleDesc desc, const char *name, bool *isnull)
{
	return heap_getattr(row, SPI_fnumber(desc, name), desc, isnull);
}

bool
tr_edit_differs(HeapTuple one, HeapTuple two, TupleDesc desc, int number)
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
 * Append a value: truth values, numbers and lists as such, anything else as its
 * text.
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
	if (type == INT4OID)
	{
		appendStringInfo(json, "%d", DatumGetInt32(value));
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
		if (other != NULL ? !tr_edit_differs(row, other, desc, number) : isnull)
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
 * What was done to the row, as JSON; inside a section.  The session's style
 * of intervals does not get into the trail.  Token-shaped text is masked at the
 * end: the mask takes base62 away, never JSON's own characters.
 */
static char *
describe(const char *operation, HeapTuple before, HeapTuple after, TupleDesc desc,
		 const TrEditKey *keys, int count)
{
	StringInfoData json;
	char *masked;
	int i;

	if (IntervalStyle != INTSTYLE_POSTGRES)
		set_config_option("intervalstyle", "postgres", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
						  true, 0, false);
	initStringInfo(&json);
	appendStringInfo(&json, "{\"operation\": \"%s\"", operation);
	for (i = 0; i < count; i++)
	{
		bool isnull;
		Datum value =
			tr_edit_column(before != NULL ? before : after, desc, keys[i].column, &isnull);

		appendStringInfo(&json, ", \"%s\": ", keys[i].key);
		append_string(&json, TextDatumGetCString(value));
	}
	append_row(&json, "old", before, after, desc);
	append_row(&json, "new", after, before, desc);
	appendStringInfoChar(&json, '}');

	masked = palloc(json.len + 1);
	tr_token_mask(json.data, json.len, masked);
	return masked;
}

/*
 * Do two rows differ at all?
 */
static bool
any_differs(HeapTuple one, HeapTuple two, TupleDesc desc)
{
	int number;

	for (number = 1; number <= desc->natts; number++)
		if (!TupleDescAttr(desc, number - 1)->attisdropped &&
			tr_edit_differs(one, two, desc, number))
			return true;
	return false;
}

void
tr_edit_audit(const TriggerData *data, const char *event, const TrEditKey *keys, int count)
{
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	HeapTuple row = data->tg_trigtuple;
	HeapTuple before = TRIGGER_FIRED_BY_INSERT(data->tg_event) ? NULL : row;
	HeapTuple after = row;
	const char *operation = "insert";
	TrEvent written;
	TrSection section;

	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		operation = "update";
		after = data->tg_newtuple;
	}
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
	{
		operation = "delete";
		after = NULL;
	}
	if (tr_is_restore() || (before != NULL && after != NULL && !any_differs(before, after, desc)))
		return;

	/* begun outside of the section: the role in it is the DBA's */
	tr_event_begin(&written, event);
	tr_section_begin(&section);
	tr_audit_write(&written, describe(operation, before, after, desc, keys, count));
	tr_section_end(&section);
}
