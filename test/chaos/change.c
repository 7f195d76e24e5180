/*
 * change.c
 *	  The writers of the chaos tests' client: they issue, rotate and end tokens.
 *
 * A change is autocommitted or runs in a transaction of any isolation level,
 * with or without an old snapshot, a savepoint or an asynchronous commit; some
 * are rolled back.  What is written down is when the call began and when its
 * COMMIT was acknowledged.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

/* A change that is to be made. */
typedef struct Change
{
	TrRecord record;
	const char *sql;
	const char *values[3];
	int count;
	int realm;	   /* the session speaks for it; -1: for every realm */
	TrEntry entry; /* of the token to be issued */
} Change;

/* Wall clock microseconds of a column. */
#define WALL(column) "(extract(epoch FROM " column ") * 1000000)::bigint"

#define ISSUE                                                                                      \
	"SELECT token, token_id, " WALL("issued_at") ", " WALL("expires_at") " FROM tr_issue($1, $2)"
#define ROTATE                                                                                     \
	"SELECT token, token_id, " WALL("issued_at") ", " WALL(                                        \
		"expires_at") ", reason, replayed, " WALL("previous_valid_until") " FROM tr_rotate($1, "   \
																		  "overlap => "            \
																		  "$2::text::interval)"

/* Only one session at a time blocks or unblocks a client: then the order is known. */
static atomic_flag client_taken[TR_CLIENTS];

/*
 * Client names, and policy names.
 */
static const char *
client_name(char *buffer, unsigned client)
{
	sprintf(buffer, "client %u", client);
	return buffer;
}

static const char *
policy_name(char *buffer, unsigned policy)
{
	sprintf(buffer, "chaos%u", policy);
	return buffer;
}

/*
 * An entry for a token that a call handed out.
 */
static uint32_t
hand_out(const PGresult *result, const TrRecord *record, TrEntry *entry, uint32_t replaces)
{
	entry->issued_at = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
	entry->expires = tr_from_wall(strtoll(PQgetvalue(result, 0, 3), NULL, 10));
	entry->begin = record->begin;
	entry->end = record->end;
	return tr_entry_make(PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1), entry, replaces);
}

/*
 * A rotation was answered: whose text is it?  One that was handed out before,
 * the same token with a new secret, or a token nobody knows.
 */
