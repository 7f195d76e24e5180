/*
 * risk.c
 *	  What the risk rules of a policy say: see risk.h.
 *
 * History is of this client in this realm only.  What others can cause counts
 * nothing: a refusal counts where the secret had matched, a leak where somebody had
 * the token.  So nobody shortens the lives of a client whose tokens he has not.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/risk.h"
#include "frame/compat.h"
#include "frame/interval.h"
#include "frame/settings.h"
#include "state/cache.h"
#include "state/store_client.h"
#include "verbs/risk.h"
#include "verbs/use.h"

#define CLASSIFICATION "classification"

/*
 * Does a name match a rule's pattern?
 */
static bool
matches(const TrRiskRule *rule, const char *name, size_t len)
{
	return tr_risk_pattern_matches(VARDATA_ANY(rule->pattern), VARSIZE_ANY_EXHDR(rule->pattern),
								   name, len);
}

/*
 * Does one of the scopes match?
 */
static bool
has_scope(const TrRiskRule *rule, Datum scopes)
{
	Datum *elements;
	int count;
	int i;

	deconstruct_array(DatumGetArrayTypeP(scopes), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &count);
	for (i = 0; i < count; i++)
	{
		const text *scope = DatumGetTextPP(elements[i]);

		if (matches(rule, VARDATA_ANY(scope), VARSIZE_ANY_EXHDR(scope)))
			return true;
	}
	return false;
}

/*
 * Does the classification in the metadata match?  Only text is one.
 */
static bool
has_classification(const TrRiskRule *rule, Datum metadata)
{
	Jsonb *object = DatumGetJsonbP(metadata);
	JsonbValue *value;
	JsonbValue buffer;

	value = getKeyJsonValueFromContainer(&object->root, CLASSIFICATION, strlen(CLASSIFICATION),
										 &buffer);
	return value != NULL && value->type == jbvString &&
		   matches(rule, value->val.string.val, value->val.string.len);
}

/*
 * Was a token accepted since a moment, by what is recorded, by the cache, which is
 * ahead of that, or in shared memory, which is ahead of both?  A standby cannot read
 * the cache.
 */
static bool
used_since(const TrClientToken *token, Snapshot snapshot, TimestampTz since)
{
	TrToken cached;

	if (token->last_used_at >= since)
		return true;
	if (!token->live)
		return false;
	if (!RecoveryInProgress() && tr_cache_read(token->id, snapshot, &cached) &&
		cached.last_used_at >= since)
		return true;
	return tr_use_seen(token->id);
}

/*
 * Has the client been away: had a token before that moment, and used none since?
 */
static bool
is_dormant(const text *client_id, const text *owner, TimestampTz since)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool had = false;
	bool used = false;
	TrClientWalk walk;
	TrClientToken token;

	tr_client_walk_begin(&walk, client_id, owner);
	while (!used && tr_client_walk_next(&walk, &token))
	{
		had |= token.issued_at < since;
		used = used_since(&token, snapshot, since);
	}
	tr_client_walk_end(&walk);
	UnregisterSnapshot(snapshot);
	return had && !used;
}

/*
 * The moment from which on a rule looks at history.  One that was written past the
 * table's constraints looks at none of it.
 */
static TimestampTz
beginning(const TrRiskRule *rule, TimestampTz now)
{
	int64 within;

	return tr_interval_usec(rule->within, &within) && within >= 0 ? now - within : TR_FOREVER;
}

/*
 * Does a rule match such a token?
 */
static bool
weigh(const TrRiskRule *rule, const TrToken *token, TimestampTz now)
{
	switch (rule->kind)
	{
		case TR_RISK_SCOPE:
			return has_scope(rule, token->scopes);
		case TR_RISK_CLASSIFICATION:
			return has_classification(rule, token->metadata);
		case TR_RISK_REFUSALS:
		case TR_RISK_REUSE:
			return tr_risk_history(rule->kind, token->client_id, token->owner, beginning(rule, now),
								   rule->at_least);
		case TR_RISK_DORMANCY:
			return is_dormant(token->client_id, token->owner, beginning(rule, now));
	}
	return false;
}

List *
tr_risk_weigh(const TrToken *token, const TrPolicy *policy, TimestampTz now)
{
	List *weighed = NIL;
	ListCell *cell;

	foreach (cell, tr_risk_rules(policy->name))
	{
		TrWeighed *one = palloc(sizeof(TrWeighed));

		one->rule = *(const TrRiskRule *) lfirst(cell);
		one->matched = weigh(&one->rule, token, now);
		weighed = lappend(weighed, one);
	}
	return weighed;
}

int
tr_risk_score(List *weighed)
{
	int score = 0;
	ListCell *cell;

	foreach (cell, weighed)
	{
		const TrWeighed *one = lfirst(cell);

		if (one->matched)
			score = tr_risk_add(score, one->rule.score);
	}
	return score;
}

int64
tr_risk_shorten(const TrPolicy *policy, int score)
{
	return tr_risk_enabled ? tr_risk_ttl(policy->ttl, policy->min_ttl, score) : policy->ttl;
}

int64
tr_risk_life(TrToken *token, const TrPolicy *policy, TimestampTz now)
{
	token->risk = tr_risk_shorten(policy, TR_RISK_MAX) < policy->ttl
					  ? tr_risk_score(tr_risk_weigh(token, policy, now))
					  : 0;
	return tr_risk_shorten(policy, token->risk);
}
