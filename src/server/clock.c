/*
 * clock.c
 *	  Noticing that the clock was set back: see clock.h.
 *
 * The launcher compares the wall clock with the monotonic one, which nobody
 * sets: their distance only grows (the machine slept, or the clock was set
 * ahead) unless the clock is set back.  Small steps add up, because the largest
 * distance counts.  At its start it compares with the newest checkpoint, whose
 * time came with the data directory, over a restart and from another machine.
 */
#include "postgres.h"

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/timestamp.h"

#include "frame/event.h"
#include "frame/settings.h"
#include "frame/visits.h"
#include "server/clock.h"
#include "state/ring.h"
#include "state/stats.h"

/* In microseconds: what nobody calls setting a clock. */
#define NOISE USECS_PER_SEC

/*
 * The time of the newest checkpoint; of now where it cannot be read.
 */
static TimestampTz
newest_checkpoint(TimestampTz now)
{
	bool intact;
	ControlFileData *control = get_controlfile(DataDir, &intact);
	TimestampTz newest = intact ? time_t_to_timestamptz(control->checkPointCopy.time) : now;

	pfree(control);
	return newest;
}

/*
 * Microseconds of the monotonic clock.
 */
static int64
monotonic(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * The wall clock is read between two looks at the other one, so that who is held
 * up in between takes neither distance for a clock that was set.
 */
void
tr_clock_watch(void)
{
	static bool begun = false;
	static int64 farthest; /* of the wall clock before the monotonic one, at least */
	int64 before = monotonic();
	TimestampTz now = GetCurrentTimestamp();
	int64 least = now - monotonic();
	int64 behind;

	if (!begun)
		farthest = least + Max(newest_checkpoint(now) - now, 0);
	begun = true;

	behind = farthest - (now - before);
	if (behind > Max(tr_rules().leeway, NOISE))
	{
		ereport(LOG, (errmsg("the clock was set back"),
					  errdetail("It had reached %s.", timestamptz_to_str(now + behind)),
					  errhint("Tokens whose end was not recorded yet live until it comes again.")));
		tr_visits_clock_set_back(now, now + behind);
		farthest = least;
	}
	farthest = Max(farthest, least);
	tr_visits_clock_behind(Max(farthest - (now - before), 0));
}

void
tr_clock_tell(void)
{
	TrDatabase *here = tr_visits_here();
	TimestampTz reached = (TimestampTz) pg_atomic_exchange_u64(&here->clock_reached, 0);
	TrEvent event;

	if (reached == 0)
		return;
	tr_stats_add(tr_stats_of(NULL), TR_STAT_CLOCK_SET_BACK, 1);
	tr_event_begin(&event, TR_EVENT_CLOCK_SET_BACK);
	snprintf(event.detail, sizeof(event.detail), "{\"reached\": \"%s\"}", tr_event_moment(reached));
	(void) tr_ring_put(&event, true);
}
