/*
 * past.c
 *	  A history, read back: see past.h.
 *
 * Everything that can end a token hangs on a list of what it ends: a token
 * text, a token id, a family, a client, a policy, a realm.  An end whose
 * outcome is unknown counts from its beginning on, unless the token was
 * accepted after the fault was over that took its answer away (a rotated token:
 * and after its overlap): then it did not take place.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "past.h"

#define MAX_FILES 64
#define NO_END UINT32_MAX

/* One end of whatever it hangs on. */
typedef struct End
{
	const TrRecord *record;
	int64_t doubt_from;
	int64_t dead_from;
	uint32_t next;
} End;

/* What ends hang on. */
typedef enum Scope
{
	OF_TEXT,		/* entry */
	OF_ID,			/* first entry of the id */
	OF_PREDECESSOR, /* id whose successor may have got a new secret */
	OF_FAMILY,		/* first entry */
	OF_CLIENT,
	OF_POLICY,
	OF_REALM,
	SCOPE_COUNT
} Scope;

const TrEntry *tr_entries;
uint32_t tr_entry_count;
TrSeen *tr_seen;
const TrRecord *tr_changes;
size_t tr_change_count;
const TrRecord *tr_faults;
size_t tr_fault_count;

static struct
{
	const TrRecord *records;
	size_t count;
} files[MAX_FILES];
static int file_count;

static uint32_t *heads[SCOPE_COUNT];
static End *ends;
static uint32_t end_count;
static uint32_t end_room;

/* The blocks and unblocks of each client, in order. */
static struct
{
	const TrRecord **calls;
	int count;
} blocks[TR_CLIENTS];

/*
 * Stop with a message.
 */
static void
give_up(const char *what, const char *name)
{
	fprintf(stderr, "chaos check: %s %s\n", what, name);
	exit(2);
}

/*
 * Memory, or stop.
 */
static void *
get(size_t count, size_t size)
{
	void *memory = calloc(count == 0 ? 1 : count, size);

	if (memory == NULL)
		give_up("out of", "memory");
	return memory;
}

/*
 * Map a file of records of this size.
 */
static const void *
map(const char *folder, const char *name, size_t size, size_t *count)
{
	char path[1200];
	struct stat status;
	const void *memory;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &status) != 0)
		give_up("cannot read", path);
	*count = status.st_size / size;
	if (status.st_size % size != 0)
		give_up("cut short:", path);
	if (*count == 0)
	{
		close(fd);
		return NULL;
	}
	memory = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (memory == MAP_FAILED)
		give_up("cannot map", path);
	return memory;
}

/*
 * By begin.
 */
static int
compare(const void *a, const void *b)
{
	const TrRecord *x = a;
	const TrRecord *y = b;

	return (x->begin > y->begin) - (x->begin < y->begin);
}

/*
 * Hang an end on something.
 */
static void
hang(Scope scope, uint32_t on, const TrRecord *record, int64_t doubt_from, int64_t dead_from)
{
	if (end_count == end_room)
	{
		end_room = end_room == 0 ? 65536 : end_room * 2;
		ends = realloc(ends, end_room * sizeof(End));
		if (ends == NULL)
			give_up("out of", "memory");
	}
	ends[end_count] = (End){.record = record,
							.doubt_from = doubt_from,
							.dead_from = dead_from,
							.next = heads[scope][on]};
	heads[scope][on] = end_count++;
}

/*
 * A rotation ends its predecessor when the overlap is over, and, where it gave
 * a successor a new secret, the secret before.
 */
static void
hang_rotation(const TrRecord *record)
{
	uint32_t id = tr_entries[record->token].id;

	if (record->outcome == TR_MAYBE)
	{
		hang(OF_ID, id, record, record->begin, TR_NEVER);
		hang(OF_PREDECESSOR, id, record, record->begin, TR_NEVER);
	}
	else if (record->reason == TR_OK)
		hang(OF_ID, id, record, record->moment - TR_SLACK,
			 record->moment <= record->end ? record->end : record->moment + TR_SLACK);
}

/*
 * Hang up whatever a change may have ended.
 */
