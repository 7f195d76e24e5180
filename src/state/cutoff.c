/*
 * cutoff.c
 *	  Weighing cutoffs and blocks: see cutoff.h.
 *
 * Each backend keeps a copy of the rows of both tables.  In shared memory each
 * database has a generation and a count of transactions in doubt:
 *
 * 1. A trigger on both tables marks the transaction that changes them, whoever
 *	  changes them and by what means.
 * 2. At pre-commit a marked transaction raises the count, then the generation.
 * 3. After its commit is visible, and before it is acknowledged, or after its
 *	  abort, it lowers the count.
 * 4. A reader uses his copy while the generation is the one that it was made
 *	  for.  Otherwise he makes a new one: he reads the generation, then the count,
 *	  which must be 0, then takes a snapshot.  Who raised that generation was in
 *	  doubt before he did, and is visible since he is not any more.  While the
 *	  count is above 0 he reads the tables.
 *
 * So a validation that starts after a cutoff was acknowledged finds a new
 * generation, and reads.  A marked transaction itself, and a standby, where no
 * trigger fires, always read the tables.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/rows.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/visits.h"
#include "frame/xact.h"
#include "state/cutoff.h"

/* Generations begin at 1. */
#define NO_GENERATION 0

/* More rows than this are not copied; they are then read by index. */
#define MAX_COPY 4096

/* Columns of cutoff and of blocked_client in their order. */
enum
{
	CUT_KIND,
	CUT_SUBJECT,
	CUT_OWNER,
	CUT_BEFORE,
};
enum
{
	BLOCK_CLIENT_ID,
	BLOCK_OWNER,
};

/* The kinds of cutoffs, and blocks as one more. */
typedef enum Kind
{
	KIND_ALL,
	KIND_CLIENT,
	KIND_POLICY,
	KIND_BLOCK,
} Kind;

static const char *const kind_texts[] = {"all", "client", "policy"};

/* One row of either table. */
typedef struct Rule
{
	Kind kind;
	text *subject;
	text *owner;
	TimestampTz before;
} Rule;

/* This backend's copy, sorted by kind and subject. */
static struct
{
	MemoryContext context; /* holds rules and their texts; NULL: no copy */
	uint64 generation;	   /* for which it was made */
	Oid cutoff;			   /* the tables that were copied: CREATE EXTENSION makes new ones */
	Oid blocked;
	bool too_many; /* there are more rows than are copied */
	int count;
	int room;
	Rule *rules;
} copy;

/* This transaction changed one of the tables. */
static bool marked = false;

/* This transaction is counted as in doubt. */
static bool in_doubt = false;

/*
 * Are two texts the same bytes, or which comes first?
 */
static int
compare_text(const text *a, const text *b)
{
	size_t a_len = VARSIZE_ANY_EXHDR(a);
	size_t b_len = VARSIZE_ANY_EXHDR(b);
	int order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(a_len, b_len));

	return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/*
 * The order of the copy.
 */
static int
compare_rules(const void *a, const void *b)
{
	const Rule *x = a;
	const Rule *y = b;

	return x->kind != y->kind ? (int) x->kind - (int) y->kind
							  : compare_text(x->subject, y->subject);
}

/*
 * Let a rule of the right kind and subject speak to a token, if it is of its
 * realm or of none.
 */
static void
apply_rule(const Rule *rule, TrToken *token)
{
	if (VARSIZE_ANY_EXHDR(rule->owner) != 0 && compare_text(rule->owner, token->owner) != 0)
		return;
	if (rule->kind == KIND_BLOCK)
		token->life.blocked = true;
	else
		token->life.cutoff = Max(token->life.cutoff, rule->before);
}

/*
 * Apply the rules of the copy with this kind and subject.
 */
