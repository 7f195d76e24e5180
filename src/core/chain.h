/*
 * chain.h
 *	  The audit chain's bytes: how rows and seals are written down and hashed.
 *
 * doc/audit.md has the format in full, so that others can check it.  What is
 * hashed is a label and a series of fields, each of them one tag byte, and for
 * values their length (4 bytes) and their bytes; numbers are big-endian.  So no
 * two series have the same bytes, and labels keep rows, lists and seals apart.
 *
 * SHA-256 is OpenSSL's.  Functions that use it return false when it fails.
 */
#ifndef TR_CHAIN_H
#define TR_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/secret.h"

/* The format; a seal says which one it and its rows are in. */
#define TR_CHAIN_VERSION 1

/* How many rows a seal has at most: positions of events rest on it. */
#define TR_SEAL_MAX_ROWS 10000

/* What is hashed; each has a label of its own. */
typedef enum TrChained
{
	TR_CHAINED_ROW,	 /* "token_rotation audit row v1" */
	TR_CHAINED_LIST, /* "token_rotation audit list v1" */
	TR_CHAINED_SEAL, /* "token_rotation audit seal v1" */
} TrChained;

/* The tags of fields. */
typedef enum TrTag
{
	TR_TAG_NULL = 0,  /* no length, no bytes */
	TR_TAG_VALUE = 1, /* text is UTF-8 */
	TR_TAG_RAW = 2,	  /* text that cannot be written in UTF-8, as its database has it */
} TrTag;

typedef struct TrField
{
	TrTag tag;
	const void *data;
	size_t len;
	uint8_t number[8]; /* where data is a number's */
} TrField;

/*
 * Which installation wrote a row.  Not known of rows from before 0.3.
 */
typedef struct TrSegment
{
	bool known;
	int64_t id;
} TrSegment;

/*
 * Set a field: to NULL, to these bytes (which are not copied), to an integer of
 * 8 bytes.
 */
extern void tr_field_null(TrField *field);
extern void tr_field_bytes(TrField *field, const void *data, size_t len);
extern void tr_field_int64(TrField *field, int64_t value);

/*
 * The hash of a label and a series of fields.
 */
extern bool tr_chain_hash(TrChained what, const TrField *fields, int count,
						  uint8_t out[TR_HASH_BYTES]);

/*
 * The hash of a seal's list: of each row its number (8 bytes) and its hash,
 * which lie one after the other in hashes.
 */
extern bool tr_chain_list_hash(const int64_t *seqs, const uint8_t *hashes, size_t count,
							   uint8_t out[TR_HASH_BYTES]);

/*
 * The transactions that a stored pg_snapshot shows: those before xmax, but for
 * the ones in progress.
 */
typedef struct TrXids
{
	uint64_t xmax;
	size_t count;
	const uint64_t *in_progress; /* ascending */
} TrXids;

/*
 * Read a pg_snapshot's text, xmin:xmax:xip,xip,...; room says how many
 * in_progress can hold, strlen(text) / 2 are enough.  false: it is none.
 */
extern bool tr_xids_parse(const char *text, uint64_t *in_progress, size_t room, TrXids *xids);

/*
 * Does the snapshot show what this top-level transaction did, if it committed?
 */
extern bool tr_xids_show(const TrXids *xids, uint64_t xid);

#endif /* TR_CHAIN_H */
