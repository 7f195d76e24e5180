/*
 * launcher.h
 *	  The background process that starts the workers.
 */
#ifndef TR_LAUNCHER_H
#define TR_LAUNCHER_H

#include "postgres.h"

/*
 * Have the postmaster run the launcher, on a primary and after a promotion.
 */
extern void tr_launcher_register(void);

/*
 * Its entry point.
 */
extern PGDLLEXPORT void tr_launcher_main(Datum arg);

#endif /* TR_LAUNCHER_H */
