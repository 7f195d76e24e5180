/*
 * validate.c
 *	  The validators of the chaos tests' client.
 *
 * Every isolation level takes its turn; some transactions take their snapshot
 * and let it grow old before they validate, and while they do.  Validators look
 * most often at tokens to which something happens at that moment.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define POINTED 4096 /* a power of two */
#define HOT 24		 /* the newest of them are looked at most */
#define RECENT 500	 /* tokens that may still be valid */
#define MANY 16		 /* tokens in one tr_validate_many */

static _Atomic uint32_t pointed[POINTED];
static _Atomic unsigned pointed_count;

void
tr_point_at(uint32_t token)
{
	pointed[pointed_count++ % POINTED] = token;
}

unsigned
tr_pointed(void)
{
	return pointed_count;
}

uint32_t
tr_pointed_at(unsigned n)
{
	return pointed[n % POINTED];
}

uint32_t
tr_pick(TrSession *session)
{
	uint32_t count = tr_entry_count;
	unsigned newest = pointed_count;
	uint32_t dice = tr_random(session, 10);
	uint32_t token = TR_NOBODY;
	int i;

	if (count == 0)
		return TR_NOBODY;
	if (dice < 4 && newest > 0)
		return pointed[(newest - 1 - tr_random(session, newest < HOT ? newest : HOT)) % POINTED];
	if (dice == 9)
		return tr_random(session, count);
	for (i = 0; i < 10; i++)
	{
		token = count - 1 - tr_random(session, count < RECENT ? count : RECENT);
		if (!tr_texts[token].touched)
			break;
	}
	return token;
}

/*
 * Write down one answer.
 */
static void
record(TrSession *session, const PGresult *result, int row, TrRecord *validation)
{
	TrAnswer answer = tr_answer(PQgetvalue(result, row, 1));

	if ((PQgetvalue(result, row, 0)[0] == 't') != (answer == TR_OK))
		tr_give_up("valid is %s and the reason %s", PQgetvalue(result, row, 0),
				   PQgetvalue(result, row, 1));
	validation->reason = answer;
	tr_session_record(session, validation);
	session->validations++;
}

/*
 * The answer to a validation of these tokens: written down; a connection lost
 * as well.  false: the transaction is over.
 */
static bool
take(TrSession *session, PGresult *result, const uint32_t *tokens, int count, TrRecord *validation)
{
	bool ok = PQresultStatus(result) == PGRES_TUPLES_OK;
	int i;

	validation->end = tr_now();
	if (result == NULL)
	{
		validation->outcome = TR_MAYBE;
		validation->token = tokens[0];
		tr_session_record(session, validation);
		return false;
	}
	if (ok && PQntuples(result) != count)
		tr_give_up("%d answers for %d tokens", PQntuples(result), count);
	for (i = 0; ok && i < count; i++)
	{
		validation->token = tokens[i];
		record(session, result, i, validation);
	}
	/* SERIALIZABLE may fail; nothing else should */
	if (!ok && !tr_error_is(result, "40001"))
	{
		validation->outcome = TR_ABORTED;
		validation->reason = TR_OTHER;
		validation->token = tokens[0];
		tr_session_record(session, validation);
	}
	PQclear(result);
	return ok;
}

/*
 * Validate one token by the prepared statement.
 */
static bool
validate_one(TrSession *session, uint32_t token, TrLevel level)
{
	TrRecord validation = {.begin = tr_now(), .kind = TR_VALIDATE, .level = level};

	return take(session, tr_session_prepared(session, "one", tr_texts[token].text), &token, 1,
				&validation);
}

/*
 * Validate tokens with tr_validate_many.  Each validation counts as begun when
 * the call was: later ones are judged a little too kindly.
 */
static bool
validate_many(TrSession *session, const uint32_t *tokens, int count, TrLevel level)
{
	TrRecord validation = {.kind = TR_VALIDATE, .level = level, .many = 1};
	char array[MANY * (TR_TEXT + 1) + 3];
	char *end = array;
	int i;

	*end++ = '{';
	for (i = 0; i < count; i++)
		end += sprintf(end, "%s%s", i == 0 ? "" : ",", tr_texts[tokens[i]].text);
	strcpy(end, "}");
	validation.begin = tr_now();
	return take(session, tr_session_prepared(session, "many", array), tokens, count, &validation);
}

void
tr_validate_these(TrSession *session, const uint32_t *tokens, int count, TrLevel level)
{
	while (count > 0)
	{
		int some = count < MANY ? count : MANY;

		validate_many(session, tokens, some, level);
		tokens += some;
		count -= some;
	}
}

/*
 * One or many, at random.
 */
static bool
validate_any(TrSession *session, TrLevel level)
{
	uint32_t tokens[MANY];
	int count = tr_chance(session, 10) ? 2 + (int) tr_random(session, MANY - 1) : 1;
	int i;

	for (i = 0; i < count; i++)
		if ((tokens[i] = tr_pick(session)) == TR_NOBODY)
		{
			usleep(1000);
			return true;
		}
	return count == 1 ? validate_one(session, tokens[0], level)
					  : validate_many(session, tokens, count, level);
}

/*
 * Keep the snapshot that was just taken, idle for up to a second: TRUNCATE of
 * the cache may come between.
 */
static void
let_grow_old(TrSession *session)
{
	int64_t until = tr_now() + tr_random(session, 1000) * TR_MS;

	while (tr_now() < until && tr_running == TR_GOING && !tr_let_go)
		usleep(5000);
}

/*
 * Validate in a transaction with an old snapshot, for some seconds.
 */
static void
validate_by_old_snapshot(TrSession *session)
{
	int64_t begun = tr_now();
	int64_t until = begun + (500 + tr_random(session, 3500)) * TR_MS;

	if (!tr_session_do(session, "BEGIN ISOLATION LEVEL REPEATABLE READ") ||
		!tr_session_do(session, "SELECT pg_catalog.count(*) FROM token_rotation.policy"))
		return;
	let_grow_old(session);
	while (tr_now() < until && tr_running == TR_GOING && !tr_let_go)
		if (!validate_any(session,
						  tr_now() - begun < 1000 * TR_MS ? TR_REPEATABLE_READ : TR_OLD_SNAPSHOT))
			return;
	tr_session_do(session, "COMMIT");
}

void
tr_validate_some(TrSession *session)
{
	static const char *const begins[TR_LEVEL_COUNT] = {
		[TR_READ_COMMITTED] = "BEGIN",
		[TR_REPEATABLE_READ] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
		[TR_SERIALIZABLE] = "BEGIN ISOLATION LEVEL SERIALIZABLE",
	};
	TrLevel level = tr_random(session, TR_LEVEL_COUNT);
	int i;

	if (session->keeps_snapshots && tr_chance(session, 80))
	{
		validate_by_old_snapshot(session);
		return;
	}
	if (level == TR_OLD_SNAPSHOT)
		level = TR_AUTOCOMMIT;
	if (begins[level] != NULL && !tr_session_do(session, begins[level]))
		return;
	for (i = 0; i < 20 && tr_running == TR_GOING; i++)
		if (!validate_any(session, level))
			break;
	if (begins[level] != NULL)
		tr_session_do(session, "COMMIT");
}
