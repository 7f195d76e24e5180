/*
 * pooled.c
 *	  The clients of 093_poolers.pl: many threads, each with a token of its own,
 *	  whose transactions share few server connections.
 *
 *	  pooled CONNINFO TOKENS TRANSACTIONS EACH PREPARED
 *
 * TOKENS is a file with a line for each client: its name, token and token id,
 * likewise of a second client that it sometimes speaks for, and a dead token.
 * EACH is how many transactions it makes on one connection, at most.  PREPARED is
 * 1 for prepared statements that are named and kept, else 0.
 *
 * A transaction first makes sure that it is nobody's, then authenticates or does
 * not, and asks again who it is whenever that may have changed; the table orders has
 * a row for each client, under row security.  It may take a savepoint, and ends in
 * one of several ways.  What was found wrong is told in lines that begin with "wrong:".
 * In the end come lines of a name and a number: what was done, and how often the last
 * transaction on the server connection had been another client's, by how it ended.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MAX_CLIENTS 200
#define MAX_PID (1 << 22)
#define TEXT 128

typedef enum Statement
{
	WHO,
	AUTHENTICATE,
	ROWS,
	WORK,
	STATEMENTS
} Statement;

static const struct
{
	const char *name, *sql;
	int params;
} statements[STATEMENTS] = {
	{"who",
	 "SELECT pg_backend_pid(), tr_client(), tr_token_id(), tr_scopes(), tr_has_scope('orders')", 0},
	{"authenticate", "SELECT client_id FROM tr_authenticate($1)", 1},
	{"rows", "SELECT count(*), min(client_id), tr_client(), tr_token_id() FROM orders", 0},
	{"work", "UPDATE orders SET n = n + 1", 0},
};

/* How a transaction ends, and what else happens. */
typedef enum What
{
	COMMITTED,
	ROLLED_BACK,
	FAILED,			  /* an error, then ROLLBACK */
	FAILED_COMMITTED, /* an error, then COMMIT */
	CANCELLED,		  /* a statement is, then ROLLBACK */
	GONE,			  /* the client disconnects */
	ALONE,			  /* there was no BEGIN */
	ENDINGS,
	SAVEPOINT_NONE = ENDINGS,
	SAVEPOINT_ROLLED_BACK,
	SAVEPOINT_RELEASED,
	SAVEPOINT_REFUSED, /* rolled back after it */
	UNBOUND,		   /* nobody authenticated at first */
	CONNECTED,
	SERVERS, /* different server processes */
	WORKED,	 /* rows changed and committed */
	STRAY,	 /* cancelled by what was meant for an earlier statement */
	WRONG,
	COUNTS
} What;

static const char *const what_texts[COUNTS] = {
	"committed", "rolled_back", "failed",	 "failed_committed", "cancelled",
	"gone",		 "alone",		"plain",	 "rolled_back_to",	 "released",
	"refused",	 "unbound",		"connected", "servers",			 "worked",
	"stray",	 "wrong",
};

typedef struct Identity
{
	char client[TEXT], token[TEXT], id[TEXT];
} Identity;

typedef struct Client
{
	int number;
	Identity own, second;
	char dead[TEXT];
	PGconn *conn;
	int left; /* transactions on this connection */
	int pid;  /* of the server process that the transaction runs in */
	uint64_t random;
	pthread_t thread;
} Client;

static const char *conninfo;
static bool prepared;
static int each;
static Client clients[MAX_CLIENTS];
static _Atomic long transactions;
static _Atomic long counts[COUNTS];
static _Atomic long taken_over[ENDINGS];

/* By server process: the client whose transaction was the last, and how it ended. */
static _Atomic uint32_t last_user[MAX_PID];

static void
count(What what)
{
	atomic_fetch_add(&counts[what], 1);
}

static uint32_t
random_below(Client *client, uint32_t below)
{
	client->random ^= client->random >> 12;
	client->random ^= client->random << 25;
	client->random ^= client->random >> 27;
	return (uint32_t) ((client->random * UINT64_C(2685821657736338717)) >> 33) % below;
}

static void
wrong(Client *client, const char *what, const char *detail)
{
	if (atomic_fetch_add(&counts[WRONG], 1) < 20)
		printf("wrong: %s: %s: %s\n", client->own.client, what, detail);
}

/*
 * Is the result what was expected: success, or an ERROR with this SQLSTATE?
 * Clears it otherwise.  A cancellation that comes late may hit any statement.
 */
static bool
expected(Client *client, const char *what, PGresult *result, const char *state)
{
	ExecStatusType status = PQresultStatus(result);
	bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
	const char *has = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (state == NULL ? good : has != NULL && strcmp(has, state) == 0)
		return true;
	if (has != NULL && strcmp(has, "57014") == 0)
		count(STRAY);
	else
		wrong(client, what, good ? "no error" : PQerrorMessage(client->conn));
	PQclear(result);
	return false;
}

/*
 * Run a statement of the table; NULL when it failed.
 */
