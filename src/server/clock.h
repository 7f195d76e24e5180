/*
 * clock.h
 *	  Noticing that the clock was set back.
 *
 * Verdicts go by the wall clock.  What was recorded as ended stays so on a
 * clock that is set back; what was not yet is valid again until its time comes.
 * Nothing can be done about that but to tell the auditors.
 */
#ifndef TR_CLOCK_H
#define TR_CLOCK_H

#include "postgres.h"

/*
 * For the launcher, in each of its turns: notice that the clock was set back
 * beyond the leeway, and have every database told.
 */
extern void tr_clock_watch(void);

/*
 * For a worker, before its tasks: put what was noticed into the ring.
 */
extern void tr_clock_tell(void);

#endif /* TR_CLOCK_H */
