/*
 * seal.c
 *	  Sealing the audit trail: see seal.h.
 *
 * Which rows does a seal cover?  Those whose top-level transaction a snapshot
 * shows that is taken now, and the snapshot of the seal before does not; the
 * snapshot is stored with the seal.  So every committed row is in one seal, no
 * row slips into an old one, a transaction that is held open for days delays
 * only its own rows, and what happened to one token is in its true order: who
 * changes it second commits second.  Within a seal rows are in order of seq.
 *
 * Where more rows are waiting than one transaction should handle, seals that
 * are not complete follow each other under the same snapshot.
 *
 * Transactions are compared by number, which means something within one
 * cluster only.  Therefore each row names its segment: the installation that
 * wrote it, by the clock in microseconds when it was made.  The segment goes
 * along with a copy of the database directory, with CREATE DATABASE TEMPLATE and
 * pg_upgrade, where transaction numbers go on, too; a restore from a dump makes
 * a new one.  A seal, too, names the segment that it was made in, and is
 * numbered within it.  For verification a seal keeps the list of its rows and
 * their hashes, so that nobody has to compare transaction numbers to know what
 * it covers.
 *
 * After a restore there are rows of other segments, with their seals.  The first
 * seal that is made here names their head, so that it is vouched for, too.  Rows
 * that were not sealed yet when the dump was made (those that the last seal of
 * their segment does not show; all where it has none) are covered by seals of
 * this segment without a snapshot.  These come first, once for each other
 * segment; a complete one says that it is done, and rows that turn up later have
 * no place.  Rows and seals of a dump come in transactions of their own, so nothing
 * is sealed while the session that restores them is there (frame/seal_lock.h).
 *
 * A crash leaves a seal or none, and no snapshot is stored that shows more than
 * survives it: the seal's own transaction has a higher number than all that its
 * snapshot knows of, and comes after their commits in WAL.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/catalog.h"
#include "frame/seal_lock.h"
#include "frame/settings.h"
#include "frame/sql.h"
#include "frame/stop_point.h"
#include "frame/verdict.h"
#include "state/seal.h"
#include "state/trail.h"
#include "verbs/seal.h"

#define SEAL_FIELDS 14

/*
 * Set a field to NULL or a number; to NULL or a hash.
 */
static void
set_int64(TrField *field, bool present, int64 value)
{
	if (present)
		tr_field_int64(field, value);
	else
		tr_field_null(field);
}

static void
set_hash(TrField *field, bool present, const uint8 hash[TR_HASH_BYTES])
{
	if (present)
		tr_field_bytes(field, hash, TR_HASH_BYTES);
	else
		tr_field_null(field);
}

void
tr_seal_hash(const TrSeal *seal, uint8 hash[TR_HASH_BYTES])
{
	TrField fields[SEAL_FIELDS];
	bool any = seal->rows > 0;

	set_int64(&fields[0], true, seal->segment);
	set_int64(&fields[1], true, seal->number);
	set_int64(&fields[2], true, seal->version);
	set_int64(&fields[3], true, seal->at);
	set_hash(&fields[4], seal->has_previous, seal->previous);
	set_hash(&fields[5], seal->has_restored, seal->restored);
	set_int64(&fields[6], seal->covers.known, seal->covers.id);
	tr_field_null(&fields[7]);
	if (seal->snapshot != NULL)
		tr_field_bytes(&fields[7], seal->snapshot, strlen(seal->snapshot));
	set_int64(&fields[8], true, seal->complete ? 1 : 0);
	set_int64(&fields[9], true, seal->rows);
	set_int64(&fields[10], any, seal->first_seq);
	set_int64(&fields[11], any, seal->last_seq);
	set_int64(&fields[12], any, seal->newest_at);
	set_hash(&fields[13], true, seal->list_hash);
	if (!tr_chain_hash(TR_CHAINED_SEAL, fields, SEAL_FIELDS, hash))
		tr_raise_crypto();
}

void
tr_seal_list_hash(const TrSeal *seal, uint8 hash[TR_HASH_BYTES])
{
	if (!tr_chain_list_hash(seal->seqs, seal->row_hashes, seal->listed, hash))
		tr_raise_crypto();
}

TrListFault
tr_seal_check_list(const TrSeal *seal, TrTrail *trail, int64 *checked)
{
	uint8 hash[TR_HASH_BYTES];
	TimestampTz at;

	*checked = 0;
	if (seal->listed != seal->rows || seal->hashed != seal->rows)
		return TR_LIST_CHANGED;
	tr_seal_list_hash(seal, hash);
	if (memcmp(hash, seal->list_hash, TR_HASH_BYTES) != 0)
		return TR_LIST_CHANGED;
	for (; *checked < seal->rows; (*checked)++)
	{
		if (!tr_trail_hash(trail, seal->seqs[*checked], hash, &at))
			return TR_LIST_ROW_MISSING;
		if (memcmp(hash, seal->row_hashes + *checked * TR_HASH_BYTES, TR_HASH_BYTES) != 0)
			return TR_LIST_ROW_CHANGED;
	}
	return TR_LIST_GOOD;
}

/*
 * The snapshot of now, as a pg_snapshot's text.  This transaction has no number
 * yet, so it is not taken for one that is over.
 */
static char *
snapshot_of_now(void)
{
	static TrSql sql = {
		.text = "SELECT pg_catalog.pg_current_snapshot()::text",
	};
	bool isnull;

	tr_sql_run(&sql, NULL, NULL);
	return TextDatumGetCString(tr_sql_value(0, 1, &isnull));
}

/*
 * Read a stored snapshot.
 */
