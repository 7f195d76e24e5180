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

#endif /* TR_AUDIT_H */
