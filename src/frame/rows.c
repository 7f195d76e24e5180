/*
 * rows.c
 *	  Finding and locking rows by key, without SPI: see rows.h.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "core/secret.h"
#include "frame/compat.h"
#include "frame/rows.h"

/*
 * Open everything but the snapshot.
 */
static void
open_rows(TrRows *rows, Oid heap, Oid index, int nkeys, LOCKMODE mode)
{
	rows->context = CurrentMemoryContext;
	rows->heap = table_open(heap, mode);
	rows->index = index_open(index, AccessShareLock);
	rows->slot = table_slot_create(rows->heap, NULL);
	rows->scan = tr_index_beginscan(rows->heap, rows->index, rows->snapshot, nkeys);
}

void
tr_rows_begin(TrRows *rows, Oid heap, Oid index, int nkeys, LOCKMODE mode)
{
	/* the lock first: what its holder did before must be seen */
	LockRelationOid(heap, mode);
	rows->snapshot = RegisterSnapshot(GetLatestSnapshot());
	rows->own_snapshot = true;
	open_rows(rows, heap, index, nkeys, mode);
	UnlockRelationOid(heap, mode);
}

void
tr_rows_begin_at(TrRows *rows, Oid heap, Oid index, int nkeys, Snapshot snapshot)
{
	rows->snapshot = snapshot;
	rows->own_snapshot = false;
	open_rows(rows, heap, index, nkeys, AccessShareLock);
}

/*
 * An index scan takes memory when it comes to need it, for dead tuples for
 * instance, and keeps it to its end: not from a context that is reset with each
 * row.
 */
void
tr_rows_seek(TrRows *rows, ScanKey keys, int nkeys)
{
	MemoryContext before = MemoryContextSwitchTo(rows->context);

	index_rescan(rows->scan, keys, nkeys, NULL, 0);
	MemoryContextSwitchTo(before);
}

/*
 * The next row in either direction.
 */
static bool
move(TrRows *rows, ScanDirection direction)
{
	MemoryContext before = MemoryContextSwitchTo(rows->context);
	bool found = index_getnext_slot(rows->scan, direction, rows->slot);

	MemoryContextSwitchTo(before);
	return found;
}

bool
tr_rows_next(TrRows *rows)
{
	return move(rows, ForwardScanDirection);
}

bool
tr_rows_prior(TrRows *rows)
{
	return move(rows, BackwardScanDirection);
}

bool
tr_rows_lock(TrRows *rows, LockTupleMode mode)
{
	ItemPointerData tid = rows->slot->tts_tid;
	TM_FailureData failure;
	TM_Result result;

	result =
		table_tuple_lock(rows->heap, &tid, rows->snapshot, rows->slot, GetCurrentCommandId(true),
						 mode, LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
	switch (result)
	{
		case TM_Ok:
			return true;
		case TM_Deleted:
			return false;
		default:
			elog(ERROR, "unexpected result %d of locking a row", (int) result);
	}
}

/*
 * Has the table just these columns, in this order?
 */
static bool
are_all(const TrColumns *columns, TupleDesc desc)
{
	int i;

	for (i = 0; i < columns->late; i++)
		if (columns->at[i] != columns->first + i + 1)
			return false;
	return desc->natts == columns->first + columns->late;
}

/*
 * Take a tuple apart whose table has other columns, too, or not all of them.
 */
static void
deform_some(HeapTuple tuple, TupleDesc desc, const TrColumns *columns, Datum *values, bool *nulls)
{
	Datum *all_values = palloc(desc->natts * sizeof(Datum));
	bool *all_nulls = palloc(desc->natts * sizeof(bool));
	int i;

	heap_deform_tuple(tuple, desc, all_values, all_nulls);
	memcpy(values, all_values, columns->first * sizeof(Datum));
	memcpy(nulls, all_nulls, columns->first * sizeof(bool));
	for (i = 0; i < columns->late; i++)
	{
		int at = columns->at[i] - 1;

		nulls[columns->first + i] = at < 0 || all_nulls[at];
		values[columns->first + i] = at < 0 ? (Datum) 0 : all_values[at];
	}
	pfree(all_values);
	pfree(all_nulls);
}

/*
 * Columns that were added have types of a fixed length; among the first ones there
 * are others.
 */
void
tr_rows_copy(TrRows *rows, const TrColumns *columns, Datum *values, bool *nulls)
{
	TupleDesc desc = RelationGetDescr(rows->heap);
	HeapTuple tuple = ExecCopySlotHeapTuple(rows->slot);
	int i;

	if (are_all(columns, desc))
		heap_deform_tuple(tuple, desc, values, nulls);
	else if (desc->natts >= columns->first)
		deform_some(tuple, desc, columns, values, nulls);
	else
		elog(ERROR, "table \"%s\" lacks columns", RelationGetRelationName(rows->heap));
	for (i = 0; i < columns->first; i++)
	{
		if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1)
			values[i] = tr_plain_datum(values[i]);
	}
}

Datum
tr_plain_datum(Datum value)
{
	struct varlena *bytes = (struct varlena *) DatumGetPointer(value);

	/* stored in the row, but compressed, is what the server does to any wide row */
	if (VARATT_IS_EXTERNAL(bytes) || VARATT_IS_COMPRESSED(bytes))
		return PointerGetDatum(detoast_attr(bytes));
	return value;
}

Datum
tr_hash_datum(const uint8 *hash)
{
	bytea *bytes = palloc(VARHDRSZ + TR_HASH_BYTES);

	SET_VARSIZE(bytes, VARHDRSZ + TR_HASH_BYTES);
	memcpy(VARDATA(bytes), hash, TR_HASH_BYTES);
	return PointerGetDatum(bytes);
}

void
tr_rows_end(TrRows *rows)
{
	index_endscan(rows->scan);
	ExecDropSingleTupleTableSlot(rows->slot);
	if (rows->own_snapshot)
		UnregisterSnapshot(rows->snapshot);
	/* the locks stay, as a SELECT's do: taking them again is cheaper than giving them back */
	index_close(rows->index, NoLock);
	table_close(rows->heap, NoLock);
}

void
tr_key_uuid(ScanKey key, AttrNumber column, const uint8 *uuid)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_UUID_EQ, PointerGetDatum(uuid));
}

void
tr_key_text(ScanKey key, AttrNumber column, Datum value)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, value);
}

bool
tr_row_read(Oid heap, Oid index, const uint8 *uuid, Snapshot snapshot, const TrColumns *columns,
			Datum *values, bool *nulls)
{
	TrRows rows;
	ScanKeyData key;
	bool found;

	tr_key_uuid(&key, 1, uuid);
	tr_rows_begin_at(&rows, heap, index, 1, snapshot);
	tr_rows_seek(&rows, &key, 1);
	found = tr_rows_next(&rows);
	if (found)
		tr_rows_copy(&rows, columns, values, nulls);
	tr_rows_end(&rows);
	return found;
}

bool
tr_row_lock(Oid heap, Oid index, const uint8 *uuid, LockTupleMode mode, const TrColumns *columns,
			Datum *values, bool *nulls)
{
	TrRows rows;
	ScanKeyData key;
	bool found;

	tr_key_uuid(&key, 1, uuid);
	tr_rows_begin(&rows, heap, index, 1, RowShareLock);
	tr_rows_seek(&rows, &key, 1);
	found = tr_rows_next(&rows) && tr_rows_lock(&rows, mode);
	if (found)
		tr_rows_copy(&rows, columns, values, nulls);
	tr_rows_end(&rows);
	return found;
}
