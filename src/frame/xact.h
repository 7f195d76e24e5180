/*
 * xact.h
 *	  What a transaction that changes tokens owes at its end.
 */
#ifndef TR_XACT_H
#define TR_XACT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Called by every verb before it changes anything: raises 25006 in a read-only
 * transaction and on a standby.  From here on the transaction commits
 * synchronously (synchronous_commit is raised to at least on at pre-commit) and
 * refuses PREPARE TRANSACTION with 0A000.
 */
extern void tr_xact_writes(const char *verb);

/*
 * May this transaction have made a token that was issued at that time?  If so,
 * perhaps nobody else can see it before the commit.
 */
extern bool tr_xact_may_have_made(TimestampTz issued_at);

/*
 * Have the worker visit this database at that time or earlier, once this
 * transaction has committed.
 */
extern void tr_xact_visit_at(TimestampTz when);

/*
 * Have the worker fill the cache anew, once this transaction has committed:
 * somebody changes tokens by other means than the verbs.
 */
extern void tr_xact_by_hand(void);

/*
 * Register the callbacks; from _PG_init.
 */
extern void tr_xact_init(void);

#endif /* TR_XACT_H */
