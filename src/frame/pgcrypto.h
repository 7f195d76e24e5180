/*
 * pgcrypto.h
 *	  Functions of the extension pgcrypto, which this one requires.
 *
 * Its library is called, not its SQL functions: those can be in any schema and be
 * somebody's, and what the executor calls can be logged with its arguments.
 */
#ifndef TR_PGCRYPTO_H
#define TR_PGCRYPTO_H

#include "postgres.h"

/*
 * Encrypt a text to a certificate with one subkey for encryption; armored.  What
 * pgcrypto copies of the text meanwhile it wipes, and it keeps nothing.
 */
extern text *tr_pgcrypto_encrypt(const text *plain, const bytea *key);

/*
 * What an ASCII armor holds; 39000 for a broken one.
 */
extern bytea *tr_pgcrypto_dearmor(const text *armor);

#endif /* TR_PGCRYPTO_H */