static void
hang_change(const TrRecord *record)
{
	int64_t dead_from = record->outcome == TR_DONE ? record->end : TR_NEVER;
	const TrEntry *entry = &tr_entries[record->token];

	switch (record->kind)
	{
		case TR_ROTATE:
			hang_rotation(record);
			break;
		case TR_FINISH:
			if (record->outcome == TR_DONE && record->reason != TR_OK)
				break;
			/* fallthrough */
		case TR_REVOKE:
			hang(OF_ID, entry->id, record, record->begin, dead_from);
			break;
		case TR_FAMILY:
			hang(OF_FAMILY, entry->family, record, record->begin, dead_from);
			break;
		case TR_CUT_CLIENT:
			hang(OF_CLIENT, record->token, record, record->begin, dead_from);
			break;
		case TR_CUT_POLICY:
			hang(OF_POLICY, record->token, record, record->begin, dead_from);
			break;
		case TR_CUT_REALM:
			hang(OF_REALM, record->token, record, record->begin, dead_from);
			break;
		default:
			break;
	}
}

/*
 * Where an entry has a newer one of the same id, its secret was replaced.
 */
static void
hang_replacements(void)
{
	uint32_t *newest = get(tr_entry_count, sizeof(uint32_t));
	TrRecord *made = get(tr_entry_count, sizeof(TrRecord));
	uint32_t i;

	for (i = 0; i < tr_entry_count; i++)
	{
		const TrEntry *entry = &tr_entries[i];

		if (entry->id != i)
		{
			made[i] = (TrRecord){.begin = entry->begin, .end = entry->end, .kind = TR_ROTATE};
			hang(OF_TEXT, newest[entry->id], &made[i], entry->begin, entry->end);
		}
		newest[entry->id] = i;
	}
	free(newest);
}

/*
 * Sort out the records that are no validations.
 */
static void
read_changes(void)
{
	TrRecord *changes;
	TrRecord *faults;
	size_t i;
	int file;

	for (file = 0; file < file_count; file++)
		for (i = 0; i < files[file].count; i++)
		{
			tr_change_count += files[file].records[i].kind != TR_VALIDATE;
			tr_fault_count += files[file].records[i].kind == TR_FAULT;
		}
	tr_changes = changes = get(tr_change_count, sizeof(TrRecord));
	tr_faults = faults = get(tr_fault_count, sizeof(TrRecord));
	for (file = 0; file < file_count; file++)
		for (i = 0; i < files[file].count; i++)
		{
			const TrRecord *record = &files[file].records[i];

			if (record->kind != TR_VALIDATE)
				*changes++ = *record;
			if (record->kind == TR_FAULT)
				*faults++ = *record;
		}
	qsort((void *) tr_changes, tr_change_count, sizeof(TrRecord), compare);
	qsort((void *) tr_faults, tr_fault_count, sizeof(TrRecord), compare);
}

/*
 * Hang the changes up, and line the blocks up.
 */
static void
sort_changes(void)
{
	size_t i;
	int scope;

	for (scope = 0; scope < SCOPE_COUNT; scope++)
	{
		size_t room = tr_entry_count > TR_CLIENTS ? tr_entry_count : TR_CLIENTS;

		heads[scope] = get(room, sizeof(uint32_t));
		memset(heads[scope], 0xff, room * sizeof(uint32_t));
	}
	for (i = 0; i < tr_change_count; i++)
	{
		const TrRecord *record = &tr_changes[i];

		if (record->outcome == TR_ABORTED)
			continue;
		hang_change(record);
		if (record->kind == TR_BLOCK || record->kind == TR_UNBLOCK)
		{
			int count = blocks[record->token].count++;

			blocks[record->token].calls =
				realloc(blocks[record->token].calls, (count + 1) * sizeof(TrRecord *));
			blocks[record->token].calls[count] = record;
		}
	}
	hang_replacements();
}

void
tr_past_read(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *file;
	size_t count;
	size_t i;

	if (dir == NULL)
		give_up("cannot read", folder);
	while ((file = readdir(dir)) != NULL)
		if (strncmp(file->d_name, "history.", 8) == 0 && file_count < MAX_FILES)
		{
			files[file_count].records =
				map(folder, file->d_name, sizeof(TrRecord), &files[file_count].count);
			file_count++;
		}
	closedir(dir);
	tr_entries = map(folder, "tokens", sizeof(TrEntry), &count);
	tr_entry_count = count;
	tr_seen = get(count, sizeof(TrSeen));
	for (i = 0; i < count; i++)
		tr_seen[i] = (TrSeen){.refused_by = TR_NEVER, .accepted_from = -1};
	read_changes();
	sort_changes();
}