static TrXids *
read_snapshot(const char *text)
{
	TrXids *xids = palloc(sizeof(TrXids));
	size_t room = strlen(text) / 2;

	if (!tr_xids_parse(text, palloc(room * sizeof(uint64)), room, xids))
		elog(ERROR, "a seal has an unreadable snapshot");
	return xids;
}

/*
 * What the newest complete seal of a segment shows; NULL: there is none.
 */
static const TrXids *
shown_before(int64 segment)
{
	TrSeal seal;

	if (!tr_seal_newest_complete(segment, &seal) || seal.snapshot == NULL)
		return NULL;
	return read_snapshot(seal.snapshot);
}

/*
 * Find rows of one segment, and have the seal say so: those that the snapshot
 * shows, NULL for all, and the segment's last complete seal does not, of a seq
 * above that.  Returns how many.
 */
static int
pick_segment(TrSeal *seal, TrSegment covers, const char *snapshot, int64 above, int64 *seqs,
			 int max, bool *more)
{
	TrPick pick = {.segment = covers, .above = above};

	if (covers.known)
		pick.after = shown_before(covers.id);
	if (snapshot != NULL)
		pick.upto = read_snapshot(snapshot);
	seal->covers = covers;
	seal->snapshot = snapshot;
	return tr_trail_pick(&pick, seqs, max, more);
}

/*
 * Find rows for a new seal: first what was restored and is not sealed.
 */
static int
pick_rows(TrSeal *seal, int64 *seqs, int max, bool *more)
{
	TrSegment own = {.known = true, .id = seal->segment};
	ListCell *cell;

	foreach (cell, tr_trail_other_segments(seal->segment))
	{
		TrSegment *other = lfirst(cell);
		int count;

		if (tr_seal_closed(*other))
			continue;
		count = pick_segment(seal, *other, NULL, PG_INT64_MIN, seqs, max, more);
		if (count > 0)
			return count;
	}
	return pick_segment(seal, own, snapshot_of_now(), PG_INT64_MIN, seqs, max, more);
}

/*
 * Hash the rows and put them into the seal.
 */
static void
list_rows(TrSeal *seal, int64 *seqs, int count)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TrTrail trail;
	int i;

	seal->rows = seal->listed = seal->hashed = count;
	seal->seqs = seqs;
	seal->row_hashes = palloc(Max(count, 1) * TR_HASH_BYTES);
	seal->newest_at = DT_NOBEGIN;
	tr_trail_open(&trail, snapshot);
	for (i = 0; i < count; i++)
	{
		TimestampTz at;

		if (!tr_trail_hash(&trail, seqs[i], seal->row_hashes + i * TR_HASH_BYTES, &at))
			elog(ERROR, "a row of the audit trail has vanished");
		seal->newest_at = Max(seal->newest_at, at);
	}
	tr_trail_close(&trail);
	UnregisterSnapshot(snapshot);
	if (count > 0)
	{
		seal->first_seq = seqs[0];
		seal->last_seq = seqs[count - 1];
	}
	tr_seal_list_hash(seal, seal->list_hash);
}

/*
 * Begin a seal that follows the last one of this segment, if there is one.
 */
static void
begin(TrSeal *seal, const TrSeal *last)
{
	memset(seal, 0, sizeof(*seal));
	seal->version = TR_CHAIN_VERSION;
	seal->segment = tr_catalog()->segment;
	seal->number = 1;
	seal->at = GetCurrentTimestamp();
	if (last == NULL)
		return;
	seal->number = last->number + 1;
	seal->has_previous = true;
	memcpy(seal->previous, last->hash, TR_HASH_BYTES);
}

int
tr_seal_run(int max, bool *more, TimestampTz *next)
{
	int64 pause = tr_worker_nap * INT64CONST(1000) / 2;
	TimestampTz now = GetCurrentTimestamp();
	TrSeal last;
	TrSeal seal;
	bool follows;
	int64 *seqs;
	int count;

	*more = false;
	*next = TR_FOREVER;
	/* who writes is missed loudly by whoever has something to tell */
	if (!OidIsValid(tr_catalog()->worker) || !tr_seal_lock_try())
		return 0;
	follows = tr_seal_newest(tr_catalog()->segment, &last);
	/* not one for each visit; but a clock that was set back stops nothing */
	if (follows && last.complete && last.at <= now && now < last.at + pause)
	{
		*next = last.at + pause;
		return 0;
	}

	begin(&seal, follows ? &last : NULL);
	seqs = palloc(max * sizeof(int64));
	if (follows && !last.complete)
		count = pick_segment(&seal, last.covers, last.snapshot, last.last_seq, seqs, max, more);
	else
		count = pick_rows(&seal, seqs, max, more);
	/* nothing new is no seal; nothing left of what was begun ends it */
	if (count == 0 && (!follows || last.complete))
		return 0;
	seal.complete = !*more;
	seal.has_restored = tr_seal_unnamed(seal.segment, seal.restored);
	list_rows(&seal, seqs, count);
	tr_seal_hash(&seal, seal.hash);
	tr_seal_write(&seal);
	TR_STOP_POINT("seal_written");
	return count;
}

TimestampTz
tr_seal_waiting_since(void)
{
	int64 segment = tr_catalog()->segment;
	TrSeal last;
	TimestampTz oldest;

	if (!tr_seal_newest_complete(segment, &last) || last.snapshot == NULL)
		return tr_trail_oldest(segment, NULL);
	oldest = tr_trail_oldest(segment, read_snapshot(last.snapshot));
	/* what was written long before its commit could not be sealed then */
	return oldest == TR_FOREVER || last.at > GetCurrentTimestamp() ? oldest : Max(oldest, last.at);
}
