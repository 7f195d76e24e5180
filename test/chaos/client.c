/*
 * client.c
 *	  The load of the chaos tests: client FOLDER VALIDATORS WRITERS
 *
 * Runs that many sessions and writes their history (history.h) into the folder.
 * What happens to the server is decided by a script, which tells the client on
 * its standard input, a command a line, and reads one line for each:
 *
 *	  server CONNINFO	where the server is
 *	  go				let the sessions work
 *	  pause				let them end their transactions and disconnect
 *	  fault NAME		something is about to be done to the server
 *	  over				it was done: wait until the server is there, and write it down
 *	  kill N			SIGKILL N backends inside a rotation or revocation, one
 *						after the other, each when the server is there again
 *	  killany PID		SIGKILL that process of the server; 0: the backend of any
 *						session
 *	  count				how many validations there were, and kills inside
 *	  verify			validate what was touched since the last time, after
 *						asking for rotations again, twice (the sessions are paused)
 *	  stop				write everything down and end
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

/* Seconds in which a call to kill in must be found, and a killed server must notice. */
#define PATIENCE 60

/* What verify looks at: the newest tokens, and those touched; and asks for again. */
#define VERIFY_NEWEST 1000
#define VERIFY_TOUCHED 2000
#define VERIFY_ROTATIONS 24

static const char *const fault_names[TR_FAULT_COUNT] = {"kill",		 "killany", "killall", "fast",
														"immediate", "promote", "truncate"};

static TrSession sessions[TR_MAX_SESSIONS];
static int session_count;
static int validators;
static TrSession control; /* of the commands */
static TrRecord fault;	  /* that is going on */
static int kills_inside;

/*
 * A session's thread.
 */
static void *
work(void *arg)
{
	TrSession *session = arg;

	while (tr_running != TR_STOPPED)
	{
		session->parked = false;
		if (tr_running != TR_GOING)
		{
			tr_session_close(session);
			session->parked = true;
			usleep(1000);
		}
		else if (!tr_session_connect(session, false))
			continue;
		else if (PQtransactionStatus(session->conn) != PQTRANS_IDLE)
			tr_session_do(session, "ROLLBACK");
		else if (session->validates)
			tr_validate_some(session);
		else
			tr_change_something(session);
	}
	tr_session_close(session);
	return NULL;
}

/*
 * Let the sessions do something else, and wait until they have stopped working.
 */
static void
set_running(TrRunning running)
{
	int i;

	tr_running = running;
	for (i = 0; running == TR_PAUSED && i < session_count; i++)
		while (!sessions[i].parked)
			usleep(1000);
}

/*
 * A fault begins.
 */
static void
fault_begin(TrFault which)
{
	tr_let_go = true;
	fault = (TrRecord){.kind = TR_FAULT, .reason = which, .begin = tr_now()};
}

/*
 * A fault is over: as soon as the server takes connections and writes.
 */
