/*
 * trail.c
 *	  Reading the audit trail's rows for the chain of seals: see trail.h.
 *
 * Row hashes must not depend on where a row is: texts are hashed in UTF-8
 * whatever the database's encoding is, moments in UTC, jsonb as its text, which
 * the server makes from the value and not from what was written.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "core/lifecycle.h"
#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/sql.h"
#include "frame/utf8.h"
#include "frame/verdict.h"
#include "state/trail.h"

/* Columns of audit: how many there are, and those that are looked at alone. */
#define COLUMNS 16
#define SEQ 1
#define AT 2
#define XID 15

/* Of the index audit_segment. */
#define KEY_SEGMENT 1
#define KEY_XID 2

/* A pick in progress: the smallest numbers seen so far, and some more. */
typedef struct Picked
{
	const TrPick *pick;
	int64 *seqs;
	int count;
	int room;
	int wanted;
} Picked;

static int
compare_seqs(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * Keep the smallest ones, in order.
 */
static void
keep_smallest(Picked *picked)
{
	qsort(picked->seqs, picked->count, sizeof(int64), compare_seqs);
	picked->count = Min(picked->count, picked->wanted);
}

/*
 * Take the row in the slot if it is of those to pick.
 */
static void
consider(Picked *picked, TupleTableSlot *slot)
{
	const TrPick *pick = picked->pick;
	bool isnull;
	int64 seq = DatumGetInt64(slot_getattr(slot, SEQ, &isnull));
	uint64 xid =
		U64FromFullTransactionId(DatumGetFullTransactionId(slot_getattr(slot, XID, &isnull)));

	CHECK_FOR_INTERRUPTS();
	if (seq <= pick->above || (pick->upto != NULL && !tr_xids_show(pick->upto, xid)))
		return;
	if (picked->count == picked->room)
		keep_smallest(picked);
	picked->seqs[picked->count++] = seq;
}

/*
 * Look for the rows that have this segment and this xid, or it and later ones.
 */
static void
seek_xid(TrRows *rows, int64 segment, uint64 xid, bool later)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], KEY_SEGMENT, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(segment));
	ScanKeyInit(&keys[1], KEY_XID, later ? BTGreaterEqualStrategyNumber : BTEqualStrategyNumber,
				later ? F_XID8GE : F_XID8EQ,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(xid)));
	tr_rows_seek(rows, keys, 2);
}

/*
 * Consider these rows.
 */
static void
consider_xid(Picked *picked, TrRows *rows, uint64 xid, bool later)
{
	seek_xid(rows, picked->pick->segment.id, xid, later);
	while (tr_rows_next(rows))
		consider(picked, rows->slot);
}

/*
 * What a snapshot does not show is what it saw in progress and what began after
 * it: found by index, however many rows it does show.
 */
static void
pick_by_xid(Picked *picked)
{
	const TrXids *after = picked->pick->after;
	TrRows rows;
	size_t i;

	tr_rows_begin(&rows, tr_catalog()->audit, tr_catalog()->audit_segment, 2, AccessShareLock);
	for (i = 0; after != NULL && i < after->count; i++)
		consider_xid(picked, &rows, after->in_progress[i], false);
	consider_xid(picked, &rows, after != NULL ? after->xmax : 0, true);
	tr_rows_end(&rows);
}

/*
 * All rows of a segment, which may be millions: in order of seq, and no more
 * than are wanted.
 */
static void
pick_by_seq(Picked *picked)
{
	const TrSegment *segment = &picked->pick->segment;
	TrRows rows;
	ScanKeyData key;

	ScanKeyInit(&key, SEQ, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(picked->pick->above));
	tr_rows_begin(&rows, tr_catalog()->audit, tr_catalog()->audit_pkey, 1, AccessShareLock);
	tr_rows_seek(&rows, &key, 1);
	while (picked->count < picked->wanted && tr_rows_next(&rows))
	{
		bool isnull;
		int64 id = DatumGetInt64(slot_getattr(rows.slot, tr_catalog()->segment_of_audit, &isnull));

		if (isnull ? !segment->known : segment->known && id == segment->id)
			consider(picked, rows.slot);
	}
	tr_rows_end(&rows);
}

