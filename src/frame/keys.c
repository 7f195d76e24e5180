/*
 * keys.c
 *	  The server's keys: see keys.h.
 *
 * Shared memory holds the subkeys, so that all processes see the same keys at
 * the same moment: who rotates under a new key and who validates its successor
 * in the next moment are different sessions, and one of them may have been busy
 * when the configuration was reloaded.
 *
 * Protocol.  Only the postmaster writes, and it takes no lock, because it must
 * not depend on other processes.  Of each source there are two copies:
 *
 *	1. it fills the copy that is not current, then raises the generation, which
 *	   makes it the current one, then wipes the other;
 *	2. who reads notes the generation, copies from the current copy, and looks at
 *	   the generation again: where it has moved he may have read what was being
 *	   wiped, and begins anew.
 *
 * An ERROR in the postmaster would end the server: what is called to read keys
 * raises none, and what is wrong goes to the log.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "core/secret.h"
#include "frame/keys.h"
#include "frame/settings.h"

/* In microseconds: between two messages that a key is missing. */
#define SILENCE USECS_PER_MINUTE

/* Rings are compared byte by byte. */
StaticAssertDecl(sizeof(TrKeyring) == sizeof(int32) + TR_KEYS_MAX * sizeof(TrKey) &&
					 sizeof(TrKey) == sizeof(int32) + TR_KEY_USES * TR_KEY_BYTES,
				 "a ring has no padding");

typedef struct Source
{
	pg_atomic_uint64 generation;
	TrKeyring copies[2];	 /* the one of generation modulo 2 is current */
	pg_atomic_uint32 unread; /* 1: it could not be read the last time */
} Source;

typedef struct Keys
{
	Source sources[TR_KEY_SOURCES];
	pg_atomic_uint64 said_at; /* TimestampTz of the last message that a key is missing */
	pg_atomic_uint64 unsaid;  /* refusals since then */
} Keys;

static Keys *keys = NULL;

static const char *const setting_names[TR_KEY_SOURCES] = {
	[TR_KEYS_FROM_FILE] = "token_rotation.key_file",
	[TR_KEYS_FROM_COMMAND] = "token_rotation.key_command",
};

/*
 * Is this a file that only the server and root can have written and read?  The
 * rules are those of the server's TLS key.  NULL, or what is wrong with it.
 */
static const char *
judge_file(const struct stat *file)
{
	if (!S_ISREG(file->st_mode))
		return "It is not a regular file.";
	if (file->st_uid != geteuid() && file->st_uid != 0)
		return "The file must be owned by the database user or root.";
	if ((file->st_uid == geteuid() && (file->st_mode & (S_IRWXG | S_IRWXO))) ||
		(file->st_uid == 0 && (file->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO))))
		return "The file has group or world access. It must have permissions u=rw (0600) or less "
			   "if owned by the database user, or u=rw,g=r (0640) or less if owned by root.";
	return NULL;
}

/*
 * Read until the end, or one byte more than a text may have.  false: an error.
 */
static bool
read_all(int fd, char *text, size_t *len)
{
	ssize_t got = 1;

	for (*len = 0; got > 0 && *len <= TR_KEYS_TEXT_MAX; *len += Max(got, 0))
	{
		do
			got = read(fd, text + *len, TR_KEYS_TEXT_MAX + 1 - *len);
		while (got < 0 && errno == EINTR);
	}
	return got >= 0;
}

/*
 * Read the file.  It is looked at when it is open, and opening it does not wait,
 * whatever it is.  NULL, or why not.
 */
static const char *
read_file(const char *path, char *text, size_t *len)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat file;
	const char *why;

	if (fd < 0)
		return psprintf("The file \"%s\" could not be opened: %s.", path, strerror(errno));
	if (fstat(fd, &file) != 0)
		why = psprintf("The file could not be looked at: %s.", strerror(errno));
	else
		why = judge_file(&file);
	if (why == NULL && !read_all(fd, text, len))
		why = psprintf("The file could not be read: %s.", strerror(errno));
	close(fd);
	return why;
}

/*
 * Run the command and read what it prints.  NULL, or why not.
 */
