/*
 * args.h
 *	  Arguments of the SQL functions, checked.
 *
 * A missing value raises 22004, a wrong one 22023, both with message, detail
 * and hint.
 */
#ifndef TR_ARGS_H
#define TR_ARGS_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "fmgr.h"
#include "utils/array.h"

#include "frame/record.h"

/*
 * An argument that must not be NULL.
 */
extern Datum tr_arg(FunctionCallInfo fcinfo, int n, const char *name);

/*
 * A text argument that may be NULL.
 */
extern text *tr_arg_text(FunctionCallInfo fcinfo, int n);

/*
 * A client id: 1 to 255 bytes that hold no token.
 */
extern text *tr_arg_client(FunctionCallInfo fcinfo, int n);

/*
 * A short text that a caller gives, such as a reason: NULL or at most 255 bytes;
 * masked.
 */
extern char *tr_arg_note(FunctionCallInfo fcinfo, int n, const char *name);

/*
 * A name (of a policy, a role): not NULL, and "" when it cannot be one for its
 * length, so that looking it up finds nothing.
 */
extern char *tr_arg_name(FunctionCallInfo fcinfo, int n, const char *name);

/*
 * A duration in microseconds, 0 or longer and finite.
 */
extern int64 tr_arg_duration(FunctionCallInfo fcinfo, int n, const char *name);

/*
 * Scopes: one dimension, no NULL, no duplicate, each a scope-token of RFC 6749
 * section 3.3 of at most 255 bytes, at most 4 kB together.
 */
extern ArrayType *tr_arg_scopes(FunctionCallInfo fcinfo, int n);

/*
 * Raise 22023 for what is no such scope.
 */
extern void tr_check_scope(const text *scope);

/*
 * Is it a scope-token of RFC 6749 of at most 255 bytes?
 */
extern bool tr_is_scope(const char *name, size_t len);

/*
 * The metadata: a jsonb object of at most 4 kB.
 */
extern Datum tr_arg_metadata(FunctionCallInfo fcinfo, int n);

/*
 * Does a text hold something token-shaped, so that it must not be stored?
 */
extern bool tr_holds_token(const char *value, size_t len);

/*
 * How many tokens a call may work on: 1 or more.
 */
extern int32 tr_arg_max(FunctionCallInfo fcinfo, int n);

/*
 * What a function's answer looks like, kept for the session.  Functions with
 * the same OUT parameters may share one.
 */
typedef struct TrAnswer
{
	const Oid *columns; /* a named type's, which its owner could alter; or NULL */
	int count;			/* of columns */
	Oid type;			/* RECORDOID, or the named type, which CREATE EXTENSION makes anew */
	TupleDesc desc;
} TrAnswer;

/*
 * The blessed descriptor of the function's composite answer, looked up again
 * only when its type is another.  55000 where its columns are not those that
 * the function fills in.
 */
extern TupleDesc tr_answer_desc(FunctionCallInfo fcinfo, TrAnswer *answer);

#endif /* TR_ARGS_H */
