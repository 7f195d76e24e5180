/*
 * risk_triggers.c
 *	  What happens when a DBA edits token_rotation.risk_rule with SQL.
 *
 * There are no foreign keys.  Instead whoever writes a rule locks its policy's row,
 * as a foreign key would, and whoever deletes or renames a policy looks for rules
 * with that row locked (policy_triggers.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "core/risk.h"
#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "state/risk.h"
#include "verbs/args.h"
#include "verbs/edit.h"

/* A scope is no longer. */
#define MAX_PATTERN_BYTES 255

/*
 * The trigger's data, once it is certain that this is a trigger on risk_rule.
 */
static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	return tr_edit_trigger(fcinfo, tr_catalog()->risk_rule, "risk_rule");
}

/*
 * Raise unless the pattern can match something.  An unknown kind is the
 * constraint's to refuse.
 */
static void
check_pattern(const text *kind, const text *pattern)
{
	const char *bytes = VARDATA_ANY(pattern);
	size_t len = VARSIZE_ANY_EXHDR(pattern);
	TrRiskKind found;

	if (strcmp(text_to_cstring(kind), "history") == 0)
	{
		if (!tr_risk_kind(kind, pattern, &found))
			tr_raise_value(
				psprintf("there is no history of \"%s\"", tr_shown(text_to_cstring(pattern))),
				"Rules of the kind history look for one of three things.",
				"Use refusals, reuse or dormancy.");
		return;
	}
	if (!tr_risk_pattern_valid(bytes, len, MAX_PATTERN_BYTES))
		tr_raise_value("pattern is not valid",
					   "It is a name of 1 to 255 bytes, or the beginning of one and a * at the "
					   "end, and only there.",
					   "Use a pattern like 'orders:read' or 'admin:*'.");
	if (tr_risk_kind(kind, pattern, &found) && found == TR_RISK_SCOPE && !tr_is_scope(bytes, len))
		tr_raise_value("pattern is not valid",
					   "A scope has printable ASCII characters without "
					   "space, double quote and backslash.",
					   "Use a pattern like 'orders:read' or 'admin:*'.");
	if (tr_holds_token(bytes, len))
		tr_raise_value("pattern holds a token", "Rules are stored and shown in the clear.",
					   "Use the name of a scope or a classification.");
}

/*
 * Lock the policy that a rule names; 42704 where there is none.
 */
static void
lock_policy(Datum name)
{
	static TrSql sql = {
		.text = "SELECT 1 FROM token_rotation.policy p WHERE p.name OPERATOR(pg_catalog.=) $1"
				" FOR KEY SHARE",
		.nargs = 1,
		.types = {TEXTOID},
	};
	TrSection section;
	bool found;

	tr_section_begin(&section);
	found = tr_sql_run(&sql, &name, NULL) != 0;
	tr_section_end(&section);
	if (!found)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("policy \"%s\" does not exist", tr_shown(TextDatumGetCString(name))),
						errdetail("The table token_rotation.policy has no such row."),
						errhint("Insert it into token_rotation.policy first.")));
}

/*
 * BEFORE INSERT, UPDATE.  A restore may bring the rules before the policies.
 */
static void
check_rule(HeapTuple row, TupleDesc desc)
{
	bool no_policy;
	bool no_kind;
	bool no_pattern;
	Datum policy = tr_edit_column(row, desc, "policy", &no_policy);
	Datum kind = tr_edit_column(row, desc, "kind", &no_kind);
	Datum pattern = tr_edit_column(row, desc, "pattern", &no_pattern);

	if (!no_kind && !no_pattern)
		check_pattern(DatumGetTextPP(kind), DatumGetTextPP(pattern));
	if (!no_policy && !tr_is_restore())
		lock_policy(policy);
}

PG_FUNCTION_INFO_V1(tr_risk_rule_guard);

/*
 * SQL: trigger tr_risk_rule_guard
 */
Datum
tr_risk_rule_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	HeapTuple row =
		TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot truncate token_rotation.risk_rule"),
						errdetail("The loss of each rule is audited."), errhint("Use DELETE.")));
	check_rule(row, RelationGetDescr(data->tg_relation));
	return PointerGetDatum(row);
}

PG_FUNCTION_INFO_V1(tr_risk_rule_audit);

/*
 * SQL: trigger tr_risk_rule_audit
 */
Datum
tr_risk_rule_audit(PG_FUNCTION_ARGS)
{
	static const TrEditKey keys[] = {
		{"policy", "policy"}, {"kind", "kind"}, {"pattern", "pattern"}};

	tr_edit_audit(trigger_data(fcinfo), TR_EVENT_RISK_RULE_CHANGED, keys, lengthof(keys));
	return PointerGetDatum(NULL);
}
