/*
 * edit.h
 *	  What a DBA has done to a row of one of the extension's tables with SQL:
 *	  for the triggers of tables that are edited so.
 */
#ifndef TR_EDIT_H
#define TR_EDIT_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "commands/trigger.h"
#include "fmgr.h"

/*
 * The trigger's data, once it is certain that this is a trigger on the table
 * token_rotation.<name> with this oid; 39P01 if not.
 */
extern TriggerData *tr_edit_trigger(FunctionCallInfo fcinfo, Oid table, const char *name);

/*
 * A column of a row by name.
 */
extern Datum tr_edit_column(HeapTuple row, TupleDesc desc, const char *name, bool *isnull);

/*
 * Do two rows differ in this column?
 */
extern bool tr_edit_differs(HeapTuple one, HeapTuple two, TupleDesc desc, int number);

/* A text column that tells which row it was, and its key in the trail. */
typedef struct TrEditKey
{
	const char *key;
	const char *column;
} TrEditKey;

/*
 * Write the audit row of an AFTER ROW trigger: the operation, the keys of the row
 * (of the old one, where there is one), and the columns that are new or differ.
 * A restore brings the old trail with it, so nothing is written for what it does,
 * and nothing for an update that changes nothing.
 */
extern void tr_edit_audit(const TriggerData *data, const char *event, const TrEditKey *keys,
						  int count);

#endif /* TR_EDIT_H */
