/*
 * delivery.h
 *	  Delivering successors to holders who cannot come.
 */
#ifndef TR_VERBS_DELIVERY_H
#define TR_VERBS_DELIVERY_H

#include "postgres.h"

#include "state/delivery.h"
#include "verbs/rotate.h"

/*
 * The key that the successor of a token may be encrypted to now.  false: its
 * client has none, or it has expired.
 */
extern bool tr_deliver_key(const TrToken *token, TimestampTz now, TrDeliveryKey *key);

/*
 * Encrypt what a rotation has made to a key and store it; wipes the secrets.
 */
extern void tr_deliver(TrRotate *rotate, const TrDeliveryKey *key);

#endif /* TR_VERBS_DELIVERY_H */