static const char *
read_command(const char *command, char *text, size_t *len)
{
	FILE *pipe = OpenPipeStream(command, "r");
	bool good;
	int status;

	if (pipe == NULL)
		return psprintf("The command could not be started: %s.", strerror(errno));
	good = read_all(fileno(pipe), text, len);
	status = ClosePipeStream(pipe);
	if (status != 0)
		return psprintf("The command failed: %s.",
						status == -1 ? strerror(errno) : wait_result_to_str(status));
	return good ? NULL : "What the command printed could not be read.";
}

/*
 * What is wrong with a text; no part of it is told.  NULL: nothing.
 */
static const char *
describe(TrKeyFault fault, int line)
{
	switch (fault)
	{
		case TR_KEYS_GOOD:
			break;
		case TR_KEYS_TOO_LONG:
			return psprintf("There are more than %d bytes.", TR_KEYS_TEXT_MAX);
		case TR_KEYS_EMPTY:
			return "There is no key in it.";
		case TR_KEYS_LINE:
			return psprintf("Line %d is not a number from 1 on and %d hexadecimal digits.", line,
							2 * TR_KEY_BYTES);
		case TR_KEYS_TWICE:
			return psprintf("The key in line %d has the number of an earlier one.", line);
		case TR_KEYS_TOO_MANY:
			return psprintf("There are more than %d keys.", TR_KEYS_MAX);
		case TR_KEYS_CRYPTO:
			return "The cryptographic library failed.";
	}
	return NULL;
}

/*
 * Read the keys of a source; an empty setting has none.  NULL, or why not.
 */
static const char *
read_keys(TrKeySource source, const char *value, TrKeyring *ring)
{
	char text[TR_KEYS_TEXT_MAX + 1];
	const char *why;
	size_t len;
	int line;

	memset(ring, 0, sizeof(*ring));
	if (value == NULL || *value == '\0')
		return NULL;
	if (source == TR_KEYS_FROM_FILE)
		why = read_file(value, text, &len);
	else
		why = read_command(value, text, &len);
	if (why == NULL)
	{
		TrKeyFault fault = tr_keyring_read(text, len, ring, &line);

		why = describe(fault, line);
	}
	tr_wipe(text, sizeof(text));
	return why;
}

/*
 * Make a ring the current one of its source, where it is another one than before:
 * step 1 of the protocol.
 */
static void
publish(TrKeySource which, const TrKeyring *ring)
{
	Source *source = &keys->sources[which];
	uint64 generation = pg_atomic_read_u64(&source->generation);
	TrKeyring *current = &source->copies[generation % 2];

	if (memcmp(current, ring, sizeof(TrKeyring)) == 0)
		return;
	source->copies[(generation + 1) % 2] = *ring;
	pg_write_barrier();
	pg_atomic_write_u64(&source->generation, generation + 1);
	pg_write_barrier();
	tr_wipe(current, sizeof(TrKeyring));

	pg_atomic_write_u64(&keys->said_at, 0);
	if (ring->count > 0)
		ereport(LOG, (errmsg("read %d server keys from %s, the newest has number %d", ring->count,
							 setting_names[which], ring->keys[ring->count - 1].number)));
	else
		ereport(LOG, (errmsg("there are no more server keys from %s", setting_names[which])));
}

void
tr_keys_reload(TrKeySource source, const char *value)
{
	TrKeyring ring;
	const char *why;

	/* at the start of the server settings come before shared memory */
	if (keys == NULL || IsUnderPostmaster)
		return;
	why = read_keys(source, value, &ring);
	pg_atomic_write_u32(&keys->sources[source].unread, why != NULL ? 1 : 0);
	if (why == NULL)
		publish(source, &ring);
	else
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("could not read server keys from %s", setting_names[source]),
				 errdetail_internal("%s", why),
				 errhint("Put it right and reload the configuration. Until then keys that were "
						 "read before stay in use; after a start of the server there are none.")));
	tr_wipe(&ring, sizeof(ring));
}

/*
 * The keys have pages of their own, which a core dump leaves out.
 */
static Size
page_size(void)
{
	return (Size) sysconf(_SC_PAGESIZE);
}

static Size
pages_size(void)
{
	return TYPEALIGN(page_size(), sizeof(Keys));
}

/*
 * Where that is not to be had (huge pages, other systems) they are as any other.
 */
