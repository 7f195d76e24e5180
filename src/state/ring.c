/*
 * ring.c
 *	  Refusals and replays on their way to the worker: see ring.h.
 *
 * Locks.  One LWLock guards the proven events, another one the junk; neither is
 * held while the other is taken, and nothing is called under them that could
 * raise an error.  Entries never move, so a ticket is the number of an entry:
 * it stays good from peek to done, because only the worker that peeked, the one
 * worker in that database, removes entries of a database that exists.
 *
 * Proven events form a queue in the order of their arrival; a slot is in the
 * queue or in the list of free ones.  Junk is a hash table of counters with
 * chained buckets; the head of bucket number i lies in entry number i, which
 * need not be in that bucket.
 *
 * Everything is lost in a crash restart.  An event that was committed by the
 * worker and not yet removed from its slot would be written twice if the worker
 * stopped just then: it holds interrupts off in between.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/hashfn.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "frame/caller.h"
#include "frame/settings.h"
#include "frame/visits.h"
#include "state/ring.h"

#define NO_ENTRY (-1)

typedef struct ProvenSlot
{
	dlist_node node; /* in queue or free */
	Oid database;
	TrEvent event;
} ProvenSlot;

/* Under the lock of proven events. */
typedef struct ProvenQueue
{
	dlist_head free;
	dlist_head queue; /* oldest first */
	int used;
	ProvenSlot slots[FLEXIBLE_ARRAY_MEMBER];
} ProvenQueue;

typedef struct JunkEntry
{
	int32 head;	 /* first entry of the bucket with this entry's number */
	int32 next;	 /* in the same bucket, or in the list of free ones */
	Oid role;	 /* junk.role's; names are looked up for new entries only */
	TrJunk junk; /* count 0: the entry is free */
} JunkEntry;

/* Under the lock of junk. */
typedef struct JunkTable
{
	int32 free;
	int used;
	JunkEntry entries[FLEXIBLE_ARRAY_MEMBER];
} JunkTable;

static ProvenQueue *proven = NULL;
static JunkTable *junks = NULL;
static LWLock *proven_lock = NULL;
static LWLock *junk_lock = NULL;

/*
 * The sizes of the two parts.
 */
static Size
proven_size(void)
{
	return MAXALIGN(
		add_size(offsetof(ProvenQueue, slots), mul_size(tr_ring_size, sizeof(ProvenSlot))));
}

static Size
junk_size(void)
{
	return MAXALIGN(
		add_size(offsetof(JunkTable, entries), mul_size(tr_ring_size, sizeof(JunkEntry))));
}

Size
tr_ring_shmem_size(void)
{
	return add_size(proven_size(), junk_size());
}

/*
 * Find or make the queue of proven events.
 */
static void
init_proven(void)
{
	bool found;
	int i;

	proven = ShmemInitStruct("token_rotation proven events", proven_size(), &found);
	if (found)
		return;
	dlist_init(&proven->free);
	dlist_init(&proven->queue);
	proven->used = 0;
	for (i = 0; i < tr_ring_size; i++)
		dlist_push_tail(&proven->free, &proven->slots[i].node);
}

/*
 * Find or make the table of junk.
 */
static void
init_junk(void)
{
	bool found;
	int i;

	junks = ShmemInitStruct("token_rotation junk", junk_size(), &found);
	if (found)
		return;
	memset(junks, 0, junk_size());
	for (i = 0; i < tr_ring_size; i++)
	{
		junks->entries[i].head = NO_ENTRY;
		junks->entries[i].next = i + 1 < tr_ring_size ? i + 1 : NO_ENTRY;
	}
	junks->free = 0;
}

void
tr_ring_shmem_init(void)
{
	LWLockPadded *locks = GetNamedLWLockTranche(TR_RING_TRANCHE);

	proven_lock = &locks[0].lock;
	junk_lock = &locks[1].lock;
	init_proven();
	init_junk();
}

/*
 * Can this process put anything?  A standby cannot write what would come out.
 */
static bool
taking(void)
{
	return proven != NULL && OidIsValid(MyDatabaseId) && !RecoveryInProgress();
}

/*
 * Is there a place among those that wait?  Not if this one is there already.
 * Under the lock.
 */
static bool
may_wait(const TrEvent *event, bool *there)
{
	int count = 0;
	dlist_iter iter;

	*there = false;
	dlist_foreach (iter, &proven->queue)
	{
		ProvenSlot *slot = dlist_container(ProvenSlot, node, iter.cur);

		if (strcmp(slot->event.event, event->event) != 0)
			continue;
		count++;
		if (memcmp(slot->event.token, event->token, TR_ID_BYTES) == 0)
		{
			*there = true;
			return false;
		}
	}
	return count < tr_ring_size / TR_RING_WAITING_SHARE;
}