int
tr_trail_pick(const TrPick *pick, int64 *seqs, int max, bool *more)
{
	Picked picked = {.pick = pick, .wanted = max + 1, .room = 2 * (max + 1)};
	int count;

	picked.seqs = palloc(picked.room * sizeof(int64));
	if (pick->segment.known && (pick->after != NULL || pick->upto != NULL))
		pick_by_xid(&picked);
	else
		pick_by_seq(&picked);
	keep_smallest(&picked);

	*more = picked.count > max;
	count = Min(picked.count, max);
	memcpy(seqs, picked.seqs, count * sizeof(int64));
	pfree(picked.seqs);
	return count;
}

/*
 * When the first of these rows was written, in the index's order.
 */
static TimestampTz
first_at(TrRows *rows, int64 segment, uint64 xid, bool later)
{
	bool isnull;
	Datum at;

	CHECK_FOR_INTERRUPTS();
	seek_xid(rows, segment, xid, later);
	if (!tr_rows_next(rows))
		return TR_FOREVER;
	at = slot_getattr(rows->slot, AT, &isnull);
	return isnull ? TR_FOREVER : DatumGetTimestampTz(at);
}

TimestampTz
tr_trail_oldest(int64 segment, const TrXids *after)
{
	TimestampTz oldest;
	TrRows rows;
	size_t i;

	tr_rows_begin(&rows, tr_catalog()->audit, tr_catalog()->audit_segment, 2, AccessShareLock);
	oldest = first_at(&rows, segment, after != NULL ? after->xmax : 0, true);
	for (i = 0; after != NULL && i < after->count; i++)
		oldest = Min(oldest, first_at(&rows, segment, after->in_progress[i], false));
	tr_rows_end(&rows);
	return oldest;
}

/*
 * The lowest segment from this number on.  false: no more.
 */
static bool
next_segment(TrRows *rows, int64 from, TrSegment *segment)
{
	ScanKeyData key;
	bool isnull;

	ScanKeyInit(&key, KEY_SEGMENT, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	tr_rows_seek(rows, &key, 1);
	if (!tr_rows_next(rows))
		return false;
	segment->known = true;
	segment->id = DatumGetInt64(slot_getattr(rows->slot, tr_catalog()->segment_of_audit, &isnull));
	return true;
}

/*
 * Is there a row without a segment?
 */
static bool
has_unknown_segment(TrRows *rows)
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, SK_ISNULL | SK_SEARCHNULL, KEY_SEGMENT, InvalidStrategy,
						   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	tr_rows_seek(rows, &key, 1);
	return tr_rows_next(rows);
}

List *
tr_trail_other_segments(int64 own)
{
	List *others = NIL;
	TrSegment segment;
	int64 from = PG_INT64_MIN;
	TrRows rows;

	tr_rows_begin(&rows, tr_catalog()->audit, tr_catalog()->audit_segment, 1, AccessShareLock);
	while (next_segment(&rows, from, &segment))
	{
		if (segment.id != own)
			others = lappend(others, memcpy(palloc(sizeof(segment)), &segment, sizeof(segment)));
		if (segment.id == PG_INT64_MAX)
			break;
		from = segment.id + 1;
	}
	if (has_unknown_segment(&rows))
		others = lappend(others, palloc0(sizeof(segment)));
	tr_rows_end(&rows);
	return others;
}

/*
 * A text in UTF-8.  Where that cannot be, because it has characters that UTF-8
 * lacks or the database does not know its encoding, its bytes as they are: what
 * a caller passes as origin must not stop the sealing.
 */
