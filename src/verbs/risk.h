/*
 * risk.h
 *	  What the risk rules of a policy say of a token that is being made.
 */
#ifndef TR_VERBS_RISK_H
#define TR_VERBS_RISK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "frame/record.h"
#include "state/policy.h"
#include "state/risk.h"

/* A rule and what was found. */
typedef struct TrWeighed
{
	TrRiskRule rule;
	bool matched;
} TrWeighed;

/*
 * Weigh each rule of the policy for a token with client, realm, scopes and
 * metadata, whether or not rules are switched on; a list of TrWeighed *.
 */
extern List *tr_risk_weigh(const TrToken *token, const TrPolicy *policy, TimestampTz now);

/*
 * The scores of the rules that matched, added up.
 */
extern int tr_risk_score(List *weighed);

/*
 * The policy's ttl as a score leaves it; all of it where rules are switched off.
 */
extern int64 tr_risk_shorten(const TrPolicy *policy, int score);

/*
 * All of it: the ttl of such a token, with the score in token->risk.  Costs no
 * look-up where the policy lets nothing be shortened, one where it has no rules.
 */
extern int64 tr_risk_life(TrToken *token, const TrPolicy *policy, TimestampTz now);

#endif /* TR_VERBS_RISK_H */