/*
 * Put an event into the queue.
 */
static bool
put_event(const TrEvent *event, bool waits, bool count_loss)
{
	TrDatabase *here;
	bool there = false;
	bool put;

	if (!taking())
		return false;

	LWLockAcquire(proven_lock, LW_EXCLUSIVE);
	put = !dlist_is_empty(&proven->free) && (!waits || may_wait(event, &there));
	if (put)
	{
		ProvenSlot *slot = dlist_container(ProvenSlot, node, dlist_pop_head_node(&proven->free));

		slot->database = MyDatabaseId;
		memcpy(&slot->event, event, sizeof(TrEvent));
		dlist_push_tail(&proven->queue, &slot->node);
		proven->used++;
	}
	LWLockRelease(proven_lock);

	if (!put && !there && count_loss && (here = tr_visits_here()) != NULL)
		pg_atomic_fetch_add_u64(&here->lost_proven, 1);
	tr_visits_ask(GetCurrentTimestamp());
	return put;
}

bool
tr_ring_put(const TrEvent *event, bool count_loss)
{
	return put_event(event, false, count_loss);
}

void
tr_ring_put_waiting(const TrEvent *event)
{
	put_event(event, true, true);
}

/*
 * The bucket of a kind of junk.
 */
static int32
bucket_of(Oid database, Oid role, const char *event, const char *reason)
{
	uint32 hash = murmurhash32(database);

	hash = hash_combine(hash, murmurhash32(role));
	hash = hash_combine(hash, string_hash(event, sizeof(((TrJunk *) 0)->event)));
	hash = hash_combine(hash, string_hash(reason, sizeof(((TrJunk *) 0)->reason)));
	return (int32) (hash % (uint32) tr_ring_size);
}

/*
 * The entry of a kind of junk, or NULL.  Under the lock.
 */
static JunkEntry *
find_junk(int32 bucket, Oid role, const char *event, const char *reason)
{
	int32 i;

	for (i = junks->entries[bucket].head; i != NO_ENTRY; i = junks->entries[i].next)
	{
		JunkEntry *entry = &junks->entries[i];

		if (entry->junk.database == MyDatabaseId && entry->role == role &&
			strcmp(entry->junk.event, event) == 0 && strcmp(entry->junk.reason, reason) == 0)
			return entry;
	}
	return NULL;
}

/*
 * A new entry, or NULL when there is no room.  Under the exclusive lock.
 */
static JunkEntry *
make_junk(int32 bucket, Oid role, const char *event, const char *reason)
{
	int32 i = junks->free;
	JunkEntry *entry;

	if (i == NO_ENTRY)
		return NULL;
	entry = &junks->entries[i];
	junks->free = entry->next;
	junks->used++;
	entry->next = junks->entries[bucket].head;
	junks->entries[bucket].head = i;

	memset(&entry->junk, 0, sizeof(TrJunk));
	entry->role = role;
	entry->junk.database = MyDatabaseId;
	strlcpy(entry->junk.event, event, sizeof(entry->junk.event));
	strlcpy(entry->junk.reason, reason, sizeof(entry->junk.reason));
	return entry;
}

/*
 * Free an entry.  Under the exclusive lock.
 */
static void
remove_junk(int32 i)
{
	JunkEntry *entry = &junks->entries[i];
	int32 bucket =
		bucket_of(entry->junk.database, entry->role, entry->junk.event, entry->junk.reason);
	int32 *link = &junks->entries[bucket].head;

	while (*link != i)
		link = &junks->entries[*link].next;
	*link = entry->next;
	entry->junk.count = 0;
	entry->next = junks->free;
	junks->free = i;
	junks->used--;
}

/*
 * Count one in an entry.  Under the exclusive lock.
 */
static void
count_junk(JunkEntry *entry)
{
	TimestampTz now = GetCurrentTimestamp();

	if (entry->junk.count++ == 0)
		entry->junk.first_at = now;
	entry->junk.last_at = now;
}

