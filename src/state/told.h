/*
 * told.h
 *	  How far the worker has told of what nobody does: the table told.
 *
 * For each event, and each lead time of it, the moment up to which it has been told:
 * stored in the transaction that writes the events, so each is told once whatever
 * happens.  Called inside a section, by the worker only, of which a database has one.
 */
#ifndef TR_TOLD_H
#define TR_TOLD_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Up to when has it been told; TR_NEVER: it was not begun.  lead is in
 * microseconds.
 */
extern TimestampTz tr_told_until(const char *event, int64 lead);

/*
 * Store that.  key is the number of the server key, or -1 where that is no matter.
 */
extern void tr_told_store(const char *event, int64 lead, TimestampTz until, int32 key);

/*
 * Forget the lead times of an event but for these.
 */
extern void tr_told_keep(const char *event, const int64 *leads, int count);

/*
 * The number of the server key that was last told of; -1: none was.
 */
extern int32 tr_told_key(const char *event);

#endif /* TR_TOLD_H */
