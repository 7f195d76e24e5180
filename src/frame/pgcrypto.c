/*
 * pgcrypto.c
 *	  Functions of the extension pgcrypto: see pgcrypto.h.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "frame/pgcrypto.h"

#define LIBRARY "$libdir/pgcrypto"

/* Of a text that is random nothing can be compressed. */
#define OPTIONS "cipher-algo=aes256, compress-algo=0"

/*
 * A C function of pgcrypto.
 */
static PGFunction
function_of(const char *name)
{
	return (PGFunction) load_external_function(LIBRARY, name, true, NULL);
}

text *
tr_pgcrypto_encrypt(const text *plain, const bytea *key)
{
	static PGFunction encrypt = NULL;
	static PGFunction armor = NULL;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "token_rotation encryption",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	Datum message;
	text *result;

	if (encrypt == NULL)
		encrypt = function_of("pgp_pub_encrypt_text");
	if (armor == NULL)
		armor = function_of("pg_armor");
	message = DirectFunctionCall3(encrypt, PointerGetDatum(plain), PointerGetDatum(key),
								  CStringGetTextDatum(OPTIONS));
	message = DirectFunctionCall1(armor, message);
	MemoryContextSwitchTo(before);
	result = DatumGetTextPCopy(message);
	MemoryContextDelete(context);
	return result;
}

bytea *
tr_pgcrypto_dearmor(const text *armor)
{
	static PGFunction dearmor = NULL;

	if (dearmor == NULL)
		dearmor = function_of("pg_dearmor");
	return DatumGetByteaPP(DirectFunctionCall1(dearmor, PointerGetDatum(armor)));
}
