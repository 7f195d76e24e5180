/*
 * libpq.c
 *	  The story of 094_drivers.pl through libpq.
 *
 * Parameters are sent as text, results are asked for in binary, which saves taking
 * arrays and times apart.  It says in lines of a name and JSON what came back; the
 * test knows what that must be.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Types by their numbers, which do not change. */
#define BOOLOID 16
#define INT8OID 20
#define TEXTOID 25
#define TEXTARRAYOID 1009
#define TIMESTAMPTZOID 1184
#define UUIDOID 2950
#define JSONBOID 3802

/* Binary times are microseconds since the year 2000. */
#define SECONDS_TO_2000 INT64_C(946684800)

static PGconn *conn;
static char types[2048];

static void
give_up(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, PQerrorMessage(conn));
	exit(1);
}

/*
 * Run a statement with text parameters; the result is binary.
 */
static PGresult *
run(const char *sql, int count, const char *const *values)
{
	return PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 1);
}

/*
 * The same where it must not fail.
 */
static PGresult *
must(const char *sql, int count, const char *const *values)
{
	PGresult *result = run(sql, count, values);
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		give_up(sql);
	return result;
}

static void
command(const char *sql)
{
	PQclear(must(sql, 0, NULL));
}

/*
 * Begin what a request does as the client whose token it brought.  False: the token
 * is refused, and the transaction is over; *error has what the server said.
 */
static bool
begin_as(const char *token, PGresult **error)
{
	PGresult *result;

	command("BEGIN");
	result = run("SELECT client_id FROM tr_authenticate($1)", 1, &token);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		PQclear(result);
		return true;
	}
	*error = result;
	command("ROLLBACK");
	return false;
}

/*
 * A column by its name.
 */
static const char *
value(const PGresult *result, const char *column)
{
	return PQgetvalue(result, 0, PQfnumber(result, column));
}

static int64_t
time_of(const PGresult *result, const char *column)
{
	uint64_t wire;

	memcpy(&wire, value(result, column), sizeof(wire));
	return (int64_t) be64toh(wire);
}

static int
int32_at(const char *data)
{
	uint32_t wire;

	memcpy(&wire, data, sizeof(wire));
	return (int) ntohl(wire);
}

static void
print_text(const char *text, int length)
{
	putchar('"');
	for (int i = 0; i < length; i++)
	{
		if (text[i] == '"' || text[i] == '\\')
			putchar('\\');
		putchar(text[i]);
	}
	putchar('"');
}

static void
print_time(int64_t microseconds)
{
	time_t seconds = (time_t) (microseconds / 1000000 + SECONDS_TO_2000);
	char text[32];

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime(&seconds));
	printf("\"%s.%03dZ\"", text, (int) (microseconds / 1000 % 1000));
}

static void
print_uuid(const char *bytes)
{
	putchar('"');
	for (int i = 0; i < 16; i++)
		printf(i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", (unsigned char) bytes[i]);
	putchar('"');
}

/*
 * An array of one dimension: dimensions, whether it has NULLs, the type of its
 * elements; their number and the first index; then each with its length, -1: NULL.
 */
static void
print_array(const char *data)
{
	int count = int32_at(data) == 0 ? 0 : int32_at(data + 12);

	putchar('[');
	data += 20;
	for (int i = 0; i < count; i++)
	{
		int length = int32_at(data);

		data += 4;
		if (i > 0)
			putchar(',');
		if (length < 0)
			fputs("null", stdout);
		else
		{
			print_text(data, length);
			data += length;
		}
	}
	putchar(']');
}

/*
 * A column as JSON, by its type.
 */
static void
print_value(const PGresult *result, int row, int column)
{
	const char *data = PQgetvalue(result, row, column);
	int length = PQgetlength(result, row, column);
	uint64_t wire;

	if (PQgetisnull(result, row, column))
	{
		fputs("null", stdout);
		return;
	}
	switch (PQftype(result, column))
	{
		case BOOLOID:
			fputs(*data ? "true" : "false", stdout);
			break;
		case INT8OID:
		case TIMESTAMPTZOID:
			memcpy(&wire, data, sizeof(wire));
			if (PQftype(result, column) == INT8OID)
				printf("%" PRId64, (int64_t) be64toh(wire));
			else
				print_time((int64_t) be64toh(wire));
			break;
		case UUIDOID:
			print_uuid(data);
			break;
		case TEXTARRAYOID:
			print_array(data);
			break;
		case JSONBOID: /* the first byte is a version */
			printf("%.*s", length - 1, data + 1);
			break;
		default:
			print_text(data, length);
	}
}

/*
 * Columns as members of an object; all of them where no names are given.
 */
static void
print_row(const PGresult *result, int row, const char *const *names)
{
	for (int i = 0; names == NULL ? i < PQnfields(result) : names[i] != NULL; i++)
	{
		int column = names == NULL ? i : PQfnumber(result, names[i]);

		printf(i > 0 ? ",\"%s\":" : "\"%s\":", PQfname(result, column));
		print_value(result, row, column);
	}
}

static void
say_row(const char *what, const char *sql, int count, const char *const *values)
{
	PGresult *result = must(sql, count, values);

	printf("%s {", what);
	print_row(result, 0, NULL);
	puts("}");
	PQclear(result);
}

static void
say_rows(const char *what, PGresult *result)
{
	printf("%s [", what);
	for (int row = 0; row < PQntuples(result); row++)
	{
		fputs(row > 0 ? ",{" : "{", stdout);
		print_row(result, row, NULL);
		putchar('}');
	}
	puts("]");
	PQclear(result);
}

static const char *
truth(bool is)
{
	return is ? "true" : "false";
}

/*
 * Remember the types of some columns.
 */
static void
note(const PGresult *result, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		size_t end = strlen(types);

		snprintf(types + end, sizeof(types) - end, "%s\"%s\":%u", end > 0 ? "," : "", *names,
				 PQftype(result, PQfnumber(result, *names)));
	}
}

