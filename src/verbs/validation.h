/*
 * validation.h
 *	  Validating a token, for every verb that accepts one instead of a client.
 */
#ifndef TR_VALIDATION_H
#define TR_VALIDATION_H

#include "postgres.h"

#include "core/lifecycle.h"
#include "frame/record.h"
#include "state/stats.h"

/* What validation found out. */
typedef struct TrValidation
{
	TrReason reason;
	bool parsed; /* the id is known */
	bool proven; /* the secret matched: token is filled */
	bool looked_up;
	TrStat level; /* that answered, if it was looked up */
	uint8 id[TR_ID_BYTES];
	TrToken token;
	TimestampTz valid_until;
	bool degraded; /* its scopes are what degraded mode leaves */
} TrValidation;

/*
 * Validate one token, NULL included, and count or record the outcome; origin, where
 * the request came from, may be NULL.  The record lives in CurrentMemoryContext.
 * Never raises a verdict; 53400 where a refusal cannot be recorded and
 * audit_overflow says fail.
 */
extern void tr_validation(const text *value, const text *origin, TrValidation *validation);

#endif /* TR_VALIDATION_H */
