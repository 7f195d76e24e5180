/*
 * tasks.h
 *	  What a worker does in a database that has the extension.
 */
#ifndef TR_TASKS_H
#define TR_TASKS_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Do what there is to do, but not for longer than a visit may last.  *doing is
 * kept up to date for error messages.  Returns when the next visit is due;
 * TR_FOREVER: when somebody asks for it.
 */
extern TimestampTz tr_tasks_run(const char **doing);

#endif /* TR_TASKS_H */
