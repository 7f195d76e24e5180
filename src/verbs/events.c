/*
 * events.c
 *	  tr_events, tr_ack and tr_events_head: the trail for consumers that act on it.
 *
 * What is sealed is read, in the order of the seals: a row gets its position when
 * it is sealed, after its commit, so none ever appears before a position that
 * was handed out, however long its transaction took.
 *
 * A consumer has no state but the position that it has acknowledged.  Reading moves
 * nothing, so an answer that got lost is read again.  Where nothing is there for the
 * caller, or nothing any more, a row of its own says so, which is acknowledged like
 * any other: who sees one realm of many must get on, too.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/sql.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/consumer.h"
#include "state/feed.h"
#include "verbs/args.h"

#define MAX_EVENTS 10000

/* Rows of others that are looked at in one go, that are worth a row, and how often a call looks. */
#define CHUNK 1000
#define WORTH_TELLING 1000
#define MAX_LOOKS 200

/* Columns of the answer that rows without an audit row have. */
enum
{
	COL_POSITION,
	COL_AT = 2,
	COL_EVENT = 3,
	COL_DETAIL = 12,
};

/* What comes of a call. */
typedef struct Answer
{
	ReturnSetInfo *result;
	TrFeed feed;
	int32 room;		   /* events that may be answered yet */
	int64 missed;	   /* rows that were pruned, not told yet */
	int64 missed_upto; /* the position of the last of them */
	int64 passed;	   /* rows of others since the last event */
} Answer;

/*
 * The name of a consumer: as a policy's.
 */
static char *
arg_consumer(FunctionCallInfo fcinfo)
{
	char *name = tr_arg_name(fcinfo, 0, "consumer");
	const char *p = name;

	if (*p >= 'a' && *p <= 'z')
		p += strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_-");
	if (p == name || *p != '\0')
		tr_raise_value("consumer is not valid",
					   "A consumer's name begins with a letter and has at most 63 lower-case "
					   "letters, digits, _ and -.",
					   "Pass a name like 'webhooks'.");
	return name;
}

/*
 * Read a consumer that the caller may use; 42501 where it is another's.
 */
static bool
read_consumer(const char *name, TrConsumer *consumer)
{
	if (!tr_consumer_read(name, consumer))
		return false;
	if (!tr_realm_visible(consumer->owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for consumer \"%s\"", name),
						errdetail("It belongs to another role, which has acknowledged first."),
						errhint("Use another name, or become a member of that role.")));
	return true;
}

/*
 * Answer a row that is none of the trail, with a number of rows as its detail.
 */