static void
leave_out_of_dumps(void)
{
#ifdef MADV_DONTDUMP
	if (madvise(keys, pages_size(), MADV_DONTDUMP) != 0)
		ereport(DEBUG1, (errmsg("core dumps will hold server keys: %m")));
#endif
}

Size
tr_keys_shmem_size(void)
{
	return pages_size() + page_size();
}

void
tr_keys_shmem_init(void)
{
	bool found;
	int i;
	char *room = ShmemInitStruct("token_rotation keys", tr_keys_shmem_size(), &found);

	keys = (Keys *) TYPEALIGN(page_size(), room);
	if (found)
		return;
	memset(keys, 0, sizeof(Keys));
	leave_out_of_dumps();
	for (i = 0; i < TR_KEY_SOURCES; i++)
	{
		pg_atomic_init_u64(&keys->sources[i].generation, 0);
		pg_atomic_init_u32(&keys->sources[i].unread, 0);
	}
	pg_atomic_init_u64(&keys->said_at, 0);
	pg_atomic_init_u64(&keys->unsaid, 0);
	tr_keys_reload(TR_KEYS_FROM_FILE, tr_key_file);
	tr_keys_reload(TR_KEYS_FROM_COMMAND, tr_key_command);
}

bool
tr_keys_configured(void)
{
	return *tr_key_file != '\0' || *tr_key_command != '\0';
}

/*
 * Copy a key of one source: step 2 of the protocol.
 */
static bool
find_in(Source *source, int32 number, TrKey *key)
{
	uint64 generation;
	bool found;

	do
	{
		const TrKey *at;

		generation = pg_atomic_read_u64(&source->generation);
		pg_read_barrier();
		at = tr_keyring_find(&source->copies[generation % 2], number);
		found = at != NULL;
		if (found)
			*key = *at;
		pg_read_barrier();
	} while (pg_atomic_read_u64(&source->generation) != generation);
	return found;
}

bool
tr_keys_find(int32 number, TrKey *key)
{
	TrKey other;
	bool found = find_in(&keys->sources[TR_KEYS_FROM_FILE], number, key);

	if (found && number != 0)
		return true;
	if (!find_in(&keys->sources[TR_KEYS_FROM_COMMAND], number, &other))
		return found;
	if (!found || other.number > key->number)
		*key = other;
	tr_wipe(&other, sizeof(other));
	return true;
}

/*
 * Was it said that a key is missing, so long ago at most?  A clock that was set
 * back silences nobody.
 */
static bool
said_within(int64 usec, uint64 said_at, TimestampTz now)
{
	return said_at != 0 && now - (TimestampTz) said_at < usec && now >= (TimestampTz) said_at;
}

TrKeysState
tr_keys_state(void)
{
	TrKeysState state = {.wanted = tr_keys_configured()};
	TrKey key;
	int i;

	state.any = tr_keys_find(0, &key);
	tr_wipe(&key, sizeof(key));
	for (i = 0; i < TR_KEY_SOURCES; i++)
		state.unread = state.unread || pg_atomic_read_u32(&keys->sources[i].unread) != 0;
	/* while it goes on it is said each minute */
	state.missing =
		said_within(2 * SILENCE, pg_atomic_read_u64(&keys->said_at), GetCurrentTimestamp());
	return state;
}

void
tr_keys_missing(int32 number)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64 said_at = pg_atomic_read_u64(&keys->said_at);
	uint64 refused = pg_atomic_add_fetch_u64(&keys->unsaid, 1);

	/* of those who come at once, one says it */
	if (said_within(SILENCE, said_at, now) ||
		!pg_atomic_compare_exchange_u64(&keys->said_at, &said_at, (uint64) now))
		return;
	pg_atomic_fetch_sub_u64(&keys->unsaid, (int64) refused);

	/* the statement may hold the token */
	ereport(LOG,
			(errhidestmt(true), errhidecontext(true),
			 errmsg("tokens are refused because server key %d is not at hand", number),
			 errdetail("Since the last such message " UINT64_FORMAT " calls were refused for want "
					   "of a key.",
					   refused),
			 errhint("Put the key back into token_rotation.key_file or what "
					 "token_rotation.key_command prints, and reload the configuration.")));
}
