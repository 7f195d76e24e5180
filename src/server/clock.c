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

void
tr_clock_watch(TimestampTz now)
{
	static bool begun = false;
	static int64 farthest; /* of the wall clock before the monotonic one */
	instr_time monotonic;
	int64 distance;

	INSTR_TIME_SET_CURRENT(monotonic);
	distance = now - (int64) INSTR_TIME_GET_MICROSEC(monotonic);
	if (!begun)
		farthest = distance + Max(newest_checkpoint(now) - now, 0);
	begun = true;

	if (farthest - distance > tr_rules().leeway)
	{
		ereport(LOG,
				(errmsg("the clock was set back"),
				 errdetail("It had reached %s.", timestamptz_to_str(now + (farthest - distance))),
				 errhint("Tokens whose end was not recorded yet live until it comes again.")));
		tr_visits_clock_set_back(now, now + (farthest - distance));
		farthest = distance;
	}
	farthest = Max(farthest, distance);
}

void
tr_clock_tell(void)
{
	TrDatabase *here = tr_visits_here();
	TimestampTz reached = (TimestampTz) pg_atomic_exchange_u64(&here->clock_reached, 0);
	TrEvent event;

	if (reached == 0)
		return;
	tr_event_begin(&event, TR_EVENT_CLOCK_SET_BACK);
	snprintf(event.detail, sizeof(event.detail), "{\"reached\": \"%s\"}", tr_event_moment(reached));
	(void) tr_ring_put(&event, true);
}
