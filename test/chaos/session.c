/*
 * session.c
 *	  The connections of the chaos tests' client: see session.h.
 */
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

TrEntry *tr_entries;
TrText *tr_texts;
_Atomic uint32_t tr_entry_count;
_Atomic int tr_running = TR_PAUSED;
_Atomic bool tr_let_go;

const char *const tr_kind_texts[TR_KIND_COUNT] = {
	"validate",	  "issue",		"rotate",		  "revoke", "revoke family", "finish_overlap",
	"cut client", "cut policy", "cut everything", "block",	"unblock",		 "fault"};

static const char *const answer_texts[TR_ANSWER_COUNT] = {
	"ok",			"malformed", "unknown", "bad_secret", "expired", "overlap_ended",
	"replay_ended", "revoked",	 "cutoff",	"blocked",	  "reuse",	 "-",			  "-"};

static pthread_mutex_t server_lock = PTHREAD_MUTEX_INITIALIZER;
static char server[1024];

void
tr_give_up(const char *format, ...)
{
	va_list args;

	fputs("chaos client: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

/*
 * Nanoseconds of a clock.
 */
static int64_t
read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t
tr_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t
tr_from_wall(int64_t microseconds)
{
	return microseconds * 1000 - (read_clock(CLOCK_REALTIME) - tr_now());
}

uint32_t
tr_random(TrSession *session, uint32_t below)
{
	/* xorshift64*; the seed differs from run to run */
	session->random ^= session->random >> 12;
	session->random ^= session->random << 25;
	session->random ^= session->random >> 27;
	return (uint32_t) ((session->random * UINT64_C(2685821657736338717)) >> 33) % below;
}

bool
tr_chance(TrSession *session, int percent)
{
	return tr_random(session, 100) < (uint32_t) percent;
}

void
tr_server_is(const char *conninfo)
{
	pthread_mutex_lock(&server_lock);
	snprintf(server, sizeof(server), "%s", conninfo);
	pthread_mutex_unlock(&server_lock);
}

void
tr_session_init(TrSession *session, int number, const char *folder)
{
	char path[1200];

	memset(session, 0, sizeof(*session));
	session->number = number;
	session->random =
		(uint64_t) tr_now() * 2 + 1 + (uint64_t) number * UINT64_C(0x9E3779B97F4A7C15);
	snprintf(path, sizeof(path), "%s/history.%d", folder, number);
	session->history = fopen(path, "w");
	if (session->history == NULL)
		tr_give_up("cannot write %s", path);
	tr_random(session, 2);
}

void
tr_session_close(TrSession *session)
{
	if (session->conn != NULL)
		PQfinish(session->conn);
	session->conn = NULL;
	session->pid = 0;
}

bool
tr_session_do(TrSession *session, const char *sql)
{
	PGresult *result = tr_session_run(session, sql, 0, NULL);
	ExecStatusType status = PQresultStatus(result);

	PQclear(result);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/*
 * Prepare what a validator runs, and let half of the others commit
 * asynchronously, which the extension must not heed.
 */
static bool
set_up(TrSession *session)
{
	PGresult *one;
	PGresult *many = NULL;
	bool ok;

	if (!session->validates)
		return tr_session_do(session, session->number % 2 == 0 ? "SET synchronous_commit = off"
															   : "SET synchronous_commit = local");
	one = PQprepare(session->conn, "one", "SELECT valid, reason FROM tr_validate($1)", 1, NULL);
	ok = PQresultStatus(one) == PGRES_COMMAND_OK;
	if (ok)
		many = PQprepare(session->conn, "many",
						 "SELECT valid, reason FROM tr_validate_many($1) ORDER BY ord", 1, NULL);
	ok = ok && PQresultStatus(many) == PGRES_COMMAND_OK;
	PQclear(one);
	PQclear(many);
	return ok;
}

/*
 * What the server says while it goes down is no news here.
 */
static void
ignore_notice(void *arg, const PGresult *notice)
{
	(void) arg;
	(void) notice;
}

/*
 * Connect, without libpq's own way with notices.
 */
static PGconn *
connect_quietly(const char *conninfo)
{
	PGconn *conn = PQconnectStart(conninfo);
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	PQsetNoticeReceiver(conn, ignore_notice, NULL);
	while (PQstatus(conn) != CONNECTION_BAD && state != PGRES_POLLING_OK &&
		   state != PGRES_POLLING_FAILED)
	{
		struct pollfd wait = {.fd = PQsocket(conn),
							  .events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT};

		if (poll(&wait, 1, 5000) <= 0)
			break;
		state = PQconnectPoll(conn);
	}
	return conn;
}

bool
tr_session_connect(TrSession *session, bool persistent)
{
	while (session->conn == NULL)
	{
		char conninfo[sizeof(server)];

		if (!persistent && tr_running != TR_GOING)
			return false;
		pthread_mutex_lock(&server_lock);
		strcpy(conninfo, server);
		pthread_mutex_unlock(&server_lock);
		session->conn = connect_quietly(conninfo);
		if (PQstatus(session->conn) == CONNECTION_OK && set_up(session))
			session->pid = PQbackendPID(session->conn);
		else
		{
			tr_session_close(session);
			usleep(10000);
		}
	}
	return true;
}

/*
 * What came back, or NULL when it is unknown because the connection is lost.
 * An error without SQLSTATE is libpq's own: it could not talk to the server.
 */
static PGresult *
received(TrSession *session, PGresult *result)
{
	if (PQstatus(session->conn) == CONNECTION_OK &&
		(PQresultStatus(result) != PGRES_FATAL_ERROR ||
		 PQresultErrorField(result, PG_DIAG_SQLSTATE) != NULL))
		return result;
	PQclear(result);
	tr_session_close(session);
	return NULL;
}

PGresult *
tr_session_run(TrSession *session, const char *sql, int count, const char *const *values)
{
	if (session->conn == NULL)
		return NULL;
	return received(session, PQexecParams(session->conn, sql, count, NULL, values, NULL, NULL, 0));
}

PGresult *
tr_session_prepared(TrSession *session, const char *name, const char *value)
{
	if (session->conn == NULL)
		return NULL;
	return received(session, PQexecPrepared(session->conn, name, 1, &value, NULL, NULL, 0));
}

PGresult *
tr_session_call(TrSession *session, TrKind kind, bool commit, const char *sql, int count,
				const char *const *values)
{
	PGresult *result;

	session->kind = kind;
	session->in_commit = commit;
	session->call++;
	result = tr_session_run(session, sql, count, values);
	if (session->conn == NULL)
		session->lost_call = session->call;
	session->call++;
	return result;
}

bool
tr_error_is(const PGresult *result, const char *states)
{
	static _Atomic int shown;

	if (strstr(states, PQresultErrorField(result, PG_DIAG_SQLSTATE)) != NULL)
		return true;
	if (shown++ < 5)
		fprintf(stderr, "%s", PQresultErrorMessage(result));
	return false;
}

void
tr_session_record(TrSession *session, const TrRecord *record)
{
	if (fwrite(record, sizeof(*record), 1, session->history) != 1)
		tr_give_up("cannot write the history");
}

TrAnswer
tr_answer(const char *reason)
{
	int i;

	for (i = 0; i < TR_NOT_ENDED; i++)
		if (strcmp(reason, answer_texts[i]) == 0)
			return i;
	return TR_OTHER;
}

uint32_t
tr_entry_make(const char *text, const char *id, const TrEntry *entry, uint32_t replaces)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint32_t number;

	pthread_mutex_lock(&lock);
	number = tr_entry_count;
	if (number == TR_MAX_TOKENS)
		tr_give_up("more than %d tokens", TR_MAX_TOKENS);
	if (strlen(text) >= TR_TEXT || strlen(id) >= TR_TEXT)
		tr_give_up("the token \"%s\" is too long", id);
	strcpy(tr_texts[number].text, text);
	strcpy(tr_texts[number].id, id);
	tr_texts[number].newest = TR_NOBODY;
	tr_texts[number].older = replaces;
	tr_entries[number] = *entry;
	tr_entries[number].id = replaces == TR_NOBODY ? number : tr_entries[replaces].id;
	if (entry->family == TR_NOBODY)
		tr_entries[number].family = number;
	tr_entry_count = number + 1;
	pthread_mutex_unlock(&lock);
	return number;
}
