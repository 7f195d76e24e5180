/*
 * seal.h
 *	  The chain of seals over the audit trail.
 *
 * Reading and writing token_rotation.audit_seal; which rows a seal is to cover,
 * and whether they are what they were, say verbs/seal.c and verbs/verify.c.
 */
#ifndef TR_SEAL_H
#define TR_SEAL_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "core/chain.h"
#include "frame/rows.h"

/* A row of audit_seal.  What is hashed comes first, in this order. */
typedef struct TrSeal
{
	int64 segment; /* the installation that made it */
	int64 number;  /* from 1 on, without gaps */
	int64 version; /* of the format */
	TimestampTz at;
	bool has_previous; /* not the first one of its segment */
	uint8 previous[TR_HASH_BYTES];
	bool has_restored; /* it names the head of another segment */
	uint8 restored[TR_HASH_BYTES];
	TrSegment covers;	  /* the segment of its rows */
	const char *snapshot; /* text of a pg_snapshot; NULL: rows of another segment */
	bool complete;		  /* its snapshot shows no row that is neither here nor in a seal before */
	int64 rows;
	int64 first_seq;
	int64 last_seq;
	TimestampTz newest_at; /* greatest time of its rows; this and the seqs are NULL without rows */
	uint8 list_hash[TR_HASH_BYTES];

	uint8 hash[TR_HASH_BYTES];

	/* The list; NULL after its rows were pruned. */
	int64 listed; /* how many seqs there are */
	int64 *seqs;
	int64 hashed; /* how many hashes there are; -1: they have a wrong length */
	uint8 *row_hashes;
} TrSeal;

/*
 * The newest seal of a segment, without its list; or the newest one that is
 * complete.  false: there is none.
 */
extern bool tr_seal_newest(int64 segment, TrSeal *seal);
extern bool tr_seal_newest_complete(int64 segment, TrSeal *seal);

/*
 * The newest seal of the newest segment, for where this one has none.
 */
extern bool tr_seal_newest_restored(TrSeal *seal);

/*
 * Were the rows of this segment, which were restored, all sealed here?
 */
extern bool tr_seal_closed(TrSegment segment);

/*
 * The head of a restored segment that no seal names yet.  false: there is none.
 */
extern bool tr_seal_unnamed(int64 own, uint8 hash[TR_HASH_BYTES]);

/*
 * Is there a seal with this hash?
 */
extern bool tr_seal_exists(const uint8 hash[TR_HASH_BYTES]);

/*
 * Store a seal, hashes and all, as token_rotation_worker.
 */
extern void tr_seal_write(const TrSeal *seal);

/*
 * Read all seals in order of segment and number, under a snapshot that the
 * caller keeps registered.  What a seal points to lives in the current context.
 */
extern void tr_seals_begin(TrRows *rows, Snapshot snapshot);
extern bool tr_seals_next(TrRows *rows, TrSeal *seal);
extern void tr_seals_end(TrRows *rows);

/*
 * Take the list away from a seal whose rows are pruned.
 */
extern void tr_seal_empty(int64 segment, int64 number);

#endif /* TR_SEAL_H */
