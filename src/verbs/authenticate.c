/*
 * authenticate.c
 *	  Binding the client of a token to the transaction: see authenticate.h.
 *
 * The refusal of a scope and the change to another client are handed to the worker
 * before anybody is bound, so that an identity whose change cannot be recorded
 * (audit_overflow = fail) is not taken on.
 */
#include "postgres.h"

#include "frame/identity.h"
#include "frame/scopes.h"
#include "verbs/args.h"
#include "verbs/authenticate.h"
#include "verbs/note.h"

/*
 * Has a valid token this scope?
 */
static bool
has_scope(const TrIdentity *identity, const text *scope)
{
	int count;
	Datum *scopes = tr_scopes_elements(identity->scopes, &count);

	return tr_scopes_hold(scopes, count, scope);
}

/*
 * Validate, and bind who it is; whatever is not bound leaves whom there was.
 */
static TrAuthenticated
prove(const text *token, const text *scope, const text *origin, bool by_request,
	  TrValidation *validation)
{
	TrIdentity identity = {.by_request = by_request};
	const char *before;

	if (scope != NULL)
		tr_check_scope(scope);
	tr_validation(token, origin, validation);
	if (validation->reason != TR_OK)
		return TR_REFUSED;

	memcpy(identity.token, validation->token.id, TR_ID_BYTES);
	identity.client_id = validation->token.client_id;
	identity.owner = validation->token.owner;
	identity.scopes = DatumGetArrayTypeP(validation->token.scopes);
	if (scope != NULL && !has_scope(&identity, scope))
	{
		tr_note_scope_refused(&identity, scope, origin);
		return TR_NO_SCOPE;
	}
	before = tr_identity_other_before(&identity);
	if (before != NULL)
		tr_note_identity_changed(&identity, before, origin);
	tr_identity_bind(&identity);
	return TR_BOUND;
}

/*
 * An error, such as a scope that is none, is a refusal, too.
 */
TrAuthenticated
tr_authenticate_token(const text *token, const text *scope, const text *origin, bool by_request,
					  TrValidation *validation)
{
	TrAuthenticated answer;

	PG_TRY();
	{
		answer = prove(token, scope, origin, by_request, validation);
	}
	PG_CATCH();
	{
		tr_identity_clear();
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (answer != TR_BOUND)
		tr_identity_clear();
	return answer;
}