static PGresult *
issue(void)
{
	const char *values[] = {getenv("TR_CLIENT"), "{orders,\"odd,{scope}\"}",
							"{\"team\": \"Zo\u00eb\", \"seats\": 3, \"none\": null}"};
	PGresult *issued = must("SELECT * FROM tr_issue($1, scopes => $2, metadata => $3)", 3, values);
	int64_t from = time_of(issued, "issued_at");
	int64_t age = (time(NULL) - SECONDS_TO_2000) * 1000000 - from;

	printf("issued {");
	print_row(issued, 0,
			  (const char *const[]){"client_id", "owner", "status", "rotation_key", "scopes",
									"metadata", NULL});
	printf(",\"own_family\":%s,\"life\":%" PRId64 ",\"just_now\":%s}\n",
		   truth(memcmp(value(issued, "token_id"), value(issued, "family_id"), 16) == 0),
		   (time_of(issued, "expires_at") - from) / 1000, truth(llabs(age) < 60000000));
	note(issued, (const char *const[]){"token", "rotation_key", "token_id", "scopes", "metadata",
									   "expires_at", NULL});
	return issued;
}

/*
 * The request of a client: who is it, an order, and what it sees.
 */
static void
order(const PGresult *issued)
{
	const char *values[] = {"5f3b1c2e-7a90-4d1e-8c55-0123456789ab", "2026-02-03T04:05:06.789Z",
							"{plain,with space,\"comma, {brace} \\\"quote\\\" \\\\\",NULL}",
							"{\"n\": 1.5, \"deep\": {\"list\": [1, \"two\", null]}, \"on\": true}",
							NULL};
	PGresult *result, *error;

	if (!begin_as(value(issued, "token"), &error))
		give_up("authenticating");
	result =
		must("SELECT tr_client() AS client, tr_scopes() AS scopes, tr_token_id() AS id", 0, NULL);
	printf("bound {");
	print_row(result, 0, (const char *const[]){"client", "scopes", NULL});
	printf(",\"same_id\":%s}\n",
		   truth(memcmp(value(result, "id"), value(issued, "token_id"), 16) == 0));
	PQclear(result);
	PQclear(must("INSERT INTO orders (id, placed_at, tags, body, note) VALUES ($1, $2, $3, $4, $5)",
				 5, values));
	result = must("SELECT id, client_id, placed_at, tags, body, note FROM orders", 0, NULL);
	note(result, (const char *const[]){"id", "placed_at", "tags", "body", "note", NULL});
	say_rows("orders", result);
	command("COMMIT");
	say_row("after", "SELECT tr_client() AS client, (SELECT count(*) FROM orders) AS rows", 0,
			NULL);
}

int
main(void)
{
	PGresult *issued, *next, *again, *error = NULL;
	const char *token, *nonsense = "trk_nonsense";
	char both[512];
	int requests;

	conn = PQconnectdb("");
	if (PQstatus(conn) != CONNECTION_OK)
		give_up("connecting");
	issued = issue();
	token = value(issued, "token");
	order(issued);

	next = must("SELECT * FROM tr_rotate($1)", 1, &token);
	printf("rotated {");
	print_row(next, 0, (const char *const[]){"replayed", "reason", "client_id", NULL});
	printf(",\"other\":%s,\"previous\":%s,\"overlap\":%s}\n",
		   truth(strcmp(value(next, "token"), token) != 0),
		   truth(memcmp(value(next, "previous_token_id"), value(issued, "token_id"), 16) == 0),
		   truth(time_of(next, "previous_valid_until") > time_of(next, "issued_at")));
	note(next, (const char *const[]){"replayed", NULL});
	again = must("SELECT * FROM tr_rotate($1)", 1, &token);
	printf("again {");
	print_row(again, 0, (const char *const[]){"replayed", "reason", NULL});
	printf(",\"same\":%s}\n", truth(strcmp(value(again, "token"), value(next, "token")) == 0));
	snprintf(both, sizeof(both), "{%s,%s}", token, value(next, "token"));
	say_rows("both", must("SELECT valid, status FROM tr_validate_many($1) ORDER BY ord", 1,
						  (const char *const[]){both}));

	PQclear(must("SELECT tr_revoke($1)", 1, &token));
	if (!begin_as(token, &error))
		printf("refused {\"sqlstate\":\"%s\",\"detail\":\"%s\"}\n",
			   PQresultErrorField(error, PG_DIAG_SQLSTATE),
			   PQresultErrorField(error, PG_DIAG_MESSAGE_DETAIL));
	if (begin_as(value(next, "token"), &error))
	{
		say_row("usable", "SELECT count(*) AS rows FROM orders", 0, NULL);
		command("COMMIT");
	}
	/* (often enough for a driver that prepares what it has run five times) */
	for (requests = 0; requests < 10 && begin_as(value(next, "token"), &error); requests++)
		command("COMMIT");
	printf("requests %d\n", requests);
	say_row("nothing",
			"SELECT valid, reason, client_id, scopes, metadata, valid_until, token_id"
			" FROM tr_validate($1)",
			1, &nonsense);
	printf("types {%s}\n", types);
	PQclear(issued);
	PQclear(next);
	PQclear(again);
	PQclear(error);
	PQfinish(conn);
	return 0;
}
