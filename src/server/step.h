/*
 * step.h
 *	  What the steps of a worker's visit share: its time, and transactions.
 */
#ifndef TR_STEP_H
#define TR_STEP_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "frame/caller.h"

/*
 * A visit begins, and in it a step: from here on its time counts.
 */
extern void tr_step_visit_begins(void);
extern void tr_step_begins(void);

/*
 * May the step go on?  If not, the next visit continues it soon.  A step that
 * never comes to its end, under a flood of events, leaves time to the others.
 */
extern bool tr_step_go_on(void);

/*
 * The next visit is due at this time at the latest.
 */
extern void tr_step_visit_by(TimestampTz when);

/*
 * Something will be due by the clock.  What was due already when the step began
 * was left because somebody has it locked.
 */
extern void tr_step_visit_by_clock(TimestampTz when, TimestampTz step_began);

/*
 * When to look again at what was left because somebody has it locked: who lets go
 * of it asks for no visit.
 */
extern TimestampTz tr_step_again(void);

/*
 * When the next visit is due; TR_FOREVER: when somebody asks for it.
 */
extern TimestampTz tr_step_next_visit(void);

/*
 * Begin a transaction with a section in it; commit it.  Interrupts are held off
 * from the commit on, until what it made known has been taken out of shared
 * memory, and settled() says so.
 */
extern void tr_step_begin(TrSection *section);
extern void tr_step_commit(TrSection *section);
extern void tr_step_settled(void);

#endif /* TR_STEP_H */
