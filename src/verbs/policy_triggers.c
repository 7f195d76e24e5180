/*
 * policy_triggers.c
 *	  What happens when a DBA edits token_rotation.policy with SQL.
 *
 * Nobody may take the rules away from under a token that lives by them.  The
 * protocol between who deletes (or renames) a policy and who issues:
 *
 * 1. An issuer takes RowExclusiveLock on token before he reads the policy, and
 *	  keeps it until he commits.
 * 2. A deleter takes ShareLock on token, which waits for the issuers in flight,
 *	  and keeps it until he commits.  Then he looks for live tokens under a
 *	  fresh snapshot, which shows what those issuers have committed.
 * 3. An issuer who comes later waits in 1 and does not find the policy.
 *
 * The deleter has looked once without the lock: an attempt on a policy that
 * is plainly in use holds nobody up.
 *
 * The triggers run with the rights of whoever edits; what they read and write
 * beyond the row at hand they do inside a section.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/sql.h"
#include "verbs/edit.h"

/* A shipped row is being deleted because a restored one takes its place. */
static bool replacing = false;

/*
 * The trigger's data, once it is certain that this is a trigger on policy.
 */
static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	return tr_edit_trigger(fcinfo, tr_catalog()->policy, "policy");
}

/*
 * Is this the extension's own install or upgrade script?  What it writes is
 * what is shipped.
 */
static bool
by_own_script(void)
{
	return creating_extension && CurrentExtensionObject == tr_catalog()->extension;
}

/*
 * The row with its mark set or cleared.
 */
static HeapTuple
mark(HeapTuple row, TupleDesc desc, bool shipped)
{
	int number = SPI_fnumber(desc, "shipped");
	Datum value = BoolGetDatum(shipped);
	bool isnull = false;

	return heap_modify_tuple_by_cols(row, desc, 1, &number, &value, &isnull);
}

/*
 * Do two rows differ in anything but the mark?
 */
static bool
edited(HeapTuple one, HeapTuple two, TupleDesc desc)
{
	int shipped = SPI_fnumber(desc, "shipped");
	int number;

	for (number = 1; number <= desc->natts; number++)
		if (number != shipped && !TupleDescAttr(desc, number - 1)->attisdropped &&
			tr_edit_differs(one, two, desc, number))
			return true;
	return false;
}

/*
 * Is there a token that still lives by this policy?  One that a cutoff has
 * ended does not: it never rotates again, whatever its recorded status.
 */
static bool
has_live_token(Datum policy)
{
	static TrSql sql = {
		.text = "SELECT 1 FROM token_rotation.token t"
				" WHERE t.policy OPERATOR(pg_catalog.=) $1"
				" AND t." TR_LIVE " AND NOT EXISTS (SELECT 1 FROM token_rotation.cutoff c"
				" WHERE c.before OPERATOR(pg_catalog.>) t.issued_at"
				" AND c.owner IN ('', t.owner)"
				" AND CASE c.kind WHEN 'all' THEN true"
				" WHEN 'policy' THEN c.subject OPERATOR(pg_catalog.=) t.policy"
				" WHEN 'client' THEN c.subject OPERATOR(pg_catalog.=) t.client_id END)"
				" LIMIT 1",
		.nargs = 1,
		.types = {TEXTOID},
	};

	return tr_sql_run(&sql, &policy, NULL) != 0;
}

/*
 * Raise where a policy has risk rules, which would be left behind and speak for
 * a later one of its name.  Who inserts one locks the policy's row, and so have
 * we: either he waits for us, or we for him.
 */
static void
require_no_rules(Datum name)
{
	static TrSql sql = {
		.text = "SELECT 1 FROM token_rotation.risk_rule r"
				" WHERE r.policy OPERATOR(pg_catalog.=) $1 LIMIT 1",
		.nargs = 1,
		.types = {TEXTOID},
	};

	if (tr_sql_run(&sql, &name, NULL) != 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("policy \"%s\" has risk rules", TextDatumGetCString(name)),
						errdetail("At least one row of token_rotation.risk_rule names it."),
						errhint("Delete its rules, or give them to another policy.")));
}

/*
 * Raise where a policy is in use: steps 2 of the protocol above.
 */
