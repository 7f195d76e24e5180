/*
 * interval.h
 *	  Intervals as microseconds, and back.
 */
#ifndef TR_INTERVAL_H
#define TR_INTERVAL_H

#include "postgres.h"

#include "utils/timestamp.h"

/*
 * An interval in microseconds as PostgreSQL compares intervals (a month is 30
 * days, a day 24 hours).  false: it is infinite or does not fit.
 */
extern bool tr_interval_usec(const Interval *interval, int64 *usec);

/*
 * Microseconds as an interval, without days and months, which have no fixed length
 * elsewhere; palloced.
 */
extern Datum tr_interval_datum(int64 usec);

#endif /* TR_INTERVAL_H */
