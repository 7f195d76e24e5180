/*
 * seal.c
 *	  The chain of seals over the audit trail: see seal.h.
 *
 * A seal is inserted as token_rotation_worker, through row-level security, by a
 * statement of this file, and changed only by losing its list; the triggers
 * refuse every other statement.
 *
 * Seals are read as what somebody may have tampered with: a column that is NULL
 * where it must not be, or of a wrong length, is read as zeros, and the seal's
 * hash tells.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/seal_lock.h"
#include "frame/sql.h"
#include "state/seal.h"

#define COLUMNS 17

/* What the row's columns are called, in order. */
#define ALL_BUT_LIST                                                                               \
	"segment, seal, version, at, previous, restored, covers, snapshot, complete, rows,"            \
	" first_seq, last_seq, newest_at, list_hash, hash"

/* Whom the triggers let pass, for the statement that is being run. */
static bool writing = false;
static bool emptying = false;

/*
 * Read a hash.  false: NULL.
 */
static bool
get_hash(Datum value, bool isnull, uint8 hash[TR_HASH_BYTES])
{
	bytea *bytes;

	memset(hash, 0, TR_HASH_BYTES);
	if (isnull)
		return false;
	bytes = DatumGetByteaPP(value);
	if (VARSIZE_ANY_EXHDR(bytes) == TR_HASH_BYTES)
		memcpy(hash, VARDATA_ANY(bytes), TR_HASH_BYTES);
	return true;
}

/*
 * Read the columns that are not its list.
 */
static void
get_columns(TrSeal *seal, const Datum *values, const bool *nulls)
{
	memset(seal, 0, sizeof(*seal));
	seal->segment = nulls[0] ? 0 : DatumGetInt64(values[0]);
	seal->number = nulls[1] ? 0 : DatumGetInt64(values[1]);
	seal->version = nulls[2] ? 0 : DatumGetInt16(values[2]);
	seal->at = nulls[3] ? 0 : DatumGetTimestampTz(values[3]);
	seal->has_previous = get_hash(values[4], nulls[4], seal->previous);
	seal->has_restored = get_hash(values[5], nulls[5], seal->restored);
	seal->covers.known = !nulls[6];
	seal->covers.id = nulls[6] ? 0 : DatumGetInt64(values[6]);
	if (!nulls[7])
		seal->snapshot = DatumGetCString(DirectFunctionCall1(pg_snapshot_out, values[7]));
	seal->complete = !nulls[8] && DatumGetBool(values[8]);
	seal->rows = nulls[9] ? 0 : DatumGetInt32(values[9]);
	seal->first_seq = nulls[10] ? 0 : DatumGetInt64(values[10]);
	seal->last_seq = nulls[11] ? 0 : DatumGetInt64(values[11]);
	seal->newest_at = nulls[12] ? 0 : DatumGetTimestampTz(values[12]);
	get_hash(values[13], nulls[13], seal->list_hash);
	get_hash(values[14], nulls[14], seal->hash);
}

/*
 * Read the numbers of its rows, as far as they are any.
 */
static void
get_seqs(TrSeal *seal, Datum value)
{
	ArrayType *array = DatumGetArrayTypeP(value);

	seal->listed = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (ARR_HASNULL(array))
		seal->listed = 0;
	seal->seqs = (int64 *) ARR_DATA_PTR(array);
}

/*
 * Read the hashes of its rows.
 */
static void
get_row_hashes(TrSeal *seal, Datum value)
{
	bytea *bytes = DatumGetByteaPP(value);
	int64 size = VARSIZE_ANY_EXHDR(bytes);

	seal->hashed = size % TR_HASH_BYTES == 0 ? size / TR_HASH_BYTES : -1;
	seal->row_hashes = (uint8 *) VARDATA_ANY(bytes);
}

/*
 * The first row that this statement finds, for one segment or any, as a seal
 * without a list.  false: none.
 */
static bool
find_seal(TrSql *sql, int64 segment, TrSeal *seal)
{
	Datum value = Int64GetDatum(segment);
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	int i;

	if (tr_sql_run(sql, &value, NULL) == 0)
		return false;
	for (i = 0; i < COLUMNS - 2; i++)
		values[i] = tr_sql_value(0, i + 1, &nulls[i]);
	get_columns(seal, values, nulls);
	return true;
}

bool
tr_seal_newest(int64 segment, TrSeal *seal)
{
	static TrSql sql = {
		.text = "SELECT " ALL_BUT_LIST " FROM token_rotation.audit_seal"
				" WHERE segment OPERATOR(pg_catalog.=) $1 ORDER BY seal DESC LIMIT 1",
		.nargs = 1,
		.types = {INT8OID},
	};

	return find_seal(&sql, segment, seal);
}

