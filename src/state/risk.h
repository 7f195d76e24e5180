/*
 * risk.h
 *	  The table risk_rule, and what it looks up in the audit trail.
 */
#ifndef TR_RISK_H
#define TR_RISK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* What a rule looks at. */
typedef enum TrRiskKind
{
	TR_RISK_SCOPE,
	TR_RISK_CLASSIFICATION,
	TR_RISK_REFUSALS, /* this one and the next two are of the kind history */
	TR_RISK_REUSE,
	TR_RISK_DORMANCY,
} TrRiskKind;

/* A rule as read, in a copy of its row. */
typedef struct TrRiskRule
{
	TrRiskKind kind;
	text *kind_text;
	text *pattern;
	int score;
	const Interval *within;
	int at_least;
} TrRiskRule;

/*
 * The rules of a policy under a fresh snapshot, by kind and pattern; a list of
 * TrRiskRule *.  NIL: it has none, or the installed SQL version has no table of
 * them yet.
 */
extern List *tr_risk_rules(const char *policy);

/*
 * What a rule with this kind and pattern looks at.  false: there is no such
 * kind, or no such history.
 */
extern bool tr_risk_kind(const text *kind, const text *pattern, TrRiskKind *found);

/*
 * Does the trail have so many events of this kind, TR_RISK_REFUSALS or
 * TR_RISK_REUSE, for a client in a realm since this moment?  Reads no more than so
 * many rows.
 */
extern bool tr_risk_history(TrRiskKind kind, const text *client_id, const text *owner,
							TimestampTz since, int at_least);

#endif /* TR_RISK_H */