static uint32_t
successor_of(const PGresult *result, const TrRecord *record)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	const TrEntry *old = &tr_entries[record->token];
	TrText *first = &tr_texts[old->id];
	TrEntry entry = *old;
	uint32_t known;
	uint32_t found;

	pthread_mutex_lock(&lock);
	known = first->newest;
	for (found = known; found != TR_NOBODY; found = tr_texts[found].older)
		if (strcmp(tr_texts[found].text, PQgetvalue(result, 0, 0)) == 0)
			break;
	if (found == TR_NOBODY)
	{
		/* another id than before is a second successor: the checker sees it */
		bool same = known != TR_NOBODY && strcmp(tr_texts[known].id, PQgetvalue(result, 0, 1)) == 0;

		entry.predecessor = old->id;
		found = hand_out(result, record, &entry, same ? known : TR_NOBODY);
		first->newest = found;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

/*
 * What the call answered, once its transaction is known to have been committed.
 */
static void
understand(Change *change, const PGresult *result)
{
	TrRecord *record = &change->record;
	const char *value = PQgetvalue(result, 0, 0);

	switch (record->kind)
	{
		case TR_ISSUE:
			record->token = hand_out(result, record, &change->entry, TR_NOBODY);
			break;
		case TR_ROTATE:
			record->reason = tr_answer(PQgetvalue(result, 0, 4));
			if (record->reason != TR_OK)
				break;
			record->replayed = PQgetvalue(result, 0, 5)[0] == 't';
			record->moment = tr_from_wall(strtoll(PQgetvalue(result, 0, 6), NULL, 10));
			record->other = successor_of(result, record);
			break;
		case TR_REVOKE:
		case TR_FAMILY:
			if (strcmp(value, "f") == 0)
			{
				record->kind = TR_VALIDATE;
				record->reason = TR_NOT_ENDED;
			}
			break;
		case TR_FINISH:
			record->reason = strcmp(value, "t") == 0 ? TR_OK : TR_NOT_ENDED;
			break;
		case TR_CUT_CLIENT:
		case TR_CUT_POLICY:
		case TR_CUT_REALM:
			record->moment = strtoll(value, NULL, 10);
			break;
		default:
			break;
	}
}

/*
 * In front of the call: the transaction, its snapshot, a savepoint.
 */
static bool
begin(TrSession *session, TrRecord *record)
{
	static const char *const begins[] = {"BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ",
										 "BEGIN ISOLATION LEVEL SERIALIZABLE"};
	static const TrLevel levels[] = {TR_READ_COMMITTED, TR_REPEATABLE_READ, TR_SERIALIZABLE};
	uint32_t level = tr_random(session, 3);

	record->level = levels[level];
	if (!tr_session_do(session, begins[level]))
		return false;
	if (tr_chance(session, 60))
	{
		if (!tr_session_do(session, "SELECT pg_catalog.count(*) FROM token_rotation.policy"))
			return false;
		usleep(tr_random(session, 3000));
	}
	return !tr_chance(session, 30) || tr_session_do(session, "SAVEPOINT before");
}

/*
 * Behind it: sometimes a savepoint that undoes it, sometimes a ROLLBACK.  The
 * outcome of the whole.
 */
static TrOutcome
end(TrSession *session, TrKind kind)
{
	PGresult *result;
	TrOutcome outcome;

	if (tr_chance(session, 30) && !tr_session_do(session, "SET LOCAL synchronous_commit = off"))
		return TR_MAYBE;
	if (tr_chance(session, 50))
		usleep(tr_random(session, 2000));
	if (tr_chance(session, 10))
		return tr_session_do(session, "ROLLBACK") ? TR_ABORTED : TR_MAYBE;
	result = tr_session_call(session, kind, true, "COMMIT", 0, NULL);
	if (result == NULL)
		return TR_MAYBE;
	outcome = strcmp(PQcmdStatus(result), "COMMIT") == 0 ? TR_DONE : TR_ABORTED;
	PQclear(result);
	return outcome;
}

/*
 * Make the change and write it down.
 */
static void
make(TrSession *session, Change *change, bool transaction)
{
	TrRecord *record = &change->record;
	TrKind kind = record->kind;
	PGresult *result;
	char realm[64];

	sprintf(realm,
			change->realm < 0 ? "RESET token_rotation.realm" : "SET token_rotation.realm = realm%d",
			change->realm);
	if (!tr_session_do(session, realm) || (transaction && !begin(session, record)))
		return;
	record->begin = tr_now();
	result = tr_session_call(session, kind, false, change->sql, change->count, change->values);
	if (result == NULL)
		record->outcome = TR_MAYBE;
	else if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		/* a cutoff or block was faster; SERIALIZABLE; the ring is full for the moment */
		if (!tr_error_is(result, "55000 40001 53400"))
			record->reason = TR_OTHER;
		record->outcome = TR_ABORTED;
		if (transaction)
			tr_session_do(session, "ROLLBACK");
	}
	else
		record->outcome = transaction ? end(session, kind) : TR_DONE;
	record->end = tr_now();
	if (record->outcome == TR_DONE)
		understand(change, result);
	PQclear(result);
	tr_session_record(session, record);
}

/*
 * Issue a token for anybody.
 */
static void
issue(TrSession *session, bool transaction)
{
	Change change = {.record.kind = TR_ISSUE, .sql = ISSUE, .count = 2};
	unsigned client = tr_random(session, TR_CLIENTS);
	TrEntry *entry = &change.entry;
	char name[32];
	char policy[32];

	entry->predecessor = entry->family = TR_NOBODY;
	entry->client = client;
	entry->realm = client % TR_REALMS;
	entry->policy = tr_chance(session, 2) ? TR_POLICIES - 1 : tr_random(session, TR_POLICIES - 1);
	change.values[0] = client_name(name, client);
	change.values[1] = policy_name(policy, entry->policy);
	change.realm = entry->realm;
	make(session, &change, transaction);
}

/*
 * Rotate a token with this overlap; NULL: the policy's.
 */
static void
rotate(TrSession *session, uint32_t token, const char *overlap, bool transaction)
{
	Change change = {.record = {.kind = TR_ROTATE, .token = token, .other = TR_NOBODY},
					 .sql = ROTATE,
					 .count = 2,
					 .realm = -1};

	tr_texts[token].touched = true;
	tr_point_at(token);
	change.values[0] = tr_texts[token].text;
	change.values[1] = overlap;
	make(session, &change, transaction);
	if (change.record.other != TR_NOBODY)
		tr_point_at(change.record.other);
}

void
tr_ask_rotation(TrSession *session, uint32_t token)
{
	rotate(session, token, NULL, false);
}

/*
 * End a token, its family or its overlap.
 */
