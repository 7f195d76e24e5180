/*
 * stats.c
 *	  Cumulative counters in shared memory: see stats.h.
 *
 * A hash table by database and policy, under one LWLock.  An entry has every
 * TrStat, several times: processes count in different stripes, so that those
 * who count at the same moment mostly write to different cache lines.  Who
 * reads adds them up.
 *
 * The lock is for finding, making and removing entries.  Counting needs none:
 * an entry does not move, and is removed only when its database is gone, so a
 * backend keeps the addresses that it has found, the last ones by name.
 *
 * What waits for the commit is a list in the transaction's memory, with one
 * item for each nest level, entry and TrStat, the deepest level in front.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "frame/compat.h"
#include "frame/stat.h"
#include "frame/visits.h"
#include "state/stats.h"

/* How many entries there are, and how many of them policies may take. */
#define ENTRIES 2048
#define POLICIES 1024

/* A power of 2. */
#define STRIPES 4

/* Addresses that a backend keeps. */
#define KEPT 32

typedef struct Key
{
	Oid database;
	char policy[NAMEDATALEN]; /* "": none; zero to its end */
} Key;

struct TrCounters
{
	Key key;
	TimestampTz reset_at; /* of the entry without a policy; under the lock */
	pg_atomic_uint64 stripes[STRIPES][TR_STAT_COUNT];
};

typedef struct Header
{
	int policies;				/* entries that have one; under the lock */
	pg_atomic_uint64 uncounted; /* for want of an entry */
} Header;

/* One that waits for the commit. */
typedef struct Pending
{
	struct Pending *next;
	int level; /* transaction nest level that it belongs to */
	TrCounters *counters;
	TrStat stat;
	uint64 count;
} Pending;

static Header *header = NULL;
static HTAB *table = NULL;
static LWLock *lock = NULL;

static Pending *pending = NULL;

/*
 * This backend's addresses, each in a place that follows from the name; the
 * first one without a policy.
 */
static struct
{
	char policy[NAMEDATALEN];
	TrCounters *counters; /* NULL: the place is free */
} kept[KEPT];

/* The place that was asked for last. */
static int last_place = 0;

Size
tr_stats_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(Header)), hash_estimate_size(ENTRIES, sizeof(TrCounters)));
}

