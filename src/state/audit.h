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
 * Where did the last rotation of this event's token come from, and who made it
 * ("holder", "operator", "sealed"), as the trail has it?  Empty: unknown.  Called inside a
 * section; both have TR_EVENT_TEXT bytes.
 */
extern void tr_audit_rotation(const TrEvent *event, char *origin, char *by);

#endif /* TR_AUDIT_H */
