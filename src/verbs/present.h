/*
 * present.h
 *	  A token or rotation key that somebody presents.
 */
#ifndef TR_PRESENT_H
#define TR_PRESENT_H

#include "postgres.h"

#include "utils/snapshot.h"

#include "frame/compat.h"
#include "frame/record.h"

/* The secret points into the caller's text. */
typedef struct TrPresented
{
	TrTokenText text;
	uint8 hash[TR_HASH_BYTES]; /* SHA-256 of the secret */
} TrPresented;

/*
 * Read and hash what is presented; the hashing is the same whether or not such
 * a token exists.  false: malformed (NULL is, too).
 */
extern bool tr_present(const text *value, TrPresented *presented);

/*
 * What may be told of a token that was found, or not, before anything else is:
 * ok, unknown (also for a realm that the caller is not a member of), bad_secret,
 * or disabled where the server key of the token is not at hand.  Each takes the
 * same hashing.
 */
extern TrReason tr_present_match(const TrPresented *presented, bool found, const TrToken *token);

/*
 * Is what was presented the rotation key of this token?  NULL: there is none, and
 * the comparison is made all the same.
 */
extern bool tr_present_match_key(const TrPresented *presented, const TrToken *token);

/*
 * Read the token that was presented, without a lock, and match it: malformed,
 * unknown, bad_secret, disabled or ok.
 */
extern TrReason tr_present_read(const text *value, TrPresented *presented, TrToken *token);

/*
 * Raise 55000: what was presented cannot be ended, for it cannot be told whether
 * it is genuine (disabled).
 */
pg_noreturn extern void tr_present_raise_disabled(void);

/*
 * Read a token that an operator names by its id.  false: unknown, or of a realm
 * that he is not a member of.
 */
extern bool tr_present_read_id(const uint8 *id, TrToken *token);

/*
 * The same, and lock it; one of another realm must not even be locked.
 */
extern bool tr_present_lock_id(const uint8 *id, TrToken *token);

#endif /* TR_PRESENT_H */
