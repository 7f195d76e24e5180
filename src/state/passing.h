/*
 * passing.h
 *	  Tokens that a moment of theirs passes: finding them by their times, and the
 *	  lead times that policies ask for.
 *
 * Called inside a section.
 */
#ifndef TR_PASSING_H
#define TR_PASSING_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#include "core/token_text.h"

/* Of which tokens, and which of their times. */
typedef enum TrPassing
{
	TR_PASSING_REFRESH, /* active: refresh_at */
	TR_PASSING_WINDOW,	/* their rotation was started by the server, nobody came: overlap_ends_at */
	TR_PASSING_END,		/* live, without a successor: when their validity ends */
} TrPassing;

typedef struct TrPassed
{
	uint8 id[TR_ID_BYTES];
	TimestampTz at;
} TrPassed;

/*
 * The tokens of these policies (text[], NULL: of all) whose time lies after one
 * moment and not after another, in its order: max of them, and more where several
 * have the last one's.  A list of TrPassed *.
 */
extern List *tr_passing_find(TrPassing what, ArrayType *policies, TimestampTz after,
							 TimestampTz upto, int max);

/* A lead time, and the policies that ask for it. */
typedef struct TrLead
{
	Interval *length;
	ArrayType *policies; /* text[] */
} TrLead;

/*
 * The lead times of all policies: of their windows, which are the greater one of
 * overlap and refresh_before, or those that warn_before has.  Lists of TrLead *,
 * each length once.
 */
extern List *tr_passing_windows(void);
extern List *tr_passing_warnings(void);

#endif /* TR_PASSING_H */
