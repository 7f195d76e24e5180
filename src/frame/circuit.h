/*
 * circuit.h
 *	  The circuit breaker: while writes fail, nobody rotates.
 *
 * A full disk fails every rotation, after the work was done, with an error that
 * clients can do nothing about.  When so many writes in a row have failed
 * (token_rotation.circuit_threshold), the circuit of the database opens: a
 * rotation is refused before it begins, and the token that it was for stays
 * good.  After token_rotation.circuit_timeout one rotation is let through, and
 * what becomes of it decides; so does what the worker writes then, where nobody
 * rotates.  Nothing but rotation is refused.
 */
#ifndef TR_CIRCUIT_H
#define TR_CIRCUIT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/spin.h"

/* The circuit of one database, in shared memory; all zero is closed. */
typedef struct TrCircuit
{
	/* Changed under the lock, read also without. */
	pg_atomic_uint32 open;	   /* 1: it is */
	pg_atomic_uint32 failures; /* while closed: writes in a row that failed */

	slock_t lock;
	/* Under the lock. */
	TimestampTz next;	   /* while open: from when on a rotation is let through */
	TimestampTz failed_at; /* when it opened, or what was let through failed last */
	int error;			   /* SQLSTATE of that */
	TimestampTz opened_at; /* what the audit trail has not been told; 0: nothing */
	TimestampTz closed_at; /* the same of its end; 0: it is open */
	int uncounted;		   /* openings that tr_stat has not been told */
} TrCircuit;

/* What the worker has to write. */
typedef struct TrCircuitStory
{
	TimestampTz opened_at;
	TimestampTz closed_at;
	int error;
} TrCircuitStory;

/*
 * Is the circuit of the current database open?  One atomic read; false on a
 * standby, which writes nothing.
 */
extern bool tr_circuit_is_open(void);

/*
 * Is it open, and is it nobody's turn to try?  Then a rotation is refused
 * before it has locked or written anything, also in a READ ONLY transaction.  So
 * it is in one that the server's configuration has made READ ONLY.
 */
extern bool tr_circuit_refuses(void);

/*
 * May this transaction rotate now?  Always while the circuit is closed; of those
 * who ask when it is time to try, one.  How its transaction ends decides; where
 * that tells nothing, because it wrote nothing or was rolled back, the next one
 * is let through.  So it is when it has not ended after another timeout.
 */
extern bool tr_circuit_enter(void);

/*
 * A statement has added rows.  It counts when its transaction has committed.
 */
extern void tr_circuit_wrote(void);

/*
 * A statement that writes has failed; from PG_CATCH, with the error at hand, in a
 * memory context that is not ErrorContext.  Counts where the error says that the
 * storage is broken.  Never raises.
 */
extern void tr_circuit_failed(void);

/*
 * Does the server's configuration make transactions READ ONLY, unless a session
 * wants them otherwise?  The launcher, who sees no settings but the server's, says
 * so.
 */
extern bool tr_circuit_read_only(void);
extern void tr_circuit_set_read_only(bool read_only);

/*
 * For the worker: is there something to write down?  That is the story of a
 * circuit that was open, or, when it is time to try, of one that is, for which the
 * next transaction of this process decides.  *look says when to ask again;
 * TR_FOREVER: after the next opening or closing, which asks for a visit.
 */
extern bool tr_circuit_tell(TrCircuitStory *story, TimestampTz *look);

/*
 * It was written and committed.
 */
extern void tr_circuit_told(const TrCircuitStory *story);

/*
 * How often it has opened since this was asked last; for the worker, who counts.
 */
extern int tr_circuit_openings(void);

/*
 * Register the callback; from _PG_init.
 */
extern void tr_circuit_init(void);

#endif /* TR_CIRCUIT_H */
