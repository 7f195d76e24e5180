/*
 * audit.h
 *	  The append-only trail.
 */
#ifndef TR_AUDIT_H
#define TR_AUDIT_H

#include "postgres.h"

#include "frame/event.h"

/*
 * Write one row, in the current transaction, as token_rotation_worker.  Called
 * inside a section.  detail is JSON text that takes the place of
 * event->detail; NULL: that one.
 */
extern void tr_audit_write(const TrEvent *event, const char *detail);

/*
 * Where did the last rotation of this event's token come from, as the trail has
 * it?  false: unknown.  Called inside a section; origin has TR_EVENT_TEXT bytes.
 */
extern bool tr_audit_rotation_origin(const TrEvent *event, char *origin);

#endif /* TR_AUDIT_H */
