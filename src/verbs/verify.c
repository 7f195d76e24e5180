/*
 * verify.c
 *	  tr_audit_verify and tr_audit_head: is the trail what it was?
 *
 * One walk over all seals under one snapshot: each seal's hash, its place in
 * its segment, what it names, its list, and of each row on the list the hash.
 * Then a look for rows that should be on a list and are not.  It ends with the
 * first problem, so what comes after that is not known to be good.
 *
 * Seals lose their lists when their rows are pruned.  That is no problem where
 * the trail has an event that says so; it lies in what is left.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "state/seal.h"
#include "state/trail.h"
#include "verbs/args.h"
#include "verbs/seal.h"

/* What can be wrong; doc/audit.md says what each one means. */
#define HEAD_MISSING "saved head missing"
#define SEAL_MISSING "seal missing"
#define SEAL_UNREADABLE "seal of an unknown version"
#define SEAL_CHANGED "seal changed"
#define LINK_BROKEN "link broken"
#define RESTORED_MISSING "restored head missing"
#define LIST_MISSING "rows removed without an event"
#define LIST_CHANGED "list changed"
#define ROW_MISSING "row missing"
#define ROW_CHANGED "row changed"
#define ROW_ADDED "row added"

/* What was found so far. */
typedef struct Findings
{
	const char *problem; /* NULL: none */
	bool at_seal;
	int64 segment;
	int64 seal;
	bool at_row;
	int64 seq;
	int64 seals;
	int64 rows;
	int64 pruned;
	int64 unsealed;
} Findings;

/* The walk. */
typedef struct Walk
{
	Findings *found;
	TrTrail trail;
	TimestampTz pruned_before; /* latest moment that an event of pruning tells */
	bool in_segment;		   /* there was a seal before */
	int64 segment;			   /* its segment, number and hash */
	int64 number;
	uint8 hash[TR_HASH_BYTES];
} Walk;

/*
 * Note a problem with this row, then return false.
 */
static bool
bad_row(Findings *found, int64 seq, const char *problem)
{
	found->problem = problem;
	found->at_row = true;
	found->seq = seq;
	return false;
}

/*
 * Note one with the seal that is looked at.
 */
static bool
bad_seal(Findings *found, const char *problem)
{
	found->problem = problem;
	return false;
}

/*
 * Does the seal follow the one before it?
 */
static bool
check_place(Walk *walk, const TrSeal *seal)
{
	bool first = !walk->in_segment || seal->segment != walk->segment;

	if (seal->number != (first ? 1 : walk->number + 1))
		return bad_seal(walk->found, SEAL_MISSING);
	if (seal->has_previous == first ||
		(!first && memcmp(seal->previous, walk->hash, TR_HASH_BYTES) != 0))
		return bad_seal(walk->found, LINK_BROKEN);
	if (seal->has_restored && !tr_seal_exists(seal->restored))
		return bad_seal(walk->found, RESTORED_MISSING);
	return true;
}

/*
 * Are the list and the rows on it what they were?
 */
static bool
check_list(Walk *walk, const TrSeal *seal)
{
	int64 good;
	TrListFault fault = tr_seal_check_list(seal, &walk->trail, &good);

	walk->found->rows += good;
	switch (fault)
	{
		case TR_LIST_GOOD:
			break;
		case TR_LIST_CHANGED:
			return bad_seal(walk->found, LIST_CHANGED);
		case TR_LIST_ROW_MISSING:
			return bad_row(walk->found, seal->seqs[good], ROW_MISSING);
		case TR_LIST_ROW_CHANGED:
			return bad_row(walk->found, seal->seqs[good], ROW_CHANGED);
	}
	return true;
}

/*
 * Check one seal and its rows.
 */
static bool
check_seal(Walk *walk, const TrSeal *seal)
{
	uint8 hash[TR_HASH_BYTES];

	walk->found->segment = seal->segment;
	walk->found->seal = seal->number;
	walk->found->at_seal = true;
	if (seal->version != TR_CHAIN_VERSION)
		return bad_seal(walk->found, SEAL_UNREADABLE);
	tr_seal_hash(seal, hash);
	if (memcmp(hash, seal->hash, TR_HASH_BYTES) != 0)
		return bad_seal(walk->found, SEAL_CHANGED);
	if (!check_place(walk, seal))
		return false;
	walk->in_segment = true;
	walk->segment = seal->segment;
	walk->number = seal->number;
	memcpy(walk->hash, seal->hash, TR_HASH_BYTES);
	walk->found->seals++;

	if (seal->rows > 0 && seal->seqs == NULL && seal->row_hashes == NULL)
	{
		walk->found->pruned += seal->rows;
		return seal->newest_at < walk->pruned_before || bad_seal(walk->found, LIST_MISSING);
	}
	return check_list(walk, seal);
}

/*
 * Check all seals.  false: there is a problem.
 */
