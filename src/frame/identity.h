/*
 * identity.h
 *	  Who the transaction acts for: the identity that a token has proven.
 *
 * It lives in this backend's memory, so that no setting, table or function of a
 * caller can forge it, and ends with the transaction, so that behind a pooler no
 * other client inherits it.  A rollback to a savepoint brings back what was bound
 * when the savepoint was made.
 */
#ifndef TR_IDENTITY_H
#define TR_IDENTITY_H

#include "postgres.h"

#include "utils/array.h"

#include "core/token_text.h"

typedef struct TrIdentity
{
	uint8 token[TR_ID_BYTES];
	text *client_id;
	text *owner;	   /* the realm */
	ArrayType *scopes; /* text[] without NULLs */
	bool by_request;   /* bound by tr_pre_request: errors are HTTP's */
} TrIdentity;

/*
 * Bind an identity to the transaction, instead of what was bound; it is copied.
 */
extern void tr_identity_bind(const TrIdentity *identity);

/*
 * Have nobody bound, whatever savepoint is rolled back to later.
 */
extern void tr_identity_clear(void);

/*
 * Who is bound; NULL: nobody.  Lives until something else is bound, or until a
 * rollback: copy what goes to a caller.
 */
extern const TrIdentity *tr_identity(void);

/*
 * Has who is bound this scope?  Nobody has none.
 */
extern bool tr_identity_has_scope(const text *scope);

/*
 * Was another client, or one of another realm, bound last in this transaction,
 * whatever became of it?  Then who.  NULL: the same, or nobody.
 */
extern const char *tr_identity_other_before(const TrIdentity *identity);

/*
 * Register the callbacks; from _PG_init.
 */
extern void tr_identity_init(void);

#endif /* TR_IDENTITY_H */