void
tr_stats_shmem_init(void)
{
	HASHCTL control = {.keysize = sizeof(Key), .entrysize = sizeof(TrCounters)};
	bool found;

	lock = &GetNamedLWLockTranche(TR_STATS_TRANCHE)->lock;
	header = ShmemInitStruct("token_rotation statistics", sizeof(Header), &found);
	table = ShmemInitHash("token_rotation counters", ENTRIES, ENTRIES, &control,
						  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	if (found)
		return;
	header->policies = 0;
	pg_atomic_init_u64(&header->uncounted, 0);
}

/*
 * Does it belong to a policy of its own?
 */
static bool
is_named(const Key *key)
{
	return key->policy[0] != '\0' && strcmp(key->policy, TR_STATS_OTHER) != 0;
}

/*
 * Is there room for another one?  Under the lock.
 */
static bool
has_room(const Key *key)
{
	return hash_get_num_entries(table) < ENTRIES && (!is_named(key) || header->policies < POLICIES);
}

/*
 * A new entry, or NULL where there is no room.  Under the exclusive lock.
 */
static TrCounters *
make(const Key *key)
{
	TrCounters *counters;
	int i;
	int j;

	if (!has_room(key))
		return NULL;
	counters = hash_search(table, key, HASH_ENTER_NULL, NULL);
	if (counters == NULL)
		return NULL;
	counters->reset_at = GetCurrentTimestamp();
	for (i = 0; i < STRIPES; i++)
		for (j = 0; j < TR_STAT_COUNT; j++)
			pg_atomic_init_u64(&counters->stripes[i][j], 0);
	if (is_named(key))
		header->policies++;
	return counters;
}

/*
 * The entry of a key, made if there is none; NULL: no room.
 */
static TrCounters *
find_or_make(const Key *key)
{
	TrCounters *counters;
	bool room;

	LWLockAcquire(lock, LW_SHARED);
	counters = hash_search(table, key, HASH_FIND, NULL);
	room = has_room(key);
	LWLockRelease(lock);
	if (counters != NULL || !room)
		return counters;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	counters = hash_search(table, key, HASH_FIND, NULL);
	if (counters == NULL)
		counters = make(key);
	LWLockRelease(lock);
	return counters;
}

TrCounters *
tr_stats_of_database(Oid database)
{
	Key key = {.database = database};

	return table == NULL ? NULL : find_or_make(&key);
}

/*
 * Look the counters of a policy up, and keep the address.  What has no room is
 * counted with the others, or else with what has no policy.
 */
static TrCounters *
look_up(const char *policy, size_t len, int place)
{
	Key key = {0};
	TrCounters *counters;

	/* the entry without a policy knows since when is counted, so it is there first */
	counters = tr_visits_here() == NULL ? NULL : tr_stats_of_database(MyDatabaseId);
	if (counters != NULL && len > 0)
	{
		TrCounters *own;

		key.database = MyDatabaseId;
		memcpy(key.policy, policy, len);
		own = find_or_make(&key);
		if (own == NULL)
		{
			memset(key.policy, 0, NAMEDATALEN);
			strlcpy(key.policy, TR_STATS_OTHER, NAMEDATALEN);
			own = find_or_make(&key);
		}
		counters = own != NULL ? own : counters;
	}
	memset(kept[place].policy, 0, NAMEDATALEN);
	memcpy(kept[place].policy, policy, len);
	kept[place].counters = counters;
	return counters;
}

/*
 * Does this place have the counters of this policy?
 */
static inline bool
is_kept(int place, const char *policy, size_t len)
{
	return kept[place].counters != NULL && memcmp(kept[place].policy, policy, len) == 0 &&
		   kept[place].policy[len] == '\0';
}

TrCounters *
tr_stats_of(const text *policy)
{
	const char *name = policy == NULL ? "" : VARDATA_ANY(policy);
	size_t len = policy == NULL ? 0 : VARSIZE_ANY_EXHDR(policy);

	/* no policy has such a name, but somebody may have put it into token */
	if (len >= NAMEDATALEN)
	{
		name = TR_STATS_OTHER;
		len = strlen(name);
	}
	if (is_kept(last_place, name, len))
		return kept[last_place].counters;
	last_place = len == 0 ? 0 : 1 + hash_bytes((const uint8 *) name, (int) len) % (KEPT - 1);
	if (is_kept(last_place, name, len))
		return kept[last_place].counters;
	return table == NULL ? NULL : look_up(name, len, last_place);
}

void
tr_stats_add(TrCounters *counters, TrStat stat, uint64 n)
{
	if (counters != NULL)
		pg_atomic_fetch_add_u64(&counters->stripes[MyProcPid & (STRIPES - 1)][stat], (int64) n);
	else if (header != NULL)
		pg_atomic_fetch_add_u64(&header->uncounted, (int64) n);
}

/*
 * The item of this level for these counters, or NULL.
 */
static Pending *
find_pending(Pending *first, int level, const TrCounters *counters, TrStat stat)
{
	for (; first != NULL && first->level == level; first = first->next)
		if (first->counters == counters && first->stat == stat)
			return first;
	return NULL;
}

void
tr_stats_at_commit(const text *policy, TrStat stat)
{
	TrCounters *counters = tr_stats_of(policy);
	int level = GetCurrentTransactionNestLevel();
	Pending *item = find_pending(pending, level, counters, stat);

	if (item == NULL)
	{
		item = MemoryContextAllocZero(TopTransactionContext, sizeof(Pending));
		item->level = level;
		item->counters = counters;
		item->stat = stat;
		item->next = pending;
		pending = item;
	}
	item->count++;
}

/*
 * At the end of the top-level transaction.
 */
static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
		for (; pending != NULL; pending = pending->next)
			tr_stats_add(pending->counters, pending->stat, pending->count);
	else if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		pending = NULL;
}

