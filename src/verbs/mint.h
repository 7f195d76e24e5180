/*
 * mint.h
 *	  Making tokens, for issue and rotation.
 */
#ifndef TR_MINT_H
#define TR_MINT_H

#include "postgres.h"

#include "frame/record.h"
#include "state/policy.h"

/* The secrets of a new token; wiped as soon as the answer is made. */
typedef struct TrSecrets
{
	char token[TR_SECRET_CHARS];
	char rotation[TR_SECRET_CHARS];
	bool has_rotation;
} TrSecrets;

/*
 * Read a policy, after locking out its deletion; 42704 when it is unknown.  The
 * second one locks nothing.
 */
extern void tr_mint_policy(const char *name, TrPolicy *policy);
extern void tr_mint_find_policy(const char *name, TrPolicy *policy);

/*
 * Raise 22023 unless the policy allows all of these scopes (text[]).
 */
extern void tr_mint_check_scopes(const TrPolicy *policy, Datum scopes);

/*
 * Fill random bytes; raises 58000 when the system has none.
 */
extern void tr_mint_random(void *bytes, size_t len);

/*
 * Draw a token id.
 */
extern void tr_mint_id(uint8 id[TR_ID_BYTES]);

/*
 * Draw the secrets that a policy asks for.
 */
extern void tr_mint_secrets(const TrPolicy *policy, TrSecrets *secrets);

/*
 * Derive them from the proof of the predecessor's holder and a nonce.
 */
extern void tr_mint_derive(const char *proof, const uint8 *nonce, const uint8 *predecessor,
						   const uint8 *successor, bool rotation_key, TrSecrets *secrets);

/*
 * Put the hashes of the secrets into the record, which is complete but for them.
 */
extern void tr_mint_hashes(TrToken *token, const TrSecrets *secrets);

/*
 * Start the life of a new token, whose client, realm, scopes and metadata are
 * set: active from now on for the policy's ttl as the risk rules shorten it, or
 * the record's own shorter one, bounded by the family's age.  false: the family
 * is too old for any more life.
 */
extern bool tr_mint_life(TrToken *token, const TrPolicy *policy, TimestampTz now,
						 TimestampTz family_birth);

/*
 * Columns of the answer that tr_issue and tr_rotate share, in their order.
 * pending: the token is a successor that waits for its first use.
 */
#define TR_MINT_COLUMNS 12

extern void tr_mint_answer(const TrToken *token, const TrSecrets *secrets, bool pending,
						   Datum *values, bool *nulls);

#endif /* TR_MINT_H */