void
tr_ring_junk(const char *event, const char *reason)
{
	Oid role = tr_caller();
	TrDatabase *here;
	JunkEntry *entry;
	int32 bucket;
	char *name;

	if (!taking())
		return;
	bucket = bucket_of(MyDatabaseId, role, event, reason);

	LWLockAcquire(junk_lock, LW_EXCLUSIVE);
	entry = find_junk(bucket, role, event, reason);
	if (entry != NULL)
		count_junk(entry);
	LWLockRelease(junk_lock);
	if (entry != NULL)
		return;

	/* the first of its kind: no catalog may be asked under the lock */
	name = GetUserNameFromId(role, true);

	LWLockAcquire(junk_lock, LW_EXCLUSIVE);
	entry = find_junk(bucket, role, event, reason);
	if (entry == NULL)
		entry = make_junk(bucket, role, event, reason);
	if (entry != NULL)
	{
		if (name != NULL)
			strlcpy(entry->junk.role, name, sizeof(entry->junk.role));
		else
			snprintf(entry->junk.role, sizeof(entry->junk.role), "%u", role);
		count_junk(entry);
	}
	LWLockRelease(junk_lock);

	if (entry == NULL && (here = tr_visits_here()) != NULL)
		pg_atomic_fetch_add_u64(&here->lost_junk, 1);
}

int
tr_ring_peek(TrEvent *events, int *tickets, int max)
{
	dlist_iter iter;
	int count = 0;

	LWLockAcquire(proven_lock, LW_SHARED);
	dlist_foreach (iter, &proven->queue)
	{
		ProvenSlot *slot = dlist_container(ProvenSlot, node, iter.cur);

		if (count == max)
			break;
		if (slot->database != MyDatabaseId)
			continue;
		memcpy(&events[count], &slot->event, sizeof(TrEvent));
		tickets[count++] = (int) (slot - proven->slots);
	}
	LWLockRelease(proven_lock);
	return count;
}

/*
 * Free a slot of the queue.  Under the exclusive lock.
 */
static void
remove_proven(ProvenSlot *slot)
{
	dlist_delete(&slot->node);
	slot->database = InvalidOid;
	dlist_push_head(&proven->free, &slot->node);
	proven->used--;
}

void
tr_ring_done(const int *tickets, int count)
{
	int i;

	LWLockAcquire(proven_lock, LW_EXCLUSIVE);
	for (i = 0; i < count; i++)
		remove_proven(&proven->slots[tickets[i]]);
	LWLockRelease(proven_lock);
}

void
tr_ring_defer(const int *tickets, int count)
{
	int i;

	LWLockAcquire(proven_lock, LW_EXCLUSIVE);
	for (i = 0; i < count; i++)
	{
		dlist_delete(&proven->slots[tickets[i]].node);
		dlist_push_tail(&proven->queue, &proven->slots[tickets[i]].node);
	}
	LWLockRelease(proven_lock);
}

int
tr_ring_junk_peek(TrJunk *junk, int *tickets, int max)
{
	int count = 0;
	int i;

	LWLockAcquire(junk_lock, LW_SHARED);
	for (i = 0; i < tr_ring_size && count < max; i++)
	{
		JunkEntry *entry = &junks->entries[i];

		if (entry->junk.count == 0 || entry->junk.database != MyDatabaseId)
			continue;
		memcpy(&junk[count], &entry->junk, sizeof(TrJunk));
		tickets[count++] = i;
	}
	LWLockRelease(junk_lock);
	return count;
}

void
tr_ring_junk_done(const TrJunk *junk, const int *tickets, int count)
{
	int i;

	LWLockAcquire(junk_lock, LW_EXCLUSIVE);
	for (i = 0; i < count; i++)
	{
		TrJunk *left = &junks->entries[tickets[i]].junk;

		if (left->count == junk[i].count)
			remove_junk(tickets[i]);
		else
		{
			left->count -= junk[i].count;
			left->first_at = junk[i].last_at;
		}
	}
	LWLockRelease(junk_lock);
}

void
tr_ring_depth(int *proven_events, int *junk)
{
	LWLockAcquire(proven_lock, LW_SHARED);
	*proven_events = proven->used;
	LWLockRelease(proven_lock);
	LWLockAcquire(junk_lock, LW_SHARED);
	*junk = junks->used;
	LWLockRelease(junk_lock);
}

void
tr_ring_forget(Oid database)
{
	dlist_mutable_iter iter;
	int i;

	LWLockAcquire(proven_lock, LW_EXCLUSIVE);
	dlist_foreach_modify(iter, &proven->queue)
	{
		ProvenSlot *slot = dlist_container(ProvenSlot, node, iter.cur);

		if (slot->database == database)
			remove_proven(slot);
	}
	LWLockRelease(proven_lock);

	LWLockAcquire(junk_lock, LW_EXCLUSIVE);
	for (i = 0; i < tr_ring_size; i++)
	{
		JunkEntry *entry = &junks->entries[i];

		if (entry->junk.count > 0 && entry->junk.database == database)
			remove_junk(i);
	}
	LWLockRelease(junk_lock);
}
