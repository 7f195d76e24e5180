/*
 * consumer.h
 *	  How far the consumers of events are: the table consumer.
 *
 * Called inside a section.
 */
#ifndef TR_CONSUMER_H
#define TR_CONSUMER_H

#include "postgres.h"

/* A consumer as it is stored. */
typedef struct TrConsumer
{
	text *owner; /* the role that acknowledged first */
	int64 position;
} TrConsumer;

/*
 * Read a consumer.  false: there is none of this name.
 */
extern bool tr_consumer_read(const char *name, TrConsumer *consumer);

/*
 * Store that it is at this position.  The first one makes it, and answers false
 * where somebody else has just done so; the second one leaves it alone where it is
 * as far already.
 */
extern bool tr_consumer_make(const char *name, const char *owner, int64 position);
extern void tr_consumer_move(const char *name, int64 position);

#endif /* TR_CONSUMER_H */
