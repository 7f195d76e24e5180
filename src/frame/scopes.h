/*
 * scopes.h
 *	  Lists of scopes (RFC 6749, section 3.3).  Scopes are names: they are compared
 *	  byte by byte, whatever the collation.
 */
#ifndef TR_SCOPES_H
#define TR_SCOPES_H

#include "postgres.h"

#include "utils/array.h"

/*
 * Take a list of scopes (text[]) apart; raises 22004 for one with NULLs.
 */
extern Datum *tr_scopes_elements(ArrayType *scopes, int *count);

/*
 * Is this scope among those?
 */
extern bool tr_scopes_hold(const Datum *scopes, int count, const text *scope);

#endif /* TR_SCOPES_H */
