/*
 * record.h
 *	  A token's record as it is passed between the stores and the verbs.
 *
 * The pointers lead into one copy of the stored tuple, in the memory context
 * that was current when it was read.  Texts may have short varlena headers:
 * use the _ANY macros.
 */
#ifndef TR_RECORD_H
#define TR_RECORD_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "core/lifecycle.h"
#include "core/secret.h"

StaticAssertDecl(UUID_LEN == TR_ID_BYTES, "a token id is a uuid");

typedef struct TrToken
{
	uint8 id[TR_ID_BYTES];
	TrLife life; /* cutoff and blocked are filled by state/cutoff.c */
	TimestampTz refresh_at;
	int32 key_id; /* number of the server key that the hashes are made with; 0: none */
	uint8 secret_hash[TR_HASH_BYTES];
	text *client_id;
	text *policy;
	text *owner;
	Datum scopes;			   /* text[] */
	Datum metadata;			   /* jsonb */
	TimestampTz first_used_at; /* TR_NEVER: not yet */
	TimestampTz last_used_at;  /* likewise */

	/* The cache knows these two only where there is a key_id. */
	uint8 family[TR_ID_BYTES];
	bool has_rotation_hash;

	/* From here on known to token only, not to the cache. */
	text *prefix;
	int32 generation;
	bool has_predecessor;
	uint8 predecessor[TR_ID_BYTES];
	uint8 rotation_hash[TR_HASH_BYTES];
	Interval *ttl; /* NULL: the policy's */
	int risk;	   /* score that its life was shortened by; known while it is made only */
	TimestampTz revoked_at;
	text *revoked_reason;
} TrToken;

#endif /* TR_RECORD_H */
