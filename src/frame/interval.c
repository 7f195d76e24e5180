/*
 * interval.c
 *	  Intervals as microseconds, and back: see interval.h.
 */
#include "postgres.h"

#include "common/int.h"

#include "frame/compat.h"
#include "frame/interval.h"

/*
 * Days and the rest of a day get the same sign first, so that the product
 * overflows only where the sum does too.
 */
bool
tr_interval_usec(const Interval *interval, int64 *usec)
{
	int64 days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	int64 rest = interval->time % USECS_PER_DAY;

	if (INTERVAL_NOT_FINITE(interval))
		return false;
	days += interval->time / USECS_PER_DAY;
	if (days > 0 && rest < 0)
	{
		days--;
		rest += USECS_PER_DAY;
	}
	else if (days < 0 && rest > 0)
	{
		days++;
		rest -= USECS_PER_DAY;
	}
	return !pg_mul_s64_overflow(days, USECS_PER_DAY, usec) &&
		   !pg_add_s64_overflow(*usec, rest, usec);
}

Datum
tr_interval_datum(int64 usec)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = usec;
	return IntervalPGetDatum(interval);
}
