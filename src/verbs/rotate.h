/*
 * rotate.h
 *	  One rotation, on its way through rotate.c and replay.c.
 */
#ifndef TR_ROTATE_H
#define TR_ROTATE_H

#include "postgres.h"

#include "verbs/mint.h"
#include "verbs/note.h"
#include "verbs/present.h"

typedef struct TrRotate
{
	/* What is asked for. */
	bool by_id; /* an operator's: random secret, never replayed */
	bool has_overlap;
	int64 overlap;
	const text *origin;
	const char *proof; /* secret of the token or the rotation key that was presented */

	/* What becomes of it. */
	TimestampTz now;
	TrToken token;
	TrToken successor;
	TrSecrets secrets; /* the successor's */
	bool replayed;
	bool pending; /* the successor waits for its first use */
	bool held_up; /* by the circuit: refused if the proof is right */
} TrRotate;

/*
 * Hand out the successor that exists again; the family is locked.  TR_OK, or
 * why not.  The same text as before, unless its nonce was lost in a crash and
 * the successor was never used: then it gets a new secret, which is audited as
 * reissued and answered with replayed = false.
 */
extern TrReason tr_replay(TrRotate *rotate);

/*
 * Was this token, which is locked, ever accepted, as far as this server knows?
 */
extern bool tr_replay_accepted(const TrToken *token);

#endif /* TR_ROTATE_H */