static void
end_token(TrSession *session, TrKind kind, uint32_t token, bool transaction)
{
	Change change = {.record = {.kind = kind, .token = token}, .count = 1, .realm = -1};
	bool by_id = kind == TR_FINISH || tr_chance(session, 40);

	tr_texts[token].touched = true;
	tr_point_at(token);
	if (kind == TR_FINISH)
		change.sql = "SELECT tr_finish_overlap($1)";
	else if (kind == TR_REVOKE)
		change.sql = by_id ? "SELECT tr_revoke_id($1)" : "SELECT tr_revoke($1)";
	else if (by_id)
		change.sql = "SELECT tr_revoke_id($1, family => true)";
	else if (tr_chance(session, 50))
		change.sql = "SELECT tr_revoke($1, family => true)";
	else
		/* it answers nothing; what it did shows in the verdict, unless the secret is another by now */
		change.sql = "SELECT (tr_validate($1)).reason NOT IN ('bad_secret', 'unknown')"
					 " FROM tr_report_leak($1)";
	change.values[0] = by_id ? tr_texts[token].id : tr_texts[token].text;
	make(session, &change, transaction);
}

/*
 * End everything of the client, policy or realm of a token.
 */
static void
cut(TrSession *session, TrKind kind, uint32_t token, bool transaction)
{
	const TrEntry *entry = &tr_entries[token];
	Change change = {.record.kind = kind, .count = 1, .realm = entry->realm};
	char name[32];

	tr_point_at(token);
	if (kind == TR_CUT_CLIENT)
	{
		change.sql = "SELECT " WALL("tr_revoke_client($1)");
		change.values[0] = client_name(name, entry->client);
		change.record.token = entry->client;
	}
	else if (kind == TR_CUT_POLICY)
	{
		change.sql = "SELECT " WALL("tr_revoke_policy($1)");
		change.values[0] = policy_name(name, entry->policy);
		change.record.token = entry->policy * TR_REALMS + entry->realm;
	}
	else
	{
		change.sql = "SELECT " WALL("tr_revoke_before(clock_timestamp())");
		change.count = 0;
		change.record.token = entry->realm;
	}
	make(session, &change, transaction);
}

/*
 * Block the client of a token for a moment: half of them.  It may stay
 * blocked for a while when unblocking fails.
 */
static void
block(TrSession *session, uint32_t token)
{
	const TrEntry *entry = &tr_entries[token];
	Change change = {.count = 1, .realm = entry->realm};
	unsigned client = entry->client / 8 * 8 + entry->realm;
	char name[32];
	int turn;

	if (atomic_flag_test_and_set(&client_taken[client]))
		return;
	if (entry->client == client)
		tr_point_at(token);
	for (turn = 0; turn < 2 && session->conn != NULL; turn++)
	{
		change.record = (TrRecord){.kind = turn == 0 ? TR_BLOCK : TR_UNBLOCK, .token = client};
		change.sql = turn == 0 ? "SELECT tr_block_client($1)" : "SELECT tr_block_client($1, false)";
		change.values[0] = client_name(name, client);
		make(session, &change, tr_chance(session, 40));
		usleep(tr_random(session, 3000));
	}
	atomic_flag_clear(&client_taken[client]);
}

/*
 * A token that nobody has touched yet, if that is quickly found.
 */
static uint32_t
pick_untouched(TrSession *session)
{
	uint32_t token = TR_NOBODY;
	int i;

	for (i = 0; i < 20; i++)
	{
		token = tr_pick(session);
		if (token == TR_NOBODY || !tr_texts[token].touched)
			break;
	}
	return token;
}

void
tr_change_something(TrSession *session)
{
	static const char *const overlaps[] = {"0", NULL, NULL, "200 ms"}; /* TR_SHORT_OVERLAP */
	uint32_t token = tr_chance(session, 80) ? pick_untouched(session) : tr_pick(session);
	bool transaction = tr_chance(session, 40);
	uint32_t dice = tr_random(session, 1000);

	/* now and then the token that another session is at, to race with it */
	if (tr_pointed() > 0 && tr_chance(session, 10))
		token = tr_pointed_at(tr_pointed() - 1);
	if (token == TR_NOBODY || tr_entry_count < 200 || dice < 260)
		issue(session, transaction);
	else if (dice < 560)
		rotate(session, token, overlaps[tr_random(session, 4)], transaction);
	else if (dice < 720)
		end_token(session, TR_REVOKE, token, transaction);
	else if (dice < 800)
		end_token(session, TR_FAMILY, token, transaction);
	else if (dice < 880)
		end_token(session, TR_FINISH, tr_pick(session), transaction);
	else if (dice < 930)
		cut(session, TR_CUT_CLIENT, token, transaction);
	else if (dice < 938)
		cut(session, TR_CUT_POLICY, token, transaction);
	else if (dice < 940)
		cut(session, TR_CUT_REALM, token, transaction);
	else
		block(session, token);
}
