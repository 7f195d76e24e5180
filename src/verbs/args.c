/*
 * args.c
 *	  Arguments of the SQL functions, checked: see args.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/mask.h"
#include "frame/event.h"
#include "frame/interval.h"
#include "frame/verdict.h"
#include "verbs/args.h"

#define MAX_SCOPE_BYTES 255
#define MAX_SCOPES_BYTES 4096
#define MAX_METADATA_BYTES 4096

Datum
tr_arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		tr_raise_null(name);
	return PG_GETARG_DATUM(n);
}

text *
tr_arg_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_TEXT_PP(n);
}

bool
tr_holds_token(const char *value, size_t len)
{
	char *masked = palloc(len + 1);
	size_t masked_len = tr_token_mask(value, len, masked);
	bool differs = masked_len != len || memcmp(masked, value, len) != 0;

	pfree(masked);
	return differs;
}

text *
tr_arg_client(FunctionCallInfo fcinfo, int n)
{
	text *client = DatumGetTextPP(tr_arg(fcinfo, n, "client_id"));
	size_t len = VARSIZE_ANY_EXHDR(client);

	if (len < 1 || len >= TR_EVENT_TEXT)
		tr_raise_value("client_id has a wrong length",
					   psprintf("It has %zu bytes; 1 to 255 are allowed.", len),
					   "Pass a short, stable name of the client.");
	if (tr_holds_token(VARDATA_ANY(client), len))
		tr_raise_value("client_id holds a token", "Client ids are stored and shown in the clear.",
					   "Pass the client's name, not its token.");
	return client;
}

char *
tr_arg_note(FunctionCallInfo fcinfo, int n, const char *name)
{
	text *note = tr_arg_text(fcinfo, n);
	char *masked;

	if (note == NULL)
		return NULL;
	if (VARSIZE_ANY_EXHDR(note) >= TR_EVENT_TEXT)
		tr_raise_value(
			psprintf("%s is too long", name),
			psprintf("It has %zu bytes; 255 are allowed.", (size_t) VARSIZE_ANY_EXHDR(note)),
			psprintf("Keep the %s short and the story elsewhere.", name));
	masked = palloc(TR_EVENT_TEXT);
	tr_event_text(masked, VARDATA_ANY(note), VARSIZE_ANY_EXHDR(note));
	return masked;
}

char *
tr_arg_name(FunctionCallInfo fcinfo, int n, const char *name)
{
	text *value = DatumGetTextPP(tr_arg(fcinfo, n, name));

	return VARSIZE_ANY_EXHDR(value) < NAMEDATALEN ? text_to_cstring(value) : pstrdup("");
}

int64
tr_arg_duration(FunctionCallInfo fcinfo, int n, const char *name)
{
	int64 usec;

	if (!tr_interval_usec(DatumGetIntervalP(tr_arg(fcinfo, n, name)), &usec) || usec < 0)
		tr_raise_value(psprintf("%s is out of range", name),
					   psprintf("It must be a finite interval of 0 or more; a month counts as 30 "
								"days."),
					   psprintf("Pass %s like '5 minutes'.", name));
	return usec;
}

/*
 * RFC 6749: %x21 / %x23-5B / %x5D-7E.
 */
bool
tr_is_scope(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (name[i] < 0x21 || name[i] > 0x7e || name[i] == '"' || name[i] == '\\')
			return false;
	return len >= 1 && len <= MAX_SCOPE_BYTES;
}

void
tr_check_scope(const text *scope)
{
	size_t len = VARSIZE_ANY_EXHDR(scope);

	if (!tr_is_scope(VARDATA_ANY(scope), len))
		tr_raise_value("scope is not valid",
					   "A scope has 1 to 255 printable ASCII characters without space, double "
					   "quote and backslash (RFC 6749, section 3.3).",
					   "Pass scopes like 'orders:read'.");
	if (tr_holds_token(VARDATA_ANY(scope), len))
		tr_raise_value("scope holds a token", "Scopes are stored and shown in the clear.",
					   "Pass the scope's name, not a token.");
}

