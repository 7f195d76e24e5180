/*
 * validate.c
 *	  tr_validate and tr_validate_many: what validation says, as rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "frame/activity.h"
#include "frame/catalog.h"
#include "frame/verdict.h"
#include "verbs/args.h"
#include "verbs/validation.h"

#define COLUMNS 11

/*
 * The columns of the answer.
 */
static void
answer(TrValidation *validation, Datum *values, bool *nulls)
{
	TrToken *token = &validation->token;
	bool valid = validation->reason == TR_OK;
	int i;

	values[0] = BoolGetDatum(valid);
	values[1] = CStringGetTextDatum(tr_reason_text(validation->reason));
	values[2] = PointerGetDatum(validation->id);
	nulls[0] = nulls[1] = false;
	nulls[2] = !validation->parsed;
	for (i = 3; i < COLUMNS; i++)
		nulls[i] = i < 8 ? !valid : !validation->proven;
	if (!validation->proven)
		return;
	values[3] = PointerGetDatum(token->client_id);
	values[4] = PointerGetDatum(token->owner);
	values[5] = PointerGetDatum(token->policy);
	values[6] = token->scopes;
	values[7] = token->metadata;
	values[8] = CStringGetTextDatum(
		tr_status_text(tr_status_of_verdict(validation->reason, token->life.status)));
	values[9] = TimestampTzGetDatum(validation->valid_until);
	values[10] = TimestampTzGetDatum(token->refresh_at);
}

PG_FUNCTION_INFO_V1(tr_validate);

/*
 * tr_validate(token, origin): one row.
 */
Datum
tr_validate(PG_FUNCTION_ARGS)
{
	static const Oid columns[COLUMNS] = {
		BOOLOID,	  TEXTOID,	UUIDOID, TEXTOID,		 TEXTOID,		 TEXTOID,
		TEXTARRAYOID, JSONBOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	};
	static TrAnswer kept = {.columns = columns, .count = COLUMNS};
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	TrValidation validation;

	tr_activity_mask();
	tr_catalog();
	tr_validation(tr_arg_text(fcinfo, 0), tr_arg_text(fcinfo, 1), &validation);
	answer(&validation, values, nulls);
	return HeapTupleGetDatum(heap_form_tuple(tr_answer_desc(fcinfo, &kept), values, nulls));
}

PG_FUNCTION_INFO_V1(tr_validate_many);

/*
 * tr_validate_many(tokens): a row an element, in order.
 */
Datum
tr_validate_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ArrayType *tokens = DatumGetArrayTypeP(tr_arg(fcinfo, 0, "tokens"));
	Datum values[COLUMNS + 1];
	bool nulls[COLUMNS + 1];
	Datum *elements;
	bool *isnull;
	int count;
	int i;

	tr_activity_mask();
	tr_catalog();
	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(tokens, TEXTOID, -1, false, TYPALIGN_INT, &elements, &isnull, &count);
	for (i = 0; i < count; i++)
	{
		TrValidation validation;

		CHECK_FOR_INTERRUPTS();
		tr_validation(isnull[i] ? NULL : DatumGetTextPP(elements[i]), NULL, &validation);
		values[0] = Int32GetDatum(i + 1);
		nulls[0] = false;
		answer(&validation, values + 1, nulls + 1);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