static void
fault_end(void)
{
	bool there = false;

	tr_session_close(&control);
	while (!there)
	{
		PGresult *result;

		tr_session_connect(&control, true);
		result = tr_session_run(&control, "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL);
		there = PQresultStatus(result) == PGRES_TUPLES_OK && PQgetvalue(result, 0, 0)[0] == 'f';
		PQclear(result);
		if (!there)
			usleep(5000);
	}
	fault.end = tr_now();
	tr_session_record(&control, &fault);
	tr_let_go = false;
}

/*
 * SIGKILL a backend and wait until the server has restarted itself: it ends
 * every other backend, the control session's, too.
 */
static bool
kill_backend(TrFault which, int pid)
{
	int64_t until = tr_now() + PATIENCE * 1000 * TR_MS;

	tr_session_connect(&control, true);
	fault_begin(which);
	if (pid == 0 || kill(pid, SIGKILL) != 0)
	{
		tr_let_go = false;
		return false;
	}
	while (tr_session_do(&control, "SELECT 1"))
	{
		if (tr_now() > until)
			tr_give_up("process %d was killed and the server did not restart", pid);
		usleep(1000);
	}
	return true;
}

/*
 * Is this session inside a rotation or a revocation?  Its call, or 0.
 */
static unsigned
call_inside(TrSession *session)
{
	unsigned call = session->call;
	int kind = session->kind;

	if (call % 2 == 0 || session->pid == 0)
		return 0;
	return kind == TR_ROTATE || kind == TR_REVOKE || kind == TR_FAMILY || kind == TR_CUT_CLIENT ||
				   kind == TR_CUT_POLICY || kind == TR_CUT_REALM
			   ? call
			   : 0;
}

/*
 * Find a writer inside a call that is as old as chance wants it, and kill its
 * backend.  Whether the kill was in time is known when the session has lost its
 * connection: in that very call, whose answer therefore never left the backend.
 */
static bool
kill_inside(void)
{
	int64_t until = tr_now() + PATIENCE * 1000 * TR_MS;
	bool want_commit = tr_chance(&control, 25);

	while (tr_now() < until)
	{
		TrSession *victim =
			&sessions[validators + (int) tr_random(&control, session_count - validators)];
		unsigned call = call_inside(victim);
		bool in_commit = victim->in_commit;
		int64_t later = tr_now() + tr_random(&control, 1500) * 1000;
		int kind = victim->kind;

		while (call != 0 && tr_now() < later && victim->call == call)
			sched_yield();
		if (call == 0 || victim->call != call || (want_commit && !in_commit))
		{
			sched_yield();
			continue;
		}
		if (!kill_backend(TR_KILL, victim->pid))
			continue;
		while (victim->call == call)
			usleep(1000);
		fault.replayed = victim->lost_call == call;
		fault.in_commit = in_commit;
		fault.victim = kind;
		kills_inside += fault.replayed;
		fault_end();
		return true;
	}
	return false;
}

/*
 * Command: kill N.
 */
static void
kill_many(int count)
{
	while (count-- > 0)
	{
		if (!kill_inside())
			tr_give_up("no session is inside a rotation or revocation");
		usleep(20000 + tr_random(&control, 200000));
	}
	printf("ok %d inside\n", kills_inside);
}

/*
 * Command: killany PID.  A process that is gone already is replaced by any.
 */
static void
kill_any(int pid)
{
	while (!kill_backend(TR_KILL_ANY, pid))
	{
		usleep(1000);
		pid = sessions[tr_random(&control, session_count)].pid;
	}
	puts("ok");
}

/*
 * Command: verify.
 */
static void
verify(void)
{
	static unsigned seen = 0;
	static uint32_t tokens[VERIFY_NEWEST + VERIFY_TOUCHED];
	uint32_t entries = tr_entry_count;
	unsigned touched = tr_pointed();
	int count = 0;
	int asked = 0;
	uint32_t i;

	tr_session_connect(&control, true);
	for (i = entries > VERIFY_NEWEST ? entries - VERIFY_NEWEST : 0; i < entries; i++)
		tokens[count++] = i;
	for (i = touched - seen > VERIFY_TOUCHED ? touched - VERIFY_TOUCHED : seen; i < touched; i++)
		tokens[count++] = tr_pointed_at(i);

	/* the rotations first: a successor that was used gets no new secret */
	for (i = touched; i > seen && asked < VERIFY_ROTATIONS && touched - i < VERIFY_TOUCHED; i--)
	{
		uint32_t token = tr_pointed_at(i - 1);

		/* what was rotated, and a few whose rotation may have got lost */
		if (tr_texts[tr_entries[token].id].newest == TR_NOBODY && !tr_chance(&control, 10))
			continue;
		tr_ask_rotation(&control, token);
		tr_ask_rotation(&control, token);
		asked++;
	}
	tr_validate_these(&control, tokens, count, TR_AUTOCOMMIT);
	seen = tr_pointed();
	printf("ok %d tokens, %d rotations\n", count, asked);
}

/*
 * Command: count.
 */
static void
count(void)
{
	long sum = control.validations;
	int i;

	for (i = 0; i < session_count; i++)
		sum += sessions[i].validations;
	printf("ok %ld %d\n", sum, kills_inside);
}

/*
 * Command: fault NAME.
 */
static void
begin_named(const char *name)
{
	int which;

	for (which = 0; which < TR_FAULT_COUNT; which++)
		if (strcmp(name, fault_names[which]) == 0)
		{
			fault_begin(which);
			puts("ok");
			return;
		}
	tr_give_up("no fault is called %s", name);
}

/*
 * Carry out a command; false when it was the last.
 */
static bool
obey(const char *line)
{
	if (strncmp(line, "kill ", 5) == 0)
		kill_many(atoi(line + 5));
	else if (strncmp(line, "fault ", 6) == 0)
		begin_named(line + 6);
	else if (strncmp(line, "killany ", 8) == 0)
		kill_any(atoi(line + 8));
	else if (strcmp(line, "count") == 0)
		count();
	else if (strcmp(line, "verify") == 0)
		verify();
	else
	{
		if (strncmp(line, "server ", 7) == 0)
			tr_server_is(line + 7);
		else if (strcmp(line, "over") == 0)
			fault_end();
		else if (strcmp(line, "go") == 0)
			set_running(TR_GOING);
		else if (strcmp(line, "pause") == 0)
			set_running(TR_PAUSED);
		else if (strcmp(line, "stop") != 0)
			tr_give_up("no such command: %s", line);
		puts("ok");
	}
	fflush(stdout);
	return strcmp(line, "stop") != 0;
}

/*
 * Write the table of tokens.
 */
static void
write_tokens(const char *folder)
{
	char path[1200];
	FILE *file;

	snprintf(path, sizeof(path), "%s/tokens", folder);
	file = fopen(path, "w");
	if (file == NULL ||
		fwrite(tr_entries, sizeof(TrEntry), tr_entry_count, file) != tr_entry_count ||
		fclose(file) != 0)
		tr_give_up("cannot write %s", path);
}

int
main(int argc, char **argv)
{
	pthread_t threads[TR_MAX_SESSIONS];
	char line[1024];
	int i;

	if (argc != 4 || (validators = atoi(argv[2])) < 1 ||
		(session_count = validators + atoi(argv[3])) >= TR_MAX_SESSIONS)
		tr_give_up("usage: client FOLDER VALIDATORS WRITERS");
	tr_entries = calloc(TR_MAX_TOKENS, sizeof(TrEntry));
	tr_texts = calloc(TR_MAX_TOKENS, sizeof(TrText));
	if (tr_entries == NULL || tr_texts == NULL)
		tr_give_up("out of memory");

	tr_session_init(&control, session_count, argv[1]);
	control.validates = true;
	for (i = 0; i < session_count; i++)
	{
		tr_session_init(&sessions[i], i, argv[1]);
		sessions[i].validates = i < validators;
		sessions[i].keeps_snapshots = i < validators / 3;
		if (pthread_create(&threads[i], NULL, work, &sessions[i]) != 0)
			tr_give_up("cannot start a thread");
	}
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		if (!obey(line))
			break;
	}
	set_running(TR_STOPPED);
	for (i = 0; i < session_count; i++)
	{
		pthread_join(threads[i], NULL);
		fclose(sessions[i].history);
	}
	tr_session_close(&control);
	fclose(control.history);
	write_tokens(argv[1]);
	return 0;
}