static void
apply_copied(Kind kind, text *subject, TrToken *token)
{
	Rule key = {.kind = kind, .subject = subject};
	int low = 0;
	int high = copy.count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (compare_rules(&copy.rules[middle], &key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < copy.count && compare_rules(&copy.rules[low], &key) == 0; low++)
		apply_rule(&copy.rules[low], token);
}

/*
 * Make a rule of the row in a slot; its texts point into the slot.
 */
static void
read_rule(TupleTableSlot *slot, bool of_blocks, Kind kind, Rule *rule)
{
	int subject = of_blocks ? BLOCK_CLIENT_ID : CUT_SUBJECT;
	int owner = of_blocks ? BLOCK_OWNER : CUT_OWNER;
	bool isnull;

	rule->kind = kind;
	rule->subject = DatumGetTextPP(slot_getattr(slot, subject + 1, &isnull));
	rule->owner = DatumGetTextPP(slot_getattr(slot, owner + 1, &isnull));
	rule->before =
		of_blocks ? TR_NEVER : DatumGetTimestampTz(slot_getattr(slot, CUT_BEFORE + 1, &isnull));
}

/*
 * Apply the rows of a table with this kind and subject, by its index.
 */
static void
apply_stored(TrRows *rows, Kind kind, text *subject, TrToken *token)
{
	bool of_blocks = kind == KIND_BLOCK;
	ScanKeyData keys[2];
	union
	{
		struct varlena header;
		char bytes[VARHDRSZ + 8];
	} kind_text;
	int nkeys = 0;

	if (!of_blocks)
	{
		SET_VARSIZE(&kind_text, VARHDRSZ + strlen(kind_texts[kind]));
		memcpy(VARDATA(&kind_text), kind_texts[kind], strlen(kind_texts[kind]));
		tr_key_text(&keys[nkeys++], CUT_KIND + 1, PointerGetDatum(&kind_text));
	}
	tr_key_text(&keys[nkeys], nkeys + 1, PointerGetDatum(subject));
	tr_rows_seek(rows, keys, nkeys + 1);
	while (tr_rows_next(rows))
	{
		Rule rule;

		read_rule(rows->slot, of_blocks, kind, &rule);
		apply_rule(&rule, token);
	}
}

/*
 * Weigh a token by the tables themselves.
 */
static void
apply_tables(TrToken *token, text *everything, Snapshot snapshot)
{
	const TrCatalog *catalog = tr_catalog();
	TrRows rows;

	tr_rows_begin_at(&rows, catalog->cutoff, catalog->cutoff_pkey, 2, snapshot);
	apply_stored(&rows, KIND_ALL, everything, token);
	apply_stored(&rows, KIND_CLIENT, token->client_id, token);
	apply_stored(&rows, KIND_POLICY, token->policy, token);
	tr_rows_end(&rows);
	tr_rows_begin_at(&rows, catalog->blocked, catalog->blocked_pkey, 1, snapshot);
	apply_stored(&rows, KIND_BLOCK, token->client_id, token);
	tr_rows_end(&rows);
}

/*
 * The kind of a row of cutoff.
 */
static Kind
kind_of(TupleTableSlot *slot)
{
	bool isnull;
	text *value = DatumGetTextPP(slot_getattr(slot, CUT_KIND + 1, &isnull));
	Kind kind;

	for (kind = KIND_ALL; kind < KIND_POLICY; kind++)
		if (VARSIZE_ANY_EXHDR(value) == strlen(kind_texts[kind]) &&
			memcmp(VARDATA_ANY(value), kind_texts[kind], strlen(kind_texts[kind])) == 0)
			break;
	return kind;
}

/*
 * Copy the rows of one table, in the memory context of the copy.
 */
static void
copy_table(Oid relation, bool of_blocks, Snapshot snapshot)
{
	Relation heap = table_open(relation, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(heap, NULL);
	TableScanDesc scan = table_beginscan(heap, snapshot, 0, NULL);

	while (!copy.too_many && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Rule rule;

		if (copy.count == MAX_COPY)
		{
			copy.too_many = true;
			break;
		}
		if (copy.count == copy.room)
			copy.rules = repalloc(copy.rules, sizeof(Rule) * (copy.room *= 2));
		read_rule(slot, of_blocks, of_blocks ? KIND_BLOCK : kind_of(slot), &rule);
		rule.subject = (text *) PG_DETOAST_DATUM_COPY(PointerGetDatum(rule.subject));
		rule.owner = (text *) PG_DETOAST_DATUM_COPY(PointerGetDatum(rule.owner));
		copy.rules[copy.count++] = rule;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(heap, AccessShareLock);
}

/*
 * One of the tables was rewritten or dropped: no trigger tells of that.
 */
static void
forget_copy(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == copy.cutoff || relation == copy.blocked)
		copy.generation = NO_GENERATION;
}

/*
 * Make a new copy for a generation that was read before.
 */
static void
make_copy(uint64 generation)
{
	static bool registered = false;
	const TrCatalog *catalog = tr_catalog();
	Snapshot snapshot;
	MemoryContext fresh;
	MemoryContext outer;

	if (!registered)
		CacheRegisterRelcacheCallback(forget_copy, (Datum) 0);
	registered = true;

	/* the locks first: what their holder did before must be seen */
	LockRelationOid(catalog->cutoff, AccessShareLock);
	LockRelationOid(catalog->blocked, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());

	if (copy.context != NULL)
		MemoryContextDelete(copy.context);
	memset(&copy, 0, sizeof(copy));
	copy.cutoff = catalog->cutoff;
	copy.blocked = catalog->blocked;

	/* its parent is the current context until it is whole, so that an error frees it */
	fresh =
		AllocSetContextCreate(CurrentMemoryContext, "token_rotation cutoffs", ALLOCSET_SMALL_SIZES);
	outer = MemoryContextSwitchTo(fresh);
	copy.room = 16;
	copy.rules = palloc(sizeof(Rule) * copy.room);
	copy_table(catalog->cutoff, false, snapshot);
	copy_table(catalog->blocked, true, snapshot);
	qsort(copy.rules, copy.count, sizeof(Rule), compare_rules);
	MemoryContextSwitchTo(outer);
	UnregisterSnapshot(snapshot);

	MemoryContextSetParent(fresh, TopMemoryContext);
	copy.context = fresh;
	copy.generation = generation;
}

/*
 * May the copy be used?  Makes a new one where that is possible.
 */
static bool
copy_is_current(void)
{
	TrDatabase *here = marked || RecoveryInProgress() ? NULL : tr_visits_here();
	const TrCatalog *catalog = tr_catalog();
	uint64 generation;

	if (here == NULL)
		return false;
	generation = pg_atomic_read_u64(&here->cutoff_generation);
	if (copy.context == NULL || copy.generation != generation || copy.cutoff != catalog->cutoff ||
		copy.blocked != catalog->blocked)
	{
		/* who raised this generation is either still in doubt or visible */
		pg_memory_barrier();
		if (pg_atomic_read_u32(&here->cutoffs_in_doubt) != 0)
			return false;
		TR_STOP_POINT("cutoff_generation_read");
		make_copy(generation);
	}
	return !copy.too_many;
}

void
tr_cutoff_apply(TrToken *token, Snapshot snapshot)
{
	union
	{
		struct varlena header;
		char bytes[VARHDRSZ];
	} everything;

	token->life.cutoff = tr_not_before();
	token->life.blocked = false;
	SET_VARSIZE(&everything, VARHDRSZ);
	if (!copy_is_current())
		apply_tables(token, (text *) &everything, snapshot);
	else if (copy.count > 0)
	{
		apply_copied(KIND_ALL, (text *) &everything, token);
		apply_copied(KIND_CLIENT, token->client_id, token);
		apply_copied(KIND_POLICY, token->policy, token);
		apply_copied(KIND_BLOCK, token->client_id, token);
	}
}

/*
 * Steps 2 and 3 of the protocol.
 */
static void
at_end(XactEvent event, void *arg)
{
	TrDatabase *here = marked ? tr_visits_here() : NULL;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (here != NULL)
			{
				pg_atomic_fetch_add_u32(&here->cutoffs_in_doubt, 1);
				in_doubt = true;
				pg_atomic_fetch_add_u64(&here->cutoff_generation, 1);
			}
			break;

		case XACT_EVENT_COMMIT:
			if (in_doubt)
				TR_STOP_POINT("cutoff_in_doubt");
			/* FALLTHROUGH */

		case XACT_EVENT_ABORT:
			if (in_doubt)
				pg_atomic_fetch_sub_u32(&here->cutoffs_in_doubt, 1);
			in_doubt = false;
			marked = false;
			break;

		default:
			break;
	}
}

void
tr_cutoff_apply_now(TrToken *token)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());

	tr_cutoff_apply(token, snapshot);
	UnregisterSnapshot(snapshot);
}

void
tr_cutoff_init(void)
{
	RegisterXactCallback(at_end, NULL);
}

PG_FUNCTION_INFO_V1(tr_cutoff_guard);

/*
 * Trigger on cutoff and blocked_client, BEFORE any change, per statement.
 */
Datum
tr_cutoff_guard(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tr_cutoff_guard must be called as a trigger")));
	tr_xact_writes("a change of cutoffs or blocks");
	/* a mark needs an entry to raise: without one nobody has a copy */
	marked = true;
	return PointerGetDatum(NULL);
}