/*
 * Are two texts the same bytes?
 */
static bool
same_text(Datum a, Datum b)
{
	const text *x = (const text *) DatumGetPointer(a);
	const text *y = (const text *) DatumGetPointer(b);

	return VARSIZE_ANY_EXHDR(x) == VARSIZE_ANY_EXHDR(y) &&
		   memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
}

ArrayType *
tr_arg_scopes(FunctionCallInfo fcinfo, int n)
{
	ArrayType *scopes = DatumGetArrayTypeP(tr_arg(fcinfo, n, "scopes"));
	Datum *elements;
	int count;
	int i;
	int j;

	if (ARR_NDIM(scopes) > 1 || array_contains_nulls(scopes) || VARSIZE(scopes) > MAX_SCOPES_BYTES)
		tr_raise_value("scopes are not valid",
					   "They must be a list of one dimension without nulls, of at most 4 kB.",
					   "Pass scopes like '{orders:read,orders:write}'.");
	deconstruct_array(scopes, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	for (i = 0; i < count; i++)
	{
		tr_check_scope((const text *) DatumGetPointer(elements[i]));
		for (j = 0; j < i; j++)
			if (same_text(elements[i], elements[j]))
				tr_raise_value("scopes hold a duplicate",
							   psprintf("\"%s\" is there twice.", TextDatumGetCString(elements[i])),
							   "Pass each scope once.");
	}
	return scopes;
}

Datum
tr_arg_metadata(FunctionCallInfo fcinfo, int n)
{
	Jsonb *metadata = DatumGetJsonbP(tr_arg(fcinfo, n, "metadata"));

	if (!JB_ROOT_IS_OBJECT(metadata))
		tr_raise_value("metadata is not an object", "Another kind of JSON value was passed.",
					   "Pass metadata like '{\"team\": \"billing\"}'.");
	if (VARSIZE(metadata) > MAX_METADATA_BYTES)
		tr_raise_value(
			"metadata is too large",
			psprintf("It takes %u bytes; 4096 are allowed.", (unsigned) VARSIZE(metadata)),
			"Keep a key here and the data in a table of your own.");
	return JsonbPGetDatum(metadata);
}

int32
tr_arg_max(FunctionCallInfo fcinfo, int n)
{
	int32 max = DatumGetInt32(tr_arg(fcinfo, n, "max_tokens"));

	if (max < 1)
		tr_raise_value("max_tokens is out of range", "It must be 1 or more.",
					   "Leave it out for the default.");
	return max;
}

/*
 * A value that is taken for one of another type would be read as an address.
 */
static void
check_columns(const TrAnswer *answer, TupleDesc desc)
{
	int i = 0;

	while (i < desc->natts && i < answer->count &&
		   TupleDescAttr(desc, i)->atttypid == answer->columns[i])
		i++;
	if (i < desc->natts || i < answer->count)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("type %s was altered", format_type_be(desc->tdtypeid)),
				 errdetail("A function answers with it, and fills in the columns that it was "
						   "made with."),
				 errhint("Install the extension again and restore its tables from a "
						 "backup.")));
}

TupleDesc
tr_answer_desc(FunctionCallInfo fcinfo, TrAnswer *answer)
{
	/* unknown where no expression calls the function: then nothing is kept for it */
	Oid type = get_fn_expr_rettype(fcinfo->flinfo);
	MemoryContext context;
	TupleDesc desc;

	if (answer->desc != NULL && OidIsValid(type) && answer->type == type)
		return answer->desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "function does not return a row");
	if (answer->columns != NULL)
		check_columns(answer, desc);
	context = MemoryContextSwitchTo(TopMemoryContext);
	desc = BlessTupleDesc(CreateTupleDescCopy(desc));
	MemoryContextSwitchTo(context);
	if (answer->desc != NULL)
		FreeTupleDesc(answer->desc);
	answer->desc = desc;
	answer->type = type;
	return desc;
}
