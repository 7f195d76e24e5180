/*
 * explain.c
 *	  tr_explain_ttl: why a life would be as short as it is.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/interval.h"
#include "verbs/args.h"
#include "verbs/mint.h"
#include "verbs/risk.h"

#define COLUMNS 5

/*
 * Put out a row; pattern may be NULL.
 */
static void
put_row(ReturnSetInfo *result, Datum kind, const text *pattern, bool matched, int score,
		int64 effect)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};

	values[0] = kind;
	values[1] = PointerGetDatum(pattern);
	nulls[1] = pattern == NULL;
	values[2] = BoolGetDatum(matched);
	values[3] = Int32GetDatum(score);
	values[4] = tr_interval_datum(effect);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(tr_explain_ttl);

/*
 * tr_explain_ttl(client_id, policy, scopes, metadata): a row a rule, and the total.
 */
Datum
tr_explain_ttl(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TrToken token = {0};
	TrPolicy policy;
	List *weighed;
	ListCell *cell;
	int score;

	tr_catalog();
	token.client_id = tr_arg_client(fcinfo, 0);
	tr_mint_find_policy(tr_arg_name(fcinfo, 1, "policy"), &policy);
	token.scopes = PointerGetDatum(tr_arg_scopes(fcinfo, 2));
	token.metadata = tr_arg_metadata(fcinfo, 3);
	tr_mint_check_scopes(&policy, token.scopes);
	token.owner = cstring_to_text(tr_realm_of_caller());
	InitMaterializedSRF(fcinfo, 0);

	weighed = tr_risk_weigh(&token, &policy, GetCurrentTimestamp());
	foreach (cell, weighed)
	{
		const TrWeighed *one = lfirst(cell);
		int alone = one->matched ? one->rule.score : 0;

		put_row(result, PointerGetDatum(one->rule.kind_text), one->rule.pattern, one->matched,
				one->rule.score, policy.ttl - tr_risk_shorten(&policy, alone));
	}
	score = tr_risk_score(weighed);
	put_row(result, CStringGetTextDatum("total"), NULL, score > 0, score,
			policy.ttl - tr_risk_shorten(&policy, score));
	return (Datum) 0;
}