static void
set_text(TrField *field, Datum value)
{
	text *plain = DatumGetTextPP(value);
	StringInfoData utf8;

	initStringInfo(&utf8);
	if (tr_text_to_utf8(&utf8, VARDATA_ANY(plain), (int) VARSIZE_ANY_EXHDR(plain)))
	{
		tr_field_bytes(field, utf8.data, utf8.len);
		return;
	}
	tr_field_bytes(field, VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
	field->tag = TR_TAG_RAW;
}

/*
 * Write a column down.
 */
static void
set_column(TrField *field, Oid type, Datum value)
{
	switch (type)
	{
		case INT8OID:
			tr_field_int64(field, DatumGetInt64(value));
			break;
		case TIMESTAMPTZOID:
			tr_field_int64(field, DatumGetTimestampTz(value));
			break;
		case XID8OID:
			tr_field_int64(field,
						   (int64) U64FromFullTransactionId(DatumGetFullTransactionId(value)));
			break;
		case BYTEAOID:
			tr_field_bytes(field, VARDATA_ANY(DatumGetByteaPP(value)),
						   VARSIZE_ANY_EXHDR(DatumGetByteaPP(value)));
			break;
		case TEXTOID:
			set_text(field, value);
			break;
		case INETOID:
			set_text(field, DirectFunctionCall1(network_show, value));
			break;
		case JSONBOID:
			set_text(field,
					 CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(jsonb_out, value))));
			break;
		default:
			elog(ERROR, "audit has a column of an unexpected type");
	}
}

void
tr_trail_open(TrTrail *trail, Snapshot snapshot)
{
	tr_rows_begin_at(&trail->rows, tr_catalog()->audit, tr_catalog()->audit_pkey, 1, snapshot);
	trail->context =
		AllocSetContextCreate(CurrentMemoryContext, "token_rotation row", ALLOCSET_DEFAULT_SIZES);
}

bool
tr_trail_hash(TrTrail *trail, int64 seq, uint8 hash[TR_HASH_BYTES], TimestampTz *at)
{
	MemoryContext before = MemoryContextSwitchTo(trail->context);
	TrColumns columns = {COLUMNS - 1, 1, {tr_catalog()->segment_of_audit}};
	TrField fields[COLUMNS];
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	ScanKeyData key;
	bool found;
	int i;

	CHECK_FOR_INTERRUPTS();
	ScanKeyInit(&key, SEQ, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(seq));
	tr_rows_seek(&trail->rows, &key, 1);
	found = tr_rows_next(&trail->rows);
	if (found)
	{
		tr_rows_copy(&trail->rows, &columns, values, nulls);
		for (i = 0; i < COLUMNS; i++)
		{
			if (nulls[i])
				tr_field_null(&fields[i]);
			else
				set_column(&fields[i],
						   i == COLUMNS - 1
							   ? INT8OID
							   : TupleDescAttr(RelationGetDescr(trail->rows.heap), i)->atttypid,
						   values[i]);
		}
		*at = nulls[AT - 1] ? DT_NOBEGIN : DatumGetTimestampTz(values[AT - 1]);
		if (!tr_chain_hash(TR_CHAINED_ROW, fields, COLUMNS, hash))
			tr_raise_crypto();
	}
	MemoryContextSwitchTo(before);
	MemoryContextReset(trail->context);
	return found;
}

void
tr_trail_close(TrTrail *trail)
{
	MemoryContextDelete(trail->context);
	tr_rows_end(&trail->rows);
}

int64
tr_trail_remove(const int64 *seqs, int count)
{
	TrRows rows;
	int64 removed = 0;
	int i;

	tr_rows_begin(&rows, tr_catalog()->audit, tr_catalog()->audit_pkey, 1, RowExclusiveLock);
	for (i = 0; i < count; i++)
	{
		ScanKeyData key;

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&key, SEQ, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(seqs[i]));
		tr_rows_seek(&rows, &key, 1);
		if (!tr_rows_next(&rows))
			continue;
		simple_table_tuple_delete(rows.heap, &rows.slot->tts_tid, rows.snapshot);
		removed++;
	}
	tr_rows_end(&rows);
	return removed;
}

TimestampTz
tr_trail_pruned_before(void)
{
	/* nobody knows what somebody has written into a detail: no cast may fail */
	static TrSql sql = {
		.text = "SELECT pg_catalog.max(CASE WHEN pg_catalog.jsonb_typeof(a.detail"
				" OPERATOR(pg_catalog.->) 'before_us') OPERATOR(pg_catalog.=) 'number'"
				" THEN greatest(least((a.detail OPERATOR(pg_catalog.->) 'before_us')::numeric,"
				" 9e18), -9e18)::bigint END)"
				" FROM token_rotation.audit a WHERE a.event OPERATOR(pg_catalog.=) 'audit_pruned'",
	};
	bool isnull;
	Datum value;

	tr_sql_run(&sql, NULL, NULL);
	value = tr_sql_value(0, 1, &isnull);
	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}