bool
tr_seal_newest_complete(int64 segment, TrSeal *seal)
{
	static TrSql sql = {
		.text = "SELECT " ALL_BUT_LIST " FROM token_rotation.audit_seal"
				" WHERE segment OPERATOR(pg_catalog.=) $1"
				" AND covers OPERATOR(pg_catalog.=) segment AND complete"
				" ORDER BY seal DESC LIMIT 1",
		.nargs = 1,
		.types = {INT8OID},
	};

	return find_seal(&sql, segment, seal);
}

bool
tr_seal_newest_restored(TrSeal *seal)
{
	static TrSql sql = {
		.text = "SELECT " ALL_BUT_LIST " FROM token_rotation.audit_seal"
				" ORDER BY segment DESC, seal DESC LIMIT 1",
	};

	return find_seal(&sql, 0, seal);
}

bool
tr_seal_closed(TrSegment segment)
{
	static TrSql sql = {
		.text = "SELECT FROM token_rotation.audit_seal"
				" WHERE complete AND covers IS DISTINCT FROM segment"
				" AND covers IS NOT DISTINCT FROM $1 LIMIT 1",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum value = Int64GetDatum(segment.id);

	return tr_sql_run(&sql, &value, segment.known ? " " : "n") > 0;
}

bool
tr_seal_unnamed(int64 own, uint8 hash[TR_HASH_BYTES])
{
	static TrSql sql = {
		.text = "WITH RECURSIVE head (segment, hash) AS ("
				"(SELECT s.segment, s.hash FROM token_rotation.audit_seal s"
				" ORDER BY s.segment DESC, s.seal DESC LIMIT 1)"
				" UNION ALL SELECT b.segment, b.hash FROM head h, LATERAL ("
				"SELECT s.segment, s.hash FROM token_rotation.audit_seal s"
				" WHERE s.segment OPERATOR(pg_catalog.<) h.segment"
				" ORDER BY s.segment DESC, s.seal DESC LIMIT 1) b)"
				" SELECT h.hash FROM head h WHERE h.segment OPERATOR(pg_catalog.<>) $1"
				" AND NOT EXISTS (SELECT FROM token_rotation.audit_seal s"
				" WHERE s.restored OPERATOR(pg_catalog.=) h.hash) LIMIT 1",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum value = Int64GetDatum(own);
	bool isnull;

	if (tr_sql_run(&sql, &value, NULL) == 0)
		return false;
	value = tr_sql_value(0, 1, &isnull);
	return get_hash(value, isnull, hash);
}

bool
tr_seal_exists(const uint8 hash[TR_HASH_BYTES])
{
	static TrSql sql = {
		.text = "SELECT FROM token_rotation.audit_seal WHERE hash OPERATOR(pg_catalog.=) $1"
				" LIMIT 1",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum value = tr_hash_datum(hash);

	return tr_sql_run(&sql, &value, NULL) > 0;
}

/*
 * The list's two halves as values of SQL.
 */
static Datum
seqs_datum(const TrSeal *seal)
{
	Datum *seqs = palloc(Max(seal->listed, 1) * sizeof(Datum));
	int64 i;

	for (i = 0; i < seal->listed; i++)
		seqs[i] = Int64GetDatum(seal->seqs[i]);
	return PointerGetDatum(
		construct_array(seqs, (int) seal->listed, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));
}

static Datum
row_hashes_datum(const TrSeal *seal)
{
	Size size = seal->hashed * TR_HASH_BYTES;
	bytea *bytes = palloc(VARHDRSZ + size);

	SET_VARSIZE(bytes, VARHDRSZ + size);
	memcpy(VARDATA(bytes), seal->row_hashes, size);
	return PointerGetDatum(bytes);
}

/*
 * Fill the parameters of the INSERT.
 */
static void
set_values(const TrSeal *seal, Datum *values, char *nulls)
{
	bool any = seal->rows > 0;

	memset(nulls, ' ', COLUMNS);
	values[0] = Int64GetDatum(seal->segment);
	values[1] = Int64GetDatum(seal->number);
	values[2] = Int16GetDatum((int16) seal->version);
	values[3] = TimestampTzGetDatum(seal->at);
	values[4] = tr_hash_datum(seal->previous);
	nulls[4] = seal->has_previous ? ' ' : 'n';
	values[5] = tr_hash_datum(seal->restored);
	nulls[5] = seal->has_restored ? ' ' : 'n';
	values[6] = Int64GetDatum(seal->covers.id);
	nulls[6] = seal->covers.known ? ' ' : 'n';
	values[7] = CStringGetTextDatum(seal->snapshot != NULL ? seal->snapshot : "");
	nulls[7] = seal->snapshot != NULL ? ' ' : 'n';
	values[8] = BoolGetDatum(seal->complete);
	values[9] = Int32GetDatum((int32) seal->rows);
	values[10] = Int64GetDatum(seal->first_seq);
	values[11] = Int64GetDatum(seal->last_seq);
	values[12] = TimestampTzGetDatum(seal->newest_at);
	memset(nulls + 10, any ? ' ' : 'n', 3);
	values[13] = tr_hash_datum(seal->list_hash);
	values[14] = tr_hash_datum(seal->hash);
	values[15] = seqs_datum(seal);
	values[16] = row_hashes_datum(seal);
}

void
tr_seal_write(const TrSeal *seal)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.audit_seal (" ALL_BUT_LIST ", seqs, row_hashes)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8::pg_catalog.pg_snapshot, $9, $10, $11,"
				" $12, $13, $14, $15, $16, $17)",
		.nargs = COLUMNS,
		.types = {INT8OID, INT8OID, INT2OID, TIMESTAMPTZOID, BYTEAOID, BYTEAOID, INT8OID, TEXTOID,
				  BOOLOID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID, BYTEAOID, BYTEAOID,
				  INT8ARRAYOID, BYTEAOID},
	};
	Datum values[COLUMNS];
	char nulls[COLUMNS];

	set_values(seal, values, nulls);
	tr_act_as(tr_catalog()->worker);
	PG_TRY();
	{
		writing = true;
		tr_sql_run(&sql, values, nulls);
	}
	PG_FINALLY();
	{
		writing = false;
	}
	PG_END_TRY();
	tr_act_as_owner();
}

void
tr_seals_begin(TrRows *rows, Snapshot snapshot)
{
	tr_rows_begin_at(rows, tr_catalog()->audit_seal, tr_catalog()->audit_seal_pkey, 0, snapshot);
	tr_rows_seek(rows, NULL, 0);
}

bool
tr_seals_next(TrRows *rows, TrSeal *seal)
{
	static const TrColumns columns = {COLUMNS, 0, {0}};
	Datum values[COLUMNS];
	bool nulls[COLUMNS];

	if (!tr_rows_next(rows))
		return false;
	tr_rows_copy(rows, &columns, values, nulls);
	get_columns(seal, values, nulls);
	if (!nulls[15])
		get_seqs(seal, values[15]);
	if (!nulls[16])
		get_row_hashes(seal, values[16]);
	return true;
}

void
tr_seals_end(TrRows *rows)
{
	tr_rows_end(rows);
}

void
tr_seal_empty(int64 segment, int64 number)
{
	static TrSql sql = {
		.text = "UPDATE token_rotation.audit_seal SET seqs = NULL, row_hashes = NULL"
				" WHERE segment OPERATOR(pg_catalog.=) $1 AND seal OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	Datum values[2] = {Int64GetDatum(segment), Int64GetDatum(number)};

	PG_TRY();
	{
		emptying = true;
		tr_sql_run(&sql, values, NULL);
	}
	PG_FINALLY();
	{
		emptying = false;
	}
	PG_END_TRY();
}

/*
 * Is a seal of a restored segment too late, because its rows have been sealed
 * here?  What is known of a segment stays so while the lock does: while a session
 * restores, nobody seals.
 */
static bool
is_late(int64 segment, uint32 lock)
{
	static TrSql sql = {
		.text = "SELECT FROM token_rotation.audit_seal"
				" WHERE covers IS DISTINCT FROM segment"
				" AND segment OPERATOR(pg_catalog.=) $1 AND covers OPERATOR(pg_catalog.=) $2"
				" LIMIT 1",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	static uint32 known = 0; /* under which lock */
	static int64 in_time;
	Datum values[2] = {Int64GetDatum(tr_catalog()->segment), Int64GetDatum(segment)};
	TrSection section;

	bool late;

	if (known == lock && in_time == segment)
		return false;
	tr_section_begin(&section);
	late = tr_sql_run(&sql, values, NULL) > 0;
	tr_section_end(&section);
	known = late ? 0 : lock;
	in_time = segment;
	return late;
}

/*
 * A superuser's COPY brings a seal.
 */
static void
accept_restored(const TriggerData *trigger)
{
	bool isnull;
	int64 segment = DatumGetInt64(
		heap_getattr(trigger->tg_trigtuple, 1, RelationGetDescr(trigger->tg_relation), &isnull));

	if (is_late(segment, tr_seal_lock_restoring()))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the rows that these seals cover have been sealed again"),
						errdetail("They were restored before, in another session."),
						errhint("Restore token_rotation.audit and token_rotation.audit_seal "
								"together.")));
}

PG_FUNCTION_INFO_V1(tr_seal_guard);

/*
 * Trigger on audit_seal: BEFORE INSERT per row, BEFORE UPDATE, DELETE, TRUNCATE
 * per statement.
 */
Datum
tr_seal_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool insert;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tr_seal_guard must be called as a trigger")));
	insert = TRIGGER_FIRED_BY_INSERT(trigger->tg_event);
	if (insert && !writing && tr_is_restore())
		accept_restored(trigger);
	else if (insert ? !writing : !emptying)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("the seals of the audit trail are made by the extension only"),
						errdetail("They show whether the trail is what it was."),
						errhint("Use tr_audit_verify() to check them, and tr_audit_prune() for "
								"retention.")));
	return PointerGetDatum(insert ? trigger->tg_trigtuple : NULL);
}
