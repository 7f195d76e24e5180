/*
 * rows.h
 *	  Finding and locking rows by key, without SPI.
 *
 * Always under a snapshot taken now: an old REPEATABLE READ snapshot must not
 * hide a revocation.  Locking follows the row to its newest version, where
 * SELECT FOR UPDATE would raise 40001.
 */
#ifndef TR_ROWS_H
#define TR_ROWS_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/genam.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "nodes/lockoptions.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/*
 * Which columns are taken: the first ones of the table, then some that an update
 * of the extension added, behind any that a DBA had.  Their place differs from one
 * database to the next; 0: there is none, and it is NULL.
 */
#define TR_LATE_MAX 3
typedef struct TrColumns
{
	int first;
	int late;
	AttrNumber at[TR_LATE_MAX];
} TrColumns;

/* A scan over the rows with one key. */
typedef struct TrRows
{
	Relation heap;
	Relation index;
	IndexScanDesc scan;
	Snapshot snapshot;
	bool own_snapshot;
	TupleTableSlot *slot;
	MemoryContext context; /* where it was begun: the scan's memory comes from there */
} TrRows;

/*
 * Begin a scan of a table by an index of it with nkeys keys, under a fresh
 * snapshot.  mode is the lock on the table; like a SELECT's, it is kept until the
 * end of the transaction.
 */
extern void tr_rows_begin(TrRows *rows, Oid heap, Oid index, int nkeys, LOCKMODE mode);

/*
 * The same, to read under a snapshot that the caller took just now and keeps
 * registered meanwhile, so that several tables are read at one moment.
 */
extern void tr_rows_begin_at(TrRows *rows, Oid heap, Oid index, int nkeys, Snapshot snapshot);

/*
 * Look for rows by these keys; may be called again with others.
 */
extern void tr_rows_seek(TrRows *rows, ScanKey keys, int nkeys);

/*
 * The next row: rows->slot holds it.  false: no more.
 */
extern bool tr_rows_next(TrRows *rows);

/*
 * The same from the last row on, backwards; a seek is followed by the one or the
 * other.
 */
extern bool tr_rows_prior(TrRows *rows);

/*
 * Lock the row in the slot and put its newest version there.  false: it is gone.
 */
extern bool tr_rows_lock(TrRows *rows, LockTupleMode mode);

/*
 * Take columns of the row in the slot apart, from a copy in CurrentMemoryContext
 * that outlives the scan; nothing in it is compressed or points into a TOAST table.
 */
extern void tr_rows_copy(TrRows *rows, const TrColumns *columns, Datum *values, bool *nulls);

/*
 * A variable-length value that is neither compressed nor in a TOAST table, so
 * that its bytes can be looked at; it may have a short header.
 */
extern Datum tr_plain_datum(Datum value);

/*
 * A hash of TR_HASH_BYTES as a bytea, in CurrentMemoryContext.
 */
extern Datum tr_hash_datum(const uint8 *hash);

extern void tr_rows_end(TrRows *rows);

/*
 * A key of an index whose column is a uuid or a text (collation C).
 */
extern void tr_key_uuid(ScanKey key, AttrNumber column, const uint8 *uuid);
extern void tr_key_text(ScanKey key, AttrNumber column, Datum value);

/*
 * Take apart the one row whose first index column is this uuid, under the
 * caller's fresh snapshot.  false: none.  The second one locks the row first,
 * waiting for it if need be, and reads its newest version.
 */
extern bool tr_row_read(Oid heap, Oid index, const uint8 *uuid, Snapshot snapshot,
						const TrColumns *columns, Datum *values, bool *nulls);
extern bool tr_row_lock(Oid heap, Oid index, const uint8 *uuid, LockTupleMode mode,
						const TrColumns *columns, Datum *values, bool *nulls);

#endif /* TR_ROWS_H */