static void
put_note(Answer *answer, const char *event, int64 position, int64 rows)
{
	Datum values[TR_FEED_COLUMNS];
	bool nulls[TR_FEED_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	values[COL_POSITION] = Int64GetDatum(position);
	values[COL_AT] = TimestampTzGetDatum(answer->feed.at);
	values[COL_EVENT] = CStringGetTextDatum(event);
	values[COL_DETAIL] = DirectFunctionCall1(
		jsonb_in, CStringGetDatum(psprintf("{\"rows\": " INT64_FORMAT "}", rows)));
	nulls[COL_POSITION] = nulls[COL_AT] = nulls[COL_EVENT] = nulls[COL_DETAIL] = false;
	tuplestore_putvalues(answer->result->setResult, answer->result->setDesc, values, nulls);
	answer->room--;
}

/*
 * Tell what was pruned before the consumer came.
 */
static void
put_missed(Answer *answer)
{
	if (answer->missed > 0)
		put_note(answer, "missed", answer->missed_upto, answer->missed);
	answer->missed = 0;
}

/*
 * Answer the rows that the last look found.
 */
static void
put_found(Answer *answer)
{
	uint64 i;

	for (i = 0; i < answer->feed.found; i++)
	{
		Datum values[TR_FEED_COLUMNS];
		bool nulls[TR_FEED_COLUMNS];
		int column;

		for (column = 0; column < TR_FEED_COLUMNS; column++)
			values[column] = tr_sql_value(i, TR_FEED_FIRST + column, &nulls[column]);
		tuplestore_putvalues(answer->result->setResult, answer->result->setDesc, values, nulls);
		answer->room--;
	}
}

/*
 * Look on until the answer is full, there is no more, or it has taken long enough.
 */
static void
fill(Answer *answer)
{
	TrFeed *feed = &answer->feed;
	bool ended = false;
	int looks;

	for (looks = 0; looks < MAX_LOOKS; looks++)
	{
		/* what was pruned takes a row, too */
		int32 room = answer->room - (answer->missed > 0 ? 1 : 0);

		if (room <= 0)
			break;
		CHECK_FOR_INTERRUPTS();
		ended = !tr_feed_next(feed, feed->realms == NULL ? room : Max(room, CHUNK), room);
		if (ended)
			break;
		if (feed->pruned)
		{
			answer->missed += feed->passed;
			answer->missed_upto = feed->position;
			continue;
		}
		if (feed->found > 0)
		{
			put_missed(answer);
			put_found(answer);
			answer->passed = 0;
		}
		answer->passed += feed->passed;
	}
	put_missed(answer);
	if (answer->room > 0 && answer->passed >= (ended ? WORTH_TELLING : 1))
		put_note(answer, "passed", feed->position, answer->passed);
}

/*
 * Where a consumer goes on that may not have acknowledged anything.  55000 where
 * its position is none of this trail.
 */
static void
begin(TrFeed *feed, const char *name)
{
	TrConsumer consumer = {.position = 0};

	feed->skip_pruned = !read_consumer(name, &consumer);
	if (consumer.position > tr_feed_newest())
		tr_raise_state(psprintf("consumer \"%s\" is ahead of the trail", name),
					   "Its position is beyond the newest event: it comes from another "
					   "installation, or the clock was set back before this one was made.",
					   "Delete its row from token_rotation.consumer, and have it begin anew.");
	tr_feed_begin(feed, consumer.position);
	feed->realms = tr_realms_readable();
}

PG_FUNCTION_INFO_V1(tr_events);

/*
 * tr_events(consumer, max_events): the next events.
 */
Datum
tr_events(PG_FUNCTION_ARGS)
{
	Answer answer = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	TrSection section;
	char *name;

	tr_catalog();
	name = arg_consumer(fcinfo);
	answer.room = DatumGetInt32(tr_arg(fcinfo, 1, "max_events"));
	if (answer.room < 1 || answer.room > MAX_EVENTS)
		tr_raise_value("max_events is out of range", "It must be 1 to 10000.",
					   "Leave it out for the default.");
	InitMaterializedSRF(fcinfo, 0);

	tr_section_begin(&section);
	begin(&answer.feed, name);
	fill(&answer);
	tr_section_end(&section);
	return (Datum) 0;
}

/*
 * Move a consumer, or make it.
 */
static int64
acknowledge(const char *name, int64 position)
{
	TrConsumer consumer;
	bool known = read_consumer(name, &consumer);

	/* somebody else may make it meanwhile: whose it is then is looked at again */
	if (!known && tr_consumer_make(name, GetUserNameFromId(tr_caller(), false), position))
		return position;
	if (!known && !read_consumer(name, &consumer))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("consumer \"%s\" was made and deleted meanwhile", name),
						errhint("Try again.")));
	tr_consumer_move(name, position);
	return Max(consumer.position, position);
}

PG_FUNCTION_INFO_V1(tr_ack);

/*
 * tr_ack(consumer, position): how far the consumer is then.
 */
Datum
tr_ack(PG_FUNCTION_ARGS)
{
	TrSection section;
	char *name;
	int64 position;

	tr_catalog();
	tr_xact_writes("tr_ack()");
	name = arg_consumer(fcinfo);
	position = DatumGetInt64(tr_arg(fcinfo, 1, "position"));

	tr_section_begin(&section);
	if (position < 0 || position > tr_feed_newest())
		tr_raise_value("position is out of range",
					   "There is no event of it, nor one that came later.",
					   "Pass a position that tr_events() or tr_events_head() has answered.");
	position = acknowledge(name, position);
	tr_section_end(&section);
	PG_RETURN_INT64(position);
}

PG_FUNCTION_INFO_V1(tr_events_head);

/*
 * tr_events_head(): the newest position.
 */
Datum
tr_events_head(PG_FUNCTION_ARGS)
{
	TrSection section;
	int64 newest;

	tr_catalog();
	tr_section_begin(&section);
	newest = tr_feed_newest();
	tr_section_end(&section);
	PG_RETURN_INT64(newest);
}
