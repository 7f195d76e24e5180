/*
 * view.c
 *	  Functions that the view token_rotation.tokens calls.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/settings.h"
#include "frame/verdict.h"
#include "state/cutoff.h"

PG_FUNCTION_INFO_V1(tr_token_display_sql);

/*
 * tr_token_display(prefix, token_id): <prefix>_<id>.
 */
Datum
tr_token_display_sql(PG_FUNCTION_ARGS)
{
	char *prefix = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char display[TR_DISPLAY_SIZE];

	if (!tr_prefix_valid(prefix, strlen(prefix)))
		tr_raise_value("prefix is not valid",
					   "A prefix is a lower-case letter and up to 14 letters or digits.",
					   "Pass the prefix of a policy.");
	tr_token_display(prefix, (const uint8 *) DatumGetPointer(PG_GETARG_DATUM(1)), display);
	PG_RETURN_TEXT_P(cstring_to_text(display));
}

/*
 * A time that may be NULL, which stands for the given value.
 */
static TimestampTz
arg_time(FunctionCallInfo fcinfo, int n, TimestampTz ifnull)
{
	return PG_ARGISNULL(n) ? ifnull : PG_GETARG_TIMESTAMPTZ(n);
}

PG_FUNCTION_INFO_V1(tr_effective_status);

/*
 * tr_effective_status(status, owner, client_id, policy, issued_at, expires_at,
 * rotated_at, overlap_ends_at): what validation goes by now.  NULL where a
 * value is missing that every token has, and in a realm of others.
 */
Datum
tr_effective_status(PG_FUNCTION_ARGS)
{
	TrRules rules = tr_rules();
	TrToken token = {0};
	TrReason reason;
	int i;

	tr_catalog();
	for (i = 0; i < 6; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	if (!tr_status_find(PG_GETARG_TEXT_PP(0), &token.life.status))
		tr_raise_value("status is not valid", "No token has such a status.",
					   "Pass the column status of token_rotation.token.");
	token.owner = PG_GETARG_TEXT_PP(1);
	/* it must not tell of the cutoffs of others */
	if (!tr_realm_visible(token.owner))
		PG_RETURN_NULL();
	token.client_id = PG_GETARG_TEXT_PP(2);
	token.policy = PG_GETARG_TEXT_PP(3);
	token.life.issued_at = PG_GETARG_TIMESTAMPTZ(4);
	token.life.expires_at = PG_GETARG_TIMESTAMPTZ(5);
	token.life.rotated_at = arg_time(fcinfo, 6, TR_NEVER);
	token.life.overlap_ends_at = arg_time(fcinfo, 7, TR_FOREVER);
	token.life.replay_ends_at = TR_NEVER;

	tr_cutoff_apply_now(&token);
	reason = tr_life_verdict(&token.life, GetCurrentTimestamp(), &rules);
	PG_RETURN_TEXT_P(
		cstring_to_text(tr_status_text(tr_status_of_verdict(reason, token.life.status))));
}