static PGresult *
run(Client *client, Statement number, const char *value)
{
	const char *name = statements[number].name, *sql = statements[number].sql;
	int params = statements[number].params;
	PGresult *result = prepared
						   ? PQexecPrepared(client->conn, name, params, &value, NULL, NULL, 0)
						   : PQexecParams(client->conn, sql, params, NULL, &value, NULL, NULL, 0);

	return expected(client, name, result, NULL) ? result : NULL;
}

/*
 * Run a command, which succeeds or fails with this SQLSTATE.
 */
static bool
command(Client *client, const char *sql, const char *state)
{
	PGresult *result = PQexec(client->conn, sql);

	if (!expected(client, sql, result, state))
		return false;
	PQclear(result);
	return true;
}

static void
disconnect(Client *client)
{
	PQfinish(client->conn);
	client->conn = NULL;
}

static bool
connect_it(Client *client)
{
	client->conn = PQconnectdb(conninfo);
	if (PQstatus(client->conn) != CONNECTION_OK)
	{
		wrong(client, "connecting", PQerrorMessage(client->conn));
		disconnect(client);
		return false;
	}
	client->left = 1 + (int) random_below(client, (uint32_t) each);
	count(CONNECTED);
	for (int i = 0; prepared && client->conn != NULL && i < STATEMENTS; i++)
	{
		PGresult *result = PQprepare(client->conn, statements[i].name, statements[i].sql, 0, NULL);

		if (expected(client, "preparing", result, NULL))
			PQclear(result);
		else
			disconnect(client);
	}
	return client->conn != NULL;
}

/*
 * Is a field this text, or NULL where that is NULL?
 */
static bool
field_is(const PGresult *result, int column, const char *text)
{
	if (PQgetisnull(result, 0, column))
		return text == NULL;
	return text != NULL && strcmp(PQgetvalue(result, 0, column), text) == 0;
}

/*
 * Nobody is bound; which server process is it?
 */
static bool
nobody(Client *client, const char *when)
{
	PGresult *result = run(client, WHO, NULL);

	if (result == NULL)
		return false;
	client->pid = atoi(PQgetvalue(result, 0, 0));
	for (int column = 1; column <= 3; column++)
	{
		if (!PQgetisnull(result, 0, column))
			wrong(client, when, PQgetvalue(result, 0, column));
	}
	if (!field_is(result, 4, "f"))
		wrong(client, when, "it has a scope");
	PQclear(result);
	return true;
}

/*
 * Exactly this identity is bound (NULL: nobody), and sees exactly its own row.
 */
static bool
is_bound(Client *client, const Identity *identity, const char *when)
{
	const char *name = identity == NULL ? NULL : identity->client;
	PGresult *result = run(client, ROWS, NULL);

	if (result == NULL)
		return false;
	if (!field_is(result, 0, name == NULL ? "0" : "1") || !field_is(result, 1, name))
		wrong(client, when, "other rows are seen");
	if (!field_is(result, 2, name) || !field_is(result, 3, name == NULL ? NULL : identity->id))
		wrong(client, when, PQgetisnull(result, 0, 2) ? "nobody" : PQgetvalue(result, 0, 2));
	PQclear(result);
	return true;
}

static bool
authenticate(Client *client, const Identity *identity)
{
	PGresult *result = run(client, AUTHENTICATE, identity->token);

	if (result == NULL)
		return false;
	if (!field_is(result, 0, identity->client))
		wrong(client, "authenticated as", PQgetvalue(result, 0, 0));
	PQclear(result);
	return true;
}

/*
 * A savepoint within which somebody else is bound, or is refused, which leaves
 * nobody bound.  *bound becomes who is bound after it.
 */
static bool
savepoint(Client *client, What kind, const Identity **bound)
{
	char refused[TEXT * 2];

	count(kind);
	if (kind == SAVEPOINT_NONE)
		return true;
	if (!command(client, "SAVEPOINT a", NULL))
		return false;
	if (kind == SAVEPOINT_REFUSED)
	{
		snprintf(refused, sizeof(refused), "SELECT tr_authenticate('%s')", client->dead);
		*bound = NULL;
		return command(client, refused, "28000") && command(client, "ROLLBACK TO a", NULL) &&
			   is_bound(client, *bound, "after a refusal");
	}
	if (!authenticate(client, &client->second) ||
		!is_bound(client, &client->second, "within a savepoint"))
		return false;
	if (kind == SAVEPOINT_ROLLED_BACK)
		return command(client, "ROLLBACK TO a", NULL) &&
			   is_bound(client, *bound, "after ROLLBACK TO");
	*bound = &client->second;
	return command(client, "RELEASE a", NULL) && is_bound(client, *bound, "after RELEASE");
}

/*
 * Have a statement cancelled.  A request that comes before the statement is lost,
 * so it is made until there is an answer.
 */
