/*
 * risk.c
 *	  The table risk_rule, and what it looks up in the audit trail: see risk.h.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/event.h"
#include "frame/rows.h"
#include "state/risk.h"

/* Columns of risk_rule. */
enum
{
	COL_POLICY,
	COL_KIND,
	COL_PATTERN,
	COL_SCORE,
	COL_WITHIN,
	COL_AT_LEAST,
	COLUMNS
};

/* Of the index audit_history. */
enum
{
	KEY_CLIENT = 1,
	KEY_OWNER,
	KEY_EVENT,
	KEY_AT,
	KEYS = KEY_AT
};

/*
 * Is the text this word?
 */
static bool
is_word(const text *value, const char *word)
{
	size_t len = VARSIZE_ANY_EXHDR(value);

	return len == strlen(word) && memcmp(VARDATA_ANY(value), word, len) == 0;
}

bool
tr_risk_kind(const text *kind, const text *pattern, TrRiskKind *found)
{
	if (is_word(kind, "scope"))
		*found = TR_RISK_SCOPE;
	else if (is_word(kind, "classification"))
		*found = TR_RISK_CLASSIFICATION;
	else if (!is_word(kind, "history"))
		return false;
	else if (is_word(pattern, "refusals"))
		*found = TR_RISK_REFUSALS;
	else if (is_word(pattern, "reuse"))
		*found = TR_RISK_REUSE;
	else if (is_word(pattern, "dormancy"))
		*found = TR_RISK_DORMANCY;
	else
		return false;
	return true;
}

/*
 * Make a rule of the row in the slot; XX001 where it is one that the table's
 * trigger does not allow.
 */
static TrRiskRule *
read_row(TrRows *rows)
{
	static const TrColumns columns = {.first = COLUMNS};
	TrRiskRule *rule = palloc(sizeof(TrRiskRule));
	Datum values[COLUMNS];
	bool nulls[COLUMNS];

	tr_rows_copy(rows, &columns, values, nulls);
	rule->kind_text = (text *) DatumGetPointer(values[COL_KIND]);
	rule->pattern = (text *) DatumGetPointer(values[COL_PATTERN]);
	rule->score = DatumGetInt32(values[COL_SCORE]);
	rule->at_least = DatumGetInt32(values[COL_AT_LEAST]);
	rule->within = DatumGetIntervalP(values[COL_WITHIN]);
	if (!tr_risk_kind(rule->kind_text, rule->pattern, &rule->kind))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a risk rule of policy \"%s\" is damaged",
						TextDatumGetCString(values[COL_POLICY])),
				 errdetail("The table's triggers do not allow it."),
				 errhint("Look whether a trigger of token_rotation.risk_rule is off, and delete "
						 "the rule.")));
	return rule;
}

List *
tr_risk_rules(const char *policy)
{
	const TrCatalog *catalog = tr_catalog();
	List *rules = NIL;
	TrRows rows;
	ScanKeyData key;

	tr_key_text(&key, 1, CStringGetTextDatum(policy));
	tr_rows_begin(&rows, catalog->risk_rule, catalog->risk_rule_pkey, 1, AccessShareLock);
	tr_rows_seek(&rows, &key, 1);
	while (tr_rows_next(&rows))
		rules = lappend(rules, read_row(&rows));
	tr_rows_end(&rows);
	return rules;
}

/*
 * How many rows of audit_history has an event since a moment?  Counts to max.
 */
static int
count_since(TrRows *rows, ScanKey keys, const char *event, int max)
{
	int count = 0;

	tr_key_text(&keys[KEY_EVENT - 1], KEY_EVENT, CStringGetTextDatum(event));
	tr_rows_seek(rows, keys, KEYS);
	while (count < max && tr_rows_next(rows))
		count++;
	return count;
}

/*
 * Whatever is in the index counts: which events and which reasons, its predicate
 * says.
 */
bool
tr_risk_history(TrRiskKind kind, const text *client_id, const text *owner, TimestampTz since,
				int at_least)
{
	const TrCatalog *catalog = tr_catalog();
	bool refusals = kind == TR_RISK_REFUSALS;
	ScanKeyData keys[KEYS];
	TrRows rows;
	int count;

	tr_key_text(&keys[KEY_CLIENT - 1], KEY_CLIENT, PointerGetDatum(client_id));
	tr_key_text(&keys[KEY_OWNER - 1], KEY_OWNER, PointerGetDatum(owner));
	ScanKeyInit(&keys[KEY_AT - 1], KEY_AT, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(since));
	tr_rows_begin(&rows, catalog->audit, catalog->audit_history, KEYS, AccessShareLock);
	count =
		count_since(&rows, keys, refusals ? TR_EVENT_ROTATION_REFUSED : TR_EVENT_REUSE, at_least);
	if (count < at_least)
		count += count_since(&rows, keys, refusals ? TR_EVENT_VALIDATION_REFUSED : TR_EVENT_LEAK,
							 at_least - count);
	tr_rows_end(&rows);
	return count >= at_least;
}
