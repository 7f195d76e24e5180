/*
 * authenticate.h
 *	  Binding the client of a token to the transaction.
 */
#ifndef TR_AUTHENTICATE_H
#define TR_AUTHENTICATE_H

#include "postgres.h"

#include "verbs/validation.h"

typedef enum TrAuthenticated
{
	TR_BOUND,
	TR_REFUSED,	 /* the validation says why */
	TR_NO_SCOPE, /* it is valid, but lacks the scope that is asked for */
} TrAuthenticated;

/*
 * Validate a token and bind its client, instead of whom was bound before; where it
 * is refused nobody is, also if the caller catches the error and goes on.  scope
 * and origin may be NULL; by_request: as TrIdentity has it.
 */
extern TrAuthenticated tr_authenticate_token(const text *token, const text *scope,
											 const text *origin, bool by_request,
											 TrValidation *validation);

#endif /* TR_AUTHENTICATE_H */