static void
require_unused(HeapTuple row, TupleDesc desc, const char *hint)
{
	bool isnull;
	Datum name = tr_edit_column(row, desc, "name", &isnull);
	TrSection section;
	bool in_use;

	tr_section_begin(&section);
	require_no_rules(name);
	in_use = has_live_token(name);
	if (!in_use)
	{
		LockRelationOid(tr_catalog()->token, ShareLock);
		in_use = has_live_token(name);
	}
	tr_section_end(&section);

	if (in_use)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("policy \"%s\" is in use", TextDatumGetCString(name)),
						errdetail("At least one active or rotating token names it."),
						errhint("%s", hint)));
}

/*
 * A restored row replaces a shipped one of its name, which no edit has touched.
 * Any other one stays and makes the ordinary duplicate-key error.
 */
static void
drop_shipped(HeapTuple row, TupleDesc desc)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.policy AS p"
				" WHERE p.name OPERATOR(pg_catalog.=) $1 AND p.shipped",
		.nargs = 1,
		.types = {TEXTOID},
	};
	TrSection section;
	bool isnull;
	Datum name = tr_edit_column(row, desc, "name", &isnull);

	if (isnull)
		return;
	tr_section_begin(&section);
	PG_TRY();
	{
		replacing = true;
		tr_sql_run(&sql, &name, NULL);
	}
	PG_FINALLY();
	{
		replacing = false;
	}
	PG_END_TRY();
	tr_section_end(&section);
}

/*
 * BEFORE INSERT: only what the extension ships is marked as shipped.
 */
static HeapTuple
guard_insert(HeapTuple row, TupleDesc desc)
{
	if (by_own_script())
		return row;
	if (tr_is_restore())
	{
		drop_shipped(row, desc);
		return row;
	}
	return mark(row, desc, false);
}

/*
 * BEFORE UPDATE: an edit clears the mark, nobody sets it, and a policy in use
 * keeps its name.
 */
static HeapTuple
guard_update(HeapTuple before, HeapTuple after, TupleDesc desc)
{
	bool isnull;

	if (tr_edit_differs(before, after, desc, SPI_fnumber(desc, "name")))
		require_unused(before, desc,
					   "Insert a policy of the new name beside it, and delete this one when its "
					   "tokens have ended.");
	if (by_own_script())
		return after;
	if (edited(before, after, desc) ||
		!DatumGetBool(tr_edit_column(before, desc, "shipped", &isnull)))
		return mark(after, desc, false);
	return after;
}

/*
 * BEFORE DELETE: not while it is in use.  A restored row that replaces a
 * shipped one leaves the tokens their policy.
 */
static HeapTuple
guard_delete(HeapTuple row, TupleDesc desc)
{
	if (!replacing)
		require_unused(row, desc,
					   "End its tokens with tr_revoke_policy(), or wait until they have expired.");
	return row;
}

/*
 * BEFORE TRUNCATE: never.  It would neither look for tokens in use nor leave
 * an audit row for each policy, which DELETE does at no cost that matters in a
 * table of this size; like the server, which truncates no table that a foreign
 * key points to, empty or not.
 */
static void
refuse_truncate(void)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot truncate token_rotation.policy"),
					errdetail("Each policy that goes is checked for tokens that use it, and its "
							  "loss is audited."),
					errhint("Use DELETE.")));
}

PG_FUNCTION_INFO_V1(tr_policy_guard);

/*
 * SQL: trigger tr_policy_guard
 */
Datum
tr_policy_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	HeapTuple result = NULL;

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		refuse_truncate();
	else if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		result = guard_insert(data->tg_trigtuple, desc);
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		result = guard_update(data->tg_trigtuple, data->tg_newtuple, desc);
	else
		result = guard_delete(data->tg_trigtuple, desc);
	return PointerGetDatum(result);
}

PG_FUNCTION_INFO_V1(tr_policy_audit);

/*
 * SQL: trigger tr_policy_audit
 */
Datum
tr_policy_audit(PG_FUNCTION_ARGS)
{
	static const TrEditKey keys[] = {{"policy", "name"}};

	tr_edit_audit(trigger_data(fcinfo), TR_EVENT_POLICY_CHANGED, keys, lengthof(keys));
	return PointerGetDatum(NULL);
}
