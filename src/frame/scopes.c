/*
 * scopes.c
 *	  Lists of scopes: see scopes.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "frame/compat.h"
#include "frame/scopes.h"

Datum *
tr_scopes_elements(ArrayType *scopes, int *count)
{
	Datum *values;

	deconstruct_array(scopes, TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, count);
	return values;
}

bool
tr_scopes_hold(const Datum *scopes, int count, const text *scope)
{
	size_t len = VARSIZE_ANY_EXHDR(scope);
	int i;

	for (i = 0; i < count; i++)
	{
		const text *candidate = (const text *) DatumGetPointer(scopes[i]);

		if (VARSIZE_ANY_EXHDR(candidate) == len &&
			memcmp(VARDATA_ANY(candidate), VARDATA_ANY(scope), len) == 0)
			return true;
	}
	return false;
}
