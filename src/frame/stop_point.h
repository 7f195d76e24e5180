/*
 * stop_point.h
 *	  Named points at which a developer build can be stopped or killed.
 *
 * Some races lie within one call: between what it reads and what it makes of
 * it, or between a commit and its acknowledgement.  No order of statements and
 * no timing reaches them, so the places are named, and a test decides who is
 * there when.  Only a build with STOP_POINTS=1 has them; in every other one
 * TR_STOP_POINT is nothing.
 *
 * A point may be where a wait for a lock is possible: not under an LWLock or a
 * spinlock.  At the commit itself interrupts are held off: who is stopped
 * there cannot be cancelled.
 */
#ifndef TR_STOP_POINT_H
#define TR_STOP_POINT_H

#ifdef TR_STOP_POINTS

/*
 * Pass the point of this name, or stop there.
 */
extern void tr_stop_point(const char *name);

/*
 * Define the settings stop_at and kill_at; from _PG_init.
 */
extern void tr_stop_point_define(void);

#define TR_STOP_POINT(name) tr_stop_point(name)
#define TR_STOP_POINT_DEFINE() tr_stop_point_define()

#else

#define TR_STOP_POINT(name) ((void) 0)
#define TR_STOP_POINT_DEFINE() ((void) 0)

#endif /* TR_STOP_POINTS */

#endif /* TR_STOP_POINT_H */
