/*
 * seal_lock.h
 *	  Who may touch the seals of the audit trail now.
 *
 * One lock, which stands for no row and no table: seals are made by one at a
 * time, none is made while rows are pruned, and none while a session is connected
 * that restores the trail.  Rows and seals of a dump do not come at once; sealed in
 * between, rows would be in two seals.
 */
#ifndef TR_SEAL_LOCK_H
#define TR_SEAL_LOCK_H

#include "postgres.h"

/*
 * Take it until the end of the transaction.  The first one does not wait; false:
 * another has it.
 */
extern bool tr_seal_lock_try(void);
extern void tr_seal_lock_wait(void);

/*
 * Keep others from taking it until this session ends, because it restores.  A
 * transaction that fails lets them.  Returns a number that changes where they
 * may have had it since the last call.
 */
extern uint32 tr_seal_lock_restoring(void);

#endif /* TR_SEAL_LOCK_H */