void
tr_past_validations(void (*function)(const TrRecord *record))
{
	size_t i;
	int file;

	for (file = 0; file < file_count; file++)
		for (i = 0; i < files[file].count; i++)
			if (files[file].records[i].kind == TR_VALIDATE)
				function(&files[file].records[i]);
}

/*
 * How many faults had begun by this time?
 */
static size_t
faults_by(int64_t time)
{
	size_t low = 0;
	size_t high = tr_fault_count;

	while (low < high)
	{
		size_t middle = low + (high - low) / 2;

		if (tr_faults[middle].begin <= time)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int64_t
tr_past_settled(const TrRecord *call)
{
	size_t begun = faults_by(call->end);
	int64_t over = call->end + (call->kind == TR_ROTATE ? TR_SHORT_OVERLAP + TR_SLACK : 0);

	return begun > 0 && tr_faults[begun - 1].end > over ? tr_faults[begun - 1].end : over;
}

bool
tr_past_fault_between(int64_t from, int64_t to, bool any)
{
	size_t i;

	for (i = faults_by(to); i > 0 && tr_faults[i - 1].end >= from; i--)
		if (any || tr_faults[i - 1].reason != TR_FAST)
			return true;
	return false;
}

/*
 * Does this end, which hangs on something of the entry, concern the entry?
 */
static bool
concerns(const End *end, uint32_t entry)
{
	const TrRecord *record = end->record;
	const TrEntry *token = &tr_entries[entry];

	if (record->outcome == TR_MAYBE && tr_seen[entry].accepted_from > tr_past_settled(record))
		return false;
	if (record->kind != TR_CUT_CLIENT && record->kind != TR_CUT_POLICY &&
		record->kind != TR_CUT_REALM)
		return true;
	/* a cutoff ends what was issued before its moment, which may be unknown */
	return record->outcome == TR_DONE ? token->issued_at < record->moment
									  : token->begin < record->end;
}

/*
 * Weigh the ends that hang on one thing.
 */
static void
weigh(Scope scope, uint32_t on, uint32_t entry, TrFate *fate)
{
	uint32_t i;

	for (i = heads[scope][on]; i != NO_END; i = ends[i].next)
	{
		if (!concerns(&ends[i], entry))
			continue;
		if (ends[i].dead_from < fate->dead_from)
			fate->dead_from = ends[i].dead_from;
		if (ends[i].doubt_from < fate->doubt_from)
			fate->doubt_from = ends[i].doubt_from;
	}
}

TrFate
tr_past_fate(uint32_t entry)
{
	const TrEntry *token = &tr_entries[entry];
	TrFate fate = {.dead_from = token->expires + TR_SLACK, .doubt_from = token->expires - TR_SLACK};

	weigh(OF_TEXT, entry, entry, &fate);
	weigh(OF_ID, token->id, entry, &fate);
	if (token->predecessor != TR_NOBODY)
		weigh(OF_PREDECESSOR, token->predecessor, entry, &fate);
	weigh(OF_FAMILY, token->family, entry, &fate);
	weigh(OF_CLIENT, token->client, entry, &fate);
	weigh(OF_POLICY, token->policy * TR_REALMS + token->realm, entry, &fate);
	weigh(OF_REALM, token->realm, entry, &fate);
	return fate;
}

bool
tr_past_must_be_blocked(const TrRecord *call, unsigned client)
{
	const TrRecord *last = NULL;
	int i;

	/* the last one that was begun before the call's end, and nothing in doubt */
	for (i = 0; i < blocks[client].count && blocks[client].calls[i]->begin < call->end; i++)
		last = blocks[client].calls[i];
	return last != NULL && last->kind == TR_BLOCK && last->outcome == TR_DONE &&
		   last->end < call->begin;
}

bool
tr_past_may_be_blocked(const TrRecord *call, unsigned client)
{
	bool may = false;
	int i;

	for (i = 0; i < blocks[client].count && blocks[client].calls[i]->begin < call->end; i++)
	{
		const TrRecord *turn = blocks[client].calls[i];

		if (turn->kind == TR_BLOCK)
			may = true;
		else if (turn->outcome == TR_DONE && turn->end < call->begin)
			may = false;
	}
	return may;
}