static bool
cancelled(Client *client)
{
	PGcancel *cancel = PQgetCancel(client->conn);
	char error[256];
	PGresult *result;
	bool good;

	PQsendQuery(client->conn, "SELECT pg_sleep(600)");
	do
	{
		struct pollfd wait = {.fd = PQsocket(client->conn), .events = POLLIN};

		if (poll(&wait, 1, 20) > 0 && !PQconsumeInput(client->conn))
			break;
		if (PQisBusy(client->conn))
			PQcancel(cancel, error, sizeof(error));
	} while (PQisBusy(client->conn));
	PQfreeCancel(cancel);
	result = PQgetResult(client->conn);
	good = expected(client, "a statement that is cancelled", result, "57014");
	if (good)
		PQclear(result);
	while ((result = PQgetResult(client->conn)) != NULL)
		PQclear(result);
	return good;
}

/*
 * Leave in the midst, with a word or, while a statement runs, without.
 */
static void
go_away(Client *client)
{
	if (random_below(client, 2) == 0)
	{
		PQsendQuery(client->conn, "SELECT pg_sleep(0.01)");
		PQflush(client->conn);
		shutdown(PQsocket(client->conn), SHUT_RDWR);
	}
	disconnect(client);
}

/*
 * End the transaction; false: it did not end so.
 */
static bool
end(Client *client, What ending)
{
	if (ending == GONE)
	{
		go_away(client);
		return true;
	}
	if (ending == CANCELLED && !cancelled(client))
		return false;
	if ((ending == FAILED || ending == FAILED_COMMITTED) &&
		!command(client, "SELECT 1 / 0", "22012"))
		return false;
	return command(client,
				   ending == COMMITTED || ending == FAILED_COMMITTED ? "COMMIT" : "ROLLBACK", NULL);
}

/*
 * Whose transaction was the last on this server connection?  From now on it is
 * this client's, which ends like that.
 */
static void
take_over(Client *client, What ending)
{
	uint32_t me = (uint32_t) client->number + 1;
	uint32_t last = atomic_exchange(&last_user[client->pid], me | (uint32_t) ending << 16);

	if (last == 0)
		count(SERVERS);
	else if ((last & 0xffff) != me)
		atomic_fetch_add(&taken_over[last >> 16], 1);
}

/*
 * A transaction, up to its end; false: something went wrong.
 */
static bool
transaction(Client *client, What ending)
{
	const Identity *bound = NULL;
	What kind = SAVEPOINT_NONE + random_below(client, 4);
	bool worked;
	PGresult *result;

	if (!command(client, "BEGIN", NULL) || !nobody(client, "at its begin"))
		return false;
	take_over(client, ending);
	if (random_below(client, 5) == 0)
		count(UNBOUND);
	else if (authenticate(client, &client->own))
		bound = &client->own;
	else
		return false;
	if (!is_bound(client, bound, "authenticated") || !savepoint(client, kind, &bound))
		return false;
	result = run(client, WORK, NULL);
	if (result == NULL)
		return false;
	worked = strcmp(PQcmdTuples(result), "1") == 0;
	if (worked != (bound != NULL))
		wrong(client, "rows changed", PQcmdTuples(result));
	PQclear(result);
	if (!end(client, ending))
		return false;
	if (worked && ending == COMMITTED)
		count(WORKED);
	return true;
}

/*
 * Statements that are transactions of their own.
 */
static bool
alone(Client *client)
{
	return authenticate(client, &client->own) && nobody(client, "after a statement");
}

static void *
work(void *arg)
{
	Client *client = arg;

	while (atomic_fetch_sub(&transactions, 1) > 0 && counts[WRONG] < 100)
	{
		/* seldom one that takes a new connection to the server */
		What ending = random_below(client, random_below(client, 8) == 0 ? ENDINGS : CANCELLED);

		if (client->conn == NULL && !connect_it(client))
			continue;
		if (ending == ALONE ? alone(client) : transaction(client, ending))
			count(ending);
		else if (client->conn != NULL)
			disconnect(client);
		if (client->conn != NULL && --client->left == 0)
			disconnect(client);
	}
	if (client->conn != NULL)
		disconnect(client);
	return NULL;
}

int
main(int argc, char **argv)
{
	int n = 0;
	FILE *tokens;

	if (argc != 6 || (tokens = fopen(argv[2], "r")) == NULL)
		return 2;
	conninfo = argv[1];
	transactions = atol(argv[3]);
	each = atoi(argv[4]);
	prepared = argv[5][0] == '1';
	while (n < MAX_CLIENTS)
	{
		Client *client = &clients[n];

		if (fscanf(tokens, "%127s %127s %127s %127s %127s %127s %127s", client->own.client,
				   client->own.token, client->own.id, client->second.client, client->second.token,
				   client->second.id, client->dead) != 7)
			break;
		client->number = n++;
		client->random = (uint64_t) n * UINT64_C(0x9E3779B97F4A7C15);
	}
	fclose(tokens);
	for (int i = 0; i < n; i++)
		pthread_create(&clients[i].thread, NULL, work, &clients[i]);
	for (int i = 0; i < n; i++)
		pthread_join(clients[i].thread, NULL);
	for (int i = 0; i < COUNTS; i++)
		printf("%s %ld\n", what_texts[i], counts[i]);
	for (int i = 0; i < ALONE; i++)
		printf("after_%s %ld\n", what_texts[i], taken_over[i]);
	return counts[WRONG] == 0 ? 0 : 1;
}
