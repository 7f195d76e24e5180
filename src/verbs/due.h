/*
 * due.h
 *	  Telling of what nobody does: moments that pass, and a new server key.
 */
#ifndef TR_DUE_H
#define TR_DUE_H

#include "postgres.h"

/*
 * Write the events rotation_due, unclaimed and expiring for moments that have
 * passed since the last call, at most about max of each kind, and key_changed.
 * Called by the worker inside a section, in a short transaction.  true: there is
 * more.
 */
extern bool tr_due_run(int max);

#endif /* TR_DUE_H */
