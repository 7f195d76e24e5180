/*
 * token_hash.h
 *	  The hashes that are stored for a token: making and checking them.
 *
 * Without a server key (key_id 0) they are the SHA-256 of the secrets.  With one
 * they are keyed hashes over the secrets and what must not change in the row
 * (core/mac.h): secret_hash is 16 bytes that vouch for the row, and 16 that
 * vouch for row and secret together; rotation_hash is 32 bytes that vouch for row
 * and rotation key.  The former 16 are for those who have no secret to show.
 *
 * What checks answer:
 *
 *	ok			it is right
 *	bad_secret	the secret is wrong, or the row was changed, or it has no key and
 *				accept_unkeyed_until is over
 *	disabled	its key is not at hand, which is logged
 */
#ifndef TR_TOKEN_HASH_H
#define TR_TOKEN_HASH_H

#include "postgres.h"

#include "frame/record.h"

/*
 * Fill in key_id and hashes of a token whose row is complete but for them, under
 * the newest key.  secret and rotation_key are SHA-256 of the secrets;
 * has_rotation_hash says whether the latter counts.  Raises 55000 where a key is
 * asked for and none is at hand.
 */
extern void tr_token_hash_make(TrToken *token, const uint8 *secret, const uint8 *rotation_key);

/*
 * Is this SHA-256 the one of the token's secret?  NULL, no such token, takes the
 * same work.
 */
extern TrReason tr_token_hash_check(const TrToken *token, const uint8 *secret);

/*
 * Likewise of its rotation key; false where not, or where it has none.
 */
extern bool tr_token_hash_check_rotation(const TrToken *token, const uint8 *rotation_key);

/*
 * Is the row one that this server made?  For those who act on a row without
 * having seen its secret, and make another one of it.
 */
extern TrReason tr_token_hash_check_row(const TrToken *token);

#endif /* TR_TOKEN_HASH_H */
