/*
 * past.h
 *	  A history, read back, and what is known of the end of each token.
 */
#ifndef TR_PAST_H
#define TR_PAST_H

#include <stdbool.h>
#include <stddef.h>

#include "history.h"

#define TR_NEVER INT64_MAX

/* What is known of a token text from everything but validations of it. */
typedef struct TrFate
{
	int64_t dead_from;	/* refused for good from here on: its end was acknowledged */
	int64_t doubt_from; /* may be refused from here on: an end of it was begun */
} TrFate;

/* What validations of a token text told. */
typedef struct TrSeen
{
	int64_t refused_by;	   /* end of the first refusal for good */
	int64_t accepted_from; /* begin of the last acceptance */
} TrSeen;

extern const TrEntry *tr_entries;
extern uint32_t tr_entry_count;
extern TrSeen *tr_seen;

/* Read a folder. */
extern void tr_past_read(const char *folder);

/* The records of all sessions but validations; faults and blocks in order of their begins. */
extern const TrRecord *tr_changes;
extern size_t tr_change_count;
extern const TrRecord *tr_faults;
extern size_t tr_fault_count;

/* Call a function for every validation. */
extern void tr_past_validations(void (*function)(const TrRecord *record));

/* When a call whose connection was lost has come to effect, if it ever does. */
extern int64_t tr_past_settled(const TrRecord *call);

/* Was there a fault between these times that loses the cache (any: at all)? */
extern bool tr_past_fault_between(int64_t from, int64_t to, bool any);

/* After tr_seen was filled: the fate of each entry. */
extern TrFate tr_past_fate(uint32_t entry);

/* Must, or may, this client have been blocked all the time, or at a time, of a call? */
extern bool tr_past_must_be_blocked(const TrRecord *call, unsigned client);
extern bool tr_past_may_be_blocked(const TrRecord *call, unsigned client);

#endif
