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
	const char *proof;	   /* secret of the token or the rotation key that was presented */
	const char *sealed_to; /* by_id, and the server's: fingerprint of the key to deliver to */

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
 * Make the successor, or hand it out again, of a token whose family is locked.
 * TR_OK, or why not; the caller gives the secrets to whom they are for, and wipes
 * them.
 */
extern TrReason tr_rotate_locked(TrRotate *rotate);

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
