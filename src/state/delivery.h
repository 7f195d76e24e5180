/*
 * delivery.h
 *	  The tables delivery and delivery_key: successors on their way to holders
 *	  who cannot come, and the keys that they are encrypted to.
 *
 * Everything is called inside a section.  A version of the extension that has no
 * such tables yet has no keys and no deliveries.
 */
#ifndef TR_DELIVERY_H
#define TR_DELIVERY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#include "core/pgp_key.h"
#include "frame/record.h"

#define TR_FINGERPRINT_SIZE (2 * TR_PGP_FINGERPRINT_BYTES + 1)

/* A key, as stored. */
typedef struct TrDeliveryKey
{
	bytea *public_key; /* primary key and subkey, nothing else; NULL: it was dropped */
	char fingerprint[TR_FINGERPRINT_SIZE]; /* of the primary key, in hexadecimal digits */
	TimestampTz expires_at;				   /* TR_FOREVER: never */
} TrDeliveryKey;

/* A delivery, as found. */
typedef struct TrDelivery
{
	uint8 token[TR_ID_BYTES]; /* the successor */
	text *client_id;
	text *owner;
	text *fingerprint;
	text *message;
	TimestampTz made_at;
	TimestampTz ends_at;
	int32 fetches; /* before this one */
} TrDelivery;

/*
 * Let nobody else change the keys of this client, or of any (NULL), until the end
 * of the transaction.
 */
extern void tr_delivery_lock_keys(const text *client_id);

/*
 * The newest key of a client in a realm that has taken effect.  false: none ever
 * has.  It may have been dropped, or have expired.
 */
extern bool tr_delivery_key(const text *client_id, const text *owner, TimestampTz now,
							TrDeliveryKey *key);

/*
 * Has the client ever had a key in this realm, or ("") in any?
 */
extern bool tr_delivery_has_key(const text *client_id, const text *owner);

/*
 * When a key that replaces another one now may take effect: after the longest ttl
 * of a policy that delivers.
 */
extern TimestampTz tr_delivery_key_due(TimestampTz now);

/*
 * Store a key, or that there is none, which takes effect then; one that was
 * waiting in this very realm goes, and those that an effective one has replaced.
 * The empty owner speaks for every realm: what waits in any goes, and where there
 * is to be none, what is in effect there, too.
 */
extern void tr_delivery_put_key(const text *client_id, const text *owner, const TrDeliveryKey *key,
								TimestampTz now, TimestampTz effective_at);

/*
 * Does a key wait in this very realm to take effect?  For the empty owner: has any
 * realm a key?
 */
extern bool tr_delivery_key_waits(const text *client_id, const text *owner, TimestampTz now);

/*
 * Store a delivery of a successor, to be erased when its predecessor's window ends.
 */
extern void tr_delivery_put(const TrToken *predecessor, const TrToken *successor,
							const char *fingerprint, const text *message);

/*
 * Up to max deliveries in these realms (NULL: all) that have not ended, of a client
 * (NULL: of all), those first that were not fetched for longest: a list of
 * TrDelivery *.
 */
extern List *tr_delivery_list(ArrayType *realms, const text *client_id, TimestampTz now, int max);

/*
 * Count that one was fetched.  false: it was erased meanwhile.
 */
extern bool tr_delivery_fetched(const TrDelivery *delivery, TimestampTz now);

/*
 * The window of this predecessor ends at another time; likewise.
 */
extern void tr_delivery_move_end(const uint8 *predecessor, TimestampTz ends_at);

/*
 * Erase the delivery of this token, or of its successor.  One that somebody is just
 * fetching is passed over: it ends by itself, and is not given out again when its
 * token is dead.
 */
extern void tr_delivery_erase(const uint8 *id);

/*
 * Erase up to max whose window has ended, in these realms (NULL: all); those that
 * somebody holds are left for the next time.
 */
extern void tr_delivery_erase_ended(TimestampTz now, ArrayType *realms, int max);

/*
 * Erase those of tokens that were issued before this: of a client, of a policy, or
 * (both NULL) of all, in these realms (NULL: all).
 */
extern void tr_delivery_erase_cut(const char *client_id, const char *policy, TimestampTz before,
								  ArrayType *realms);

/*
 * Move keys and deliveries of a realm to another.
 */
extern void tr_delivery_set_owner(const char *from, const char *to);

#endif /* TR_DELIVERY_H */
