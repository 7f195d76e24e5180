/*
 * worker.h
 *	  The background process that visits one database.
 */
#ifndef TR_WORKER_H
#define TR_WORKER_H

#include "postgres.h"

/*
 * Its entry point; the argument is the oid of the database.
 */
extern PGDLLEXPORT void tr_worker_main(Datum arg);

#endif /* TR_WORKER_H */
