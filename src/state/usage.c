/*
 * usage.c
 *	  Acceptances counted in shared memory: see usage.h.
 *
 * Every validation comes here, so the table is cut into partitions by a hash of
 * database and token, and each partition has an LWLock of its own that guards
 * all of it.  No two are held at once, nothing is called under them, and the
 * common case is one lock and two cache lines.
 *
 * A partition is a hash table with chained buckets; the head of bucket number i
 * lies in entry number i, which need not be in that bucket.  Entries never move,
 * so a ticket is the number of an entry: it stays good from peek to done,
 * because only the worker that peeked, the one worker in that database, removes
 * entries of a database that exists.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "frame/settings.h"
#include "frame/visits.h"
#include "state/usage.h"

#define NO_ENTRY (-1)

typedef struct UsageEntry
{
	TrUsage usage; /* count 0: the entry is free */
	int32 head;	   /* first entry of the bucket with this entry's number */
	int32 next;	   /* in the same bucket, or in the list of free ones */
	bool asked;	   /* the worker was asked to store this first use */
} UsageEntry;

StaticAssertDecl(sizeof(UsageEntry) <= 64, "a usage entry fits into a cache line");

typedef struct UsagePartition
{
	int32 free;
	int32 used; /* number of entries */
} UsagePartition;

typedef struct UsageTable
{
	UsagePartition partitions[TR_USAGE_PARTITIONS];
	UsageEntry entries[FLEXIBLE_ARRAY_MEMBER]; /* those of the first partition first */
} UsageTable;

static UsageTable *table = NULL;
static LWLockPadded *locks = NULL;

/*
 * How many entries a partition has.
 */
static inline int32
partition_size(void)
{
	return tr_usage_size / TR_USAGE_PARTITIONS;
}

Size
tr_usage_shmem_size(void)
{
	Size entries = mul_size(partition_size(), TR_USAGE_PARTITIONS);

	return MAXALIGN(add_size(offsetof(UsageTable, entries), mul_size(entries, sizeof(UsageEntry))));
}

void
tr_usage_shmem_init(void)
{
	bool found;
	int32 i;

	locks = GetNamedLWLockTranche(TR_USAGE_TRANCHE);
	table = ShmemInitStruct("token_rotation usage", tr_usage_shmem_size(), &found);
	if (found)
		return;

	memset(table, 0, tr_usage_shmem_size());
	for (i = 0; i < partition_size() * TR_USAGE_PARTITIONS; i++)
	{
		table->entries[i].head = NO_ENTRY;
		table->entries[i].next = (i + 1) % partition_size() != 0 ? i + 1 : NO_ENTRY;
	}
	for (i = 0; i < TR_USAGE_PARTITIONS; i++)
		table->partitions[i].free = i * partition_size();
}

/*
 * Is this part of a partition in use?  Under its lock.
 */
static inline bool
crowded(int partition, int quarters)
{
	return table->partitions[partition].used >= partition_size() / 4 * quarters;
}

/*
 * Where a token belongs: its partition, and the number of its bucket, which is
 * one within that partition.  Token ids are random; the hash is there for ids
 * that somebody has made up.
 */
static inline int
place_of(Oid database, const uint8 *token, int32 *bucket)
{
	uint32 hash = hash_combine(hash_bytes(token, TR_ID_BYTES), murmurhash32(database));
	int partition = (int) (hash % TR_USAGE_PARTITIONS);

	*bucket = partition * partition_size() +
			  (int32) ((hash / TR_USAGE_PARTITIONS) % (uint32) partition_size());
	return partition;
}

/*
 * The entry of a token, or NULL.  Under the partition's lock.
 */
static inline UsageEntry *
find(int32 bucket, const uint8 *token)
{
	int32 i;

	for (i = table->entries[bucket].head; i != NO_ENTRY; i = table->entries[i].next)
	{
		UsageEntry *entry = &table->entries[i];

		if (memcmp(entry->usage.token, token, TR_ID_BYTES) == 0 &&
			entry->usage.database == MyDatabaseId)
			return entry;
	}
	return NULL;
}

/*
 * A new entry, or NULL when the partition is full.  Under its exclusive lock.
 */
static UsageEntry *
make(int partition, int32 bucket, const TrUsage *usage)
{
	int32 i = table->partitions[partition].free;
	UsageEntry *entry;

	if (i == NO_ENTRY)
		return NULL;
	entry = &table->entries[i];
	table->partitions[partition].free = entry->next;
	table->partitions[partition].used++;
	entry->next = table->entries[bucket].head;
	table->entries[bucket].head = i;

	entry->usage = *usage;
	entry->usage.database = MyDatabaseId;
	entry->usage.count = 0;
	entry->asked = false;
	return entry;
}

/*
 * Free an entry.  Under its partition's exclusive lock.
 */
static void
remove_entry(int partition, int32 i)
{
	UsageEntry *entry = &table->entries[i];
	int32 bucket;
	int32 *link;

	place_of(entry->usage.database, entry->usage.token, &bucket);
	link = &table->entries[bucket].head;
	while (*link != i)
		link = &table->entries[*link].next;
	*link = entry->next;

	entry->usage.count = 0;
	entry->next = table->partitions[partition].free;
	table->partitions[partition].free = i;
	table->partitions[partition].used--;
}