static bool
check_seals(Findings *found)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	MemoryContext before = CurrentMemoryContext;
	MemoryContext context =
		AllocSetContextCreate(before, "token_rotation seal", ALLOCSET_DEFAULT_SIZES);
	Walk walk = {.found = found};
	TrRows rows;
	TrSeal seal;
	bool good = true;

	/* later than the snapshot, so that no pruning is missed whose traces are seen */
	walk.pruned_before = tr_trail_pruned_before();
	tr_trail_open(&walk.trail, snapshot);
	tr_seals_begin(&rows, snapshot);
	MemoryContextSwitchTo(context);
	while (good && tr_seals_next(&rows, &seal))
	{
		CHECK_FOR_INTERRUPTS();
		good = check_seal(&walk, &seal);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(before);
	tr_seals_end(&rows);
	tr_trail_close(&walk.trail);
	UnregisterSnapshot(snapshot);
	if (good)
		found->at_seal = false;
	return good;
}

/*
 * Look for rows that no seal lists.  Those are waiting for one, unless the last
 * complete seal of their segment shows their transaction, or one has been made
 * for all that was restored of it: they were added later.
 */
static void
check_unlisted(Findings *found)
{
	static TrSql sql = {
		.text = "SELECT pg_catalog.count(*), pg_catalog.min(a.seq) FILTER (WHERE l.snapshot IS NULL"
				" AND l.complete OR pg_catalog.pg_visible_in_snapshot(a.xid, l.snapshot))"
				" FROM token_rotation.audit a LEFT JOIN ("
				"SELECT DISTINCT ON (s.covers) s.covers, s.snapshot, s.complete"
				" FROM token_rotation.audit_seal s WHERE s.complete"
				" ORDER BY s.covers, s.snapshot IS NOT NULL, s.seal DESC) l"
				" ON l.covers IS NOT DISTINCT FROM a.segment"
				" WHERE NOT EXISTS (SELECT FROM (SELECT pg_catalog.unnest(s.seqs) AS seq"
				" FROM token_rotation.audit_seal s) x WHERE x.seq OPERATOR(pg_catalog.=) a.seq)",
	};
	bool isnull;
	int64 seq;

	/* planned when the lists were short, a nested loop would be run when they are long */
	set_config_option("enable_nestloop", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
					  0, false);
	tr_sql_run(&sql, NULL, NULL);
	found->unsealed = DatumGetInt64(tr_sql_value(0, 1, &isnull));
	seq = DatumGetInt64(tr_sql_value(0, 2, &isnull));
	if (!isnull)
		bad_row(found, seq, ROW_ADDED);
}

/*
 * The saved head: 32 bytes.
 */
static const uint8 *
arg_head(FunctionCallInfo fcinfo)
{
	bytea *head;

	if (PG_ARGISNULL(0))
		return NULL;
	head = PG_GETARG_BYTEA_PP(0);
	if (VARSIZE_ANY_EXHDR(head) != TR_HASH_BYTES)
		tr_raise_value("saved_head has a wrong length", "A head is a hash of 32 bytes.",
					   "Pass the column hash of what tr_audit_head() answered.");
	return (const uint8 *) VARDATA_ANY(head);
}

PG_FUNCTION_INFO_V1(tr_audit_verify);

/*
 * SQL: tr_audit_verify(saved_head bytea)
 */
Datum
tr_audit_verify(PG_FUNCTION_ARGS)
{
	static TrAnswer answer;
	Findings found = {0};
	Datum values[9];
	bool nulls[9] = {false};
	const uint8 *head;
	TrSection section;

	tr_catalog();
	head = arg_head(fcinfo);
	tr_section_begin(&section);
	if (check_seals(&found))
		check_unlisted(&found);
	if (found.problem == NULL && head != NULL && !tr_seal_exists(head))
		found.problem = HEAD_MISSING;
	tr_section_end(&section);

	values[0] = BoolGetDatum(found.problem == NULL);
	nulls[1] = found.problem == NULL;
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(found.problem);
	values[2] = Int64GetDatum(found.segment);
	values[3] = Int64GetDatum(found.seal);
	nulls[2] = nulls[3] = !found.at_seal;
	values[4] = Int64GetDatum(found.seq);
	nulls[4] = !found.at_row;
	values[5] = Int64GetDatum(found.seals);
	values[6] = Int64GetDatum(found.rows);
	values[7] = Int64GetDatum(found.pruned);
	values[8] = Int64GetDatum(found.unsealed);
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(tr_answer_desc(fcinfo, &answer), values, nulls)));
}

PG_FUNCTION_INFO_V1(tr_audit_head);

/*
 * SQL: tr_audit_head(): the newest seal of this installation, or else of what
 * was restored.
 */
Datum
tr_audit_head(PG_FUNCTION_ARGS)
{
	static TrAnswer answer;
	Datum values[4] = {0};
	bool nulls[4] = {true, true, true, true};
	TrSection section;
	TrSeal seal;

	tr_catalog();
	tr_section_begin(&section);
	if (tr_seal_newest(tr_catalog()->segment, &seal) || tr_seal_newest_restored(&seal))
	{
		memset(nulls, false, sizeof(nulls));
		values[0] = Int64GetDatum(seal.segment);
		values[1] = Int64GetDatum(seal.number);
		values[2] = TimestampTzGetDatum(seal.at);
		values[3] = tr_hash_datum(seal.hash);
	}
	tr_section_end(&section);
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(tr_answer_desc(fcinfo, &answer), values, nulls)));
}
