/*
 * feed.h
 *	  The sealed rows of the audit trail, in the order of the seals.
 *
 * A row's position is the number of its segment, plus TR_SEAL_MAX_ROWS for each seal
 * of the segment before its own, plus its place there, from 1 on.  Segments are
 * numbered by the clock in microseconds, and seals take longer than
 * TR_SEAL_MAX_ROWS of these; so what a later installation adds to a restored trail
 * has higher positions.  Segments of later installations than this one are not
 * read: nothing here could come after them.
 *
 * Called inside a section, also on a standby.
 */
#ifndef TR_FEED_H
#define TR_FEED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/array.h"

/* A look at the rows, one seal after the other. */
typedef struct TrFeed
{
	ArrayType *realms; /* text[]: rows of these only; NULL: all */
	bool skip_pruned;  /* pass over seals whose rows were pruned, as if they were not there */

	/* Where it is: what comes next. */
	int64 segment;
	int64 seal;
	int64 place; /* rows of that seal that are done */

	/* What the last look found. */
	int64 position; /* everything up to here has been looked at */
	TimestampTz at; /* when the seal was made */
	bool pruned;	/* its rows are gone */
	int64 passed;	/* rows looked at after the last one found; of a pruned seal: all */
	uint64 found;	/* rows found; SPI_tuptable holds them */
} TrFeed;

/* The columns of a row that is found, from 1 on. */
#define TR_FEED_FIRST 6 /* position, and from there on what tr_events answers */
#define TR_FEED_COLUMNS 13

/*
 * The newest position; 0: nothing is sealed.
 */
extern int64 tr_feed_newest(void);

/*
 * Begin after a position.
 */
extern void tr_feed_begin(TrFeed *feed, int64 position);

/*
 * Look at the next rows of one seal, at most that many, for up to max.  false: all
 * that is sealed has been looked at.
 */
extern bool tr_feed_next(TrFeed *feed, int32 rows, int32 max);

#endif /* TR_FEED_H */