/*
 * At the end of a subtransaction: its items are added to its parent's, or go.
 */
static void
at_subend(SubXactEvent event, SubTransactionId self, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();
	Pending *item = pending;
	Pending *rest = pending;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (rest != NULL && rest->level >= level)
		rest = rest->next;
	pending = rest;
	while (event == SUBXACT_EVENT_COMMIT_SUB && item != rest)
	{
		Pending *next = item->next;
		Pending *same = find_pending(pending, level - 1, item->counters, item->stat);

		if (same != NULL)
			same->count += item->count;
		else
		{
			item->level = level - 1;
			item->next = pending;
			pending = item;
		}
		item = next;
	}
}

void
tr_stats_init(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subend, NULL);
}

/*
 * Add the stripes up.
 */
static void
tally_up(TrCounters *counters, TrTally *tally)
{
	int i;
	int j;

	tally->database = counters->key.database;
	memcpy(tally->policy, counters->key.policy, NAMEDATALEN);
	tally->reset_at = counters->reset_at;
	memset(tally->counts, 0, sizeof(tally->counts));
	for (i = 0; i < STRIPES; i++)
		for (j = 0; j < TR_STAT_COUNT; j++)
			tally->counts[j] += pg_atomic_read_u64(&counters->stripes[i][j]);
}

int
tr_stats_read(Oid database, TrTally *tallies, int max)
{
	HASH_SEQ_STATUS scan;
	TrCounters *counters;
	int count = 0;

	if (table == NULL)
		return 0;
	LWLockAcquire(lock, LW_SHARED);
	hash_seq_init(&scan, table);
	while ((counters = hash_seq_search(&scan)) != NULL)
	{
		if (OidIsValid(database) && counters->key.database != database)
			continue;
		if (count < max)
			tally_up(counters, &tallies[count]);
		count++;
	}
	LWLockRelease(lock);
	return count;
}

bool
tr_stats_restore(const TrTally *tally)
{
	Key key = {.database = tally->database};
	TrCounters *counters;
	int i;

	strlcpy(key.policy, tally->policy, NAMEDATALEN);
	counters = find_or_make(&key);
	if (counters == NULL)
		return false;
	counters->reset_at = tally->reset_at;
	for (i = 0; i < TR_STAT_COUNT; i++)
		pg_atomic_write_u64(&counters->stripes[0][i], tally->counts[i]);
	return true;
}

void
tr_stats_reset(void)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS scan;
	TrCounters *counters;
	int i;
	int j;

	/* so that there is one that says so */
	if (tr_stats_of(NULL) == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, table);
	while ((counters = hash_seq_search(&scan)) != NULL)
	{
		if (counters->key.database != MyDatabaseId)
			continue;
		counters->reset_at = now;
		for (i = 0; i < STRIPES; i++)
			for (j = 0; j < TR_STAT_COUNT; j++)
				pg_atomic_write_u64(&counters->stripes[i][j], 0);
	}
	LWLockRelease(lock);
}

bool
tr_stats_full(void)
{
	Key key = {.database = MyDatabaseId, .policy = TR_STATS_OTHER};
	bool full;

	if (table == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	full = hash_search(table, &key, HASH_FIND, NULL) != NULL;
	LWLockRelease(lock);
	return full || pg_atomic_read_u64(&header->uncounted) > 0;
}

void
tr_stats_forget(Oid database)
{
	HASH_SEQ_STATUS scan;
	TrCounters *counters;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, table);
	while ((counters = hash_seq_search(&scan)) != NULL)
	{
		Key key = counters->key;

		if (key.database != database)
			continue;
		if (is_named(&key))
			header->policies--;
		/* the one that a scan is at may be removed */
		(void) hash_search(table, &key, HASH_REMOVE, NULL);
	}
	LWLockRelease(lock);
}
