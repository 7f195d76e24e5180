/*
 * issue.c
 *	  tr_issue: a first token.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cache.h"
#include "state/cutoff.h"
#include "state/stats.h"
#include "state/store.h"
#include "verbs/args.h"
#include "verbs/mint.h"
#include "verbs/note.h"
#include "verbs/precommit.h"

/*
 * The shorter life that the issuer asks for; NULL: the policy's.
 */
static Interval *
arg_ttl(FunctionCallInfo fcinfo, int n, const TrPolicy *policy)
{
	int64 ttl;

	if (PG_ARGISNULL(n))
		return NULL;
	ttl = tr_arg_duration(fcinfo, n, "ttl");
	if (ttl <= 0 || ttl > policy->ttl)
		tr_raise_value("ttl is out of range",
					   psprintf("Policy \"%s\" allows more than 0 and at most " INT64_FORMAT
								" seconds.",
								policy->name, policy->ttl / USECS_PER_SEC),
					   "Leave ttl out for the policy's, or raise the policy's ttl.");
	return PG_GETARG_INTERVAL_P(n);
}

/*
 * Refuse to issue what would be dead at birth.
 */
static void
refuse_ended(TrToken *token)
{
	tr_cutoff_apply_now(token);
	if (token->life.blocked)
		tr_raise_state("client is blocked", "No token can be issued to it.",
					   "Unblock it with tr_block_client(client_id, false).");
	if (token->life.issued_at < token->life.cutoff)
		tr_raise_state("a cutoff lies in the future",
					   "A token issued now would be ended by it at once.",
					   "Check token_rotation.not_before, token_rotation.cutoff and the clock.");
}

/*
 * Store the token, in both tables and in the trail.
 */
static void
store_new(TrToken *token)
{
	TrEvent event;
	TrSection section;

	tr_note_begin(&event, TR_EVENT_ISSUED, token);
	tr_section_begin(&section);
	tr_store_insert(token);
	tr_cache_insert(token);
	tr_audit_write(&event, tr_note_made(token, NULL, NULL));
	tr_section_end(&section);
	tr_precommit_check(token);
	tr_stats_at_commit(token->policy, TR_STAT_ISSUED);
}

PG_FUNCTION_INFO_V1(tr_issue);

/*
 * tr_issue(client_id, policy, scopes, metadata, ttl): one row.
 */
Datum
tr_issue(PG_FUNCTION_ARGS)
{
	static TrAnswer kept;
	Datum values[TR_MINT_COLUMNS];
	bool nulls[TR_MINT_COLUMNS];
	TrToken token = {0};
	TrPolicy policy;
	TrSecrets secrets;
	TimestampTz now;

	tr_catalog();
	tr_xact_writes("tr_issue()");
	token.client_id = tr_arg_client(fcinfo, 0);
	tr_mint_policy(tr_arg_name(fcinfo, 1, "policy"), &policy);
	token.scopes = PointerGetDatum(tr_arg_scopes(fcinfo, 2));
	token.metadata = tr_arg_metadata(fcinfo, 3);
	token.ttl = arg_ttl(fcinfo, 4, &policy);
	tr_mint_check_scopes(&policy, token.scopes);
	token.owner = cstring_to_text(tr_realm_of_caller());
	token.policy = cstring_to_text(policy.name);
	token.prefix = cstring_to_text(policy.prefix);

	tr_mint_id(token.id);
	memcpy(token.family, token.id, TR_ID_BYTES);
	now = GetCurrentTimestamp();
	tr_mint_life(&token, &policy, now, now);
	refuse_ended(&token);
	tr_mint_secrets(&policy, &secrets);
	tr_mint_hashes(&token, &secrets);
	store_new(&token);
	tr_xact_visit_at(token.life.expires_at);

	tr_mint_answer(&token, &secrets, false, values, nulls);
	tr_wipe(&secrets, sizeof(secrets));
	return HeapTupleGetDatum(heap_form_tuple(tr_answer_desc(fcinfo, &kept), values, nulls));
}