void
tr_usage_add(const TrUsage *usage, bool first)
{
	TrDatabase *here = tr_visits_here();
	UsageEntry *entry;
	int partition;
	int32 bucket;
	bool ask = false;

	/* a standby cannot store what would be counted */
	if (table == NULL || here == NULL || RecoveryInProgress())
		return;
	partition = place_of(MyDatabaseId, usage->token, &bucket);

	LWLockAcquire(&locks[partition].lock, LW_EXCLUSIVE);
	entry = find(bucket, usage->token);
	if (entry == NULL)
	{
		entry = make(partition, bucket, usage);
		ask = crowded(partition, 3);
	}
	if (entry != NULL)
	{
		entry->usage.count += usage->count;
		/* what waited for the end of a transaction may be older than what came meanwhile */
		entry->usage.last_at = Max(entry->usage.last_at, usage->last_at);
		ask |= first && !entry->asked;
		entry->asked |= first;
	}
	LWLockRelease(&locks[partition].lock);

	if (entry == NULL)
		pg_atomic_fetch_add_u64(&here->lost_usage, (int64) usage->count);
	if (ask)
		tr_visits_ask(usage->last_at);
}

bool
tr_usage_seen(const uint8 token[TR_ID_BYTES])
{
	int partition;
	int32 bucket;
	bool seen;

	if (table == NULL)
		return false;
	partition = place_of(MyDatabaseId, token, &bucket);
	LWLockAcquire(&locks[partition].lock, LW_SHARED);
	seen = find(bucket, token) != NULL;
	LWLockRelease(&locks[partition].lock);
	return seen;
}

/*
 * Copy entries of one partition: those that were asked for, those that have
 * been there since that moment, and all where room is getting scarce.
 */
static int
peek_partition(int partition, TimestampTz since, TrUsage *usage, int *tickets, int max)
{
	int32 i = partition * partition_size();
	int32 end = i + partition_size();
	int count = 0;
	bool all;

	LWLockAcquire(&locks[partition].lock, LW_SHARED);
	all = crowded(partition, 2);
	if (table->partitions[partition].used == 0)
		end = i;
	for (; i < end && count < max; i++)
	{
		const UsageEntry *entry = &table->entries[i];

		if (entry->usage.count == 0 || entry->usage.database != MyDatabaseId)
			continue;
		if (!all && !entry->asked && entry->usage.first_at > since)
			continue;
		usage[count] = entry->usage;
		tickets[count++] = i;
	}
	LWLockRelease(&locks[partition].lock);
	return count;
}

int
tr_usage_peek(TrUsage *usage, int *tickets, int max)
{
	int64 nap = tr_worker_nap * INT64CONST(1000);
	int64 age =
		tr_audit_validations == TR_AUDIT_ALL ? nap / 2 : Min(nap * TR_USAGE_NAPS, USECS_PER_MINUTE);
	TimestampTz since = GetCurrentTimestamp() - age;
	int count = 0;
	int i;

	/* what cannot be stored in the time there is differs from visit to visit */
	for (i = 0; i < TR_USAGE_PARTITIONS && count < max; i++)
		count += peek_partition((MyProcPid + i) % TR_USAGE_PARTITIONS, since, usage + count,
								tickets + count, max - count);
	return count;
}

void
tr_usage_done(const TrUsage *usage, const int *tickets, int count)
{
	int i;

	for (i = 0; i < count; i++)
	{
		int partition = tickets[i] / partition_size();
		UsageEntry *left = &table->entries[tickets[i]];

		LWLockAcquire(&locks[partition].lock, LW_EXCLUSIVE);
		if (left->usage.count == usage[i].count)
			remove_entry(partition, tickets[i]);
		else
		{
			left->usage.count -= usage[i].count;
			left->usage.first_at = usage[i].last_at;
			left->asked = false;
		}
		LWLockRelease(&locks[partition].lock);
	}
}

int
tr_usage_depth(int *room)
{
	int used = 0;
	int i;

	for (i = 0; i < TR_USAGE_PARTITIONS; i++)
	{
		LWLockAcquire(&locks[i].lock, LW_SHARED);
		used += table->partitions[i].used;
		LWLockRelease(&locks[i].lock);
	}
	*room = partition_size() * TR_USAGE_PARTITIONS;
	return used;
}

void
tr_usage_forget(Oid database)
{
	int partition;
	int32 i = 0;

	for (partition = 0; partition < TR_USAGE_PARTITIONS; partition++)
	{
		int32 end = i + partition_size();

		LWLockAcquire(&locks[partition].lock, LW_EXCLUSIVE);
		for (; i < end; i++)
		{
			if (table->entries[i].usage.count > 0 && table->entries[i].usage.database == database)
				remove_entry(partition, i);
		}
		LWLockRelease(&locks[partition].lock);
	}
}
