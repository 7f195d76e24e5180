/*
 * ending.h
 *	  Ending tokens for good, each with its audit row.
 */
#ifndef TR_ENDING_H
#define TR_ENDING_H

#include "postgres.h"

#include "frame/record.h"

/*
 * End a locked token.  One that has ended by itself may still be good for
 * asking for its successor again; that ends too.  reason may be NULL.  Returns
 * whether the token was live.
 */
extern bool tr_end_token(TrToken *token, TimestampTz now, const char *reason);

/*
 * Lock the family of a token and end all of it that was made after that
 * generation (-1: everything).  Returns how many tokens were live; 0 also for an
 * unknown id.
 */
extern int tr_end_family(const uint8 *id, int generation, const char *reason);

#endif /* TR_ENDING_H */
