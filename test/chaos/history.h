/*
 * history.h
 *	  What the client of the chaos tests writes down, and the checker reads.
 *
 * A history is a folder.  tokens has one TrEntry for each token text that was
 * ever handed out, by number; history.N has the TrRecords of session N, in the
 * order of their ends.  Times are nanoseconds of CLOCK_MONOTONIC, which all
 * processes of a machine share; moments that the server said are microseconds
 * of the wall clock and compared with each other only, or translated when they
 * are read (with TR_SLACK for what the translation costs).
 */
#ifndef TR_HISTORY_H
#define TR_HISTORY_H

#include <stdint.h>

#define TR_NOBODY UINT32_MAX
#define TR_MS INT64_C(1000000)
#define TR_SLACK (5 * TR_MS)

/* Rotations ask for an overlap of 0, of this, or of one that outlasts the test. */
#define TR_SHORT_OVERLAP (200 * TR_MS)

/* Clients and policies are numbered; each has one realm. */
#define TR_CLIENTS 256
#define TR_POLICIES 9 /* the last one's tokens live for seconds */
#define TR_REALMS 4

/* A token text that was handed out. */
typedef struct TrEntry
{
	uint32_t id;		  /* the first entry of the same token id: a reissued token has several */
	uint32_t predecessor; /* id of the token that it succeeds, or TR_NOBODY */
	uint32_t family;	  /* id of the first token of its family */
	uint16_t client;
	uint8_t policy;
	uint8_t realm;
	int64_t issued_at; /* as the server said, wall clock */
	int64_t expires;   /* likewise, translated */
	int64_t begin;	   /* of the call that made it */
	int64_t end;
} TrEntry;

typedef enum TrKind
{
	TR_VALIDATE,   /* reason is the answer */
	TR_ISSUE,	   /* token is the new one */
	TR_ROTATE,	   /* token was asked for; other is the answer; moment: previous_valid_until */
	TR_REVOKE,	   /* token */
	TR_FAMILY,	   /* token's family */
	TR_FINISH,	   /* token's overlap */
	TR_CUT_CLIENT, /* token is the client's number; moment: the cutoff, wall clock */
	TR_CUT_POLICY, /* token is policy * TR_REALMS + realm */
	TR_CUT_REALM,  /* token is the realm */
	TR_BLOCK,	   /* token is the client's number */
	TR_UNBLOCK,
	TR_FAULT, /* reason says which; from before it until the server was there again */
	TR_KIND_COUNT
} TrKind;

/* How a call ended. */
typedef enum TrOutcome
{
	TR_DONE,	/* acknowledged; in a transaction: its COMMIT */
	TR_ABORTED, /* an ERROR or a ROLLBACK: it never happened; reason TR_OTHER: an odd ERROR */
	TR_MAYBE,	/* the connection was lost; end is when that was noticed */
} TrOutcome;

/* Reasons, in the order of tr_reason_texts. */
typedef enum TrAnswer
{
	TR_OK,
	TR_MALFORMED,
	TR_UNKNOWN,
	TR_BAD_SECRET,
	TR_EXPIRED,
	TR_OVERLAP_ENDED,
	TR_REPLAY_ENDED,
	TR_REVOKED,
	TR_CUTOFF,
	TR_BLOCKED,
	TR_REUSED,
	TR_NOT_ENDED, /* tr_revoke answered false: it had ended before */
	TR_OTHER,
	TR_ANSWER_COUNT
} TrAnswer;

/* What was done to the server. */
typedef enum TrFault
{
	TR_KILL,	  /* SIGKILL of the backend of a session that is inside a verb */
	TR_KILL_ANY,  /* SIGKILL of any backend */
	TR_KILL_ALL,  /* SIGKILL of the postmaster and all its children */
	TR_FAST,	  /* fast restart */
	TR_IMMEDIATE, /* immediate restart */
	TR_PROMOTE,	  /* immediate stop, and on at its synchronous standby */
	TR_TRUNCATE,  /* TRUNCATE of the cache */
	TR_FAULT_COUNT
} TrFault;

/* Isolation levels, as sessions use them. */
typedef enum TrLevel
{
	TR_AUTOCOMMIT,
	TR_READ_COMMITTED,
	TR_REPEATABLE_READ,
	TR_OLD_SNAPSHOT, /* REPEATABLE READ, its snapshot at least a second old */
	TR_SERIALIZABLE,
	TR_LEVEL_COUNT
} TrLevel;

typedef struct TrRecord
{
	int64_t begin;
	int64_t end;
	int64_t moment;
	uint32_t token;
	uint32_t other;
	uint8_t kind;
	uint8_t outcome;
	uint8_t reason;
	uint8_t level;
	uint8_t replayed;  /* of TR_ROTATE; of TR_KILL: it landed inside the call */
	uint8_t in_commit; /* of TR_KILL: inside the call's COMMIT */
	uint8_t many;	   /* of TR_VALIDATE: by tr_validate_many */
	uint8_t victim;	   /* of TR_KILL: kind of the call that it landed in */
} TrRecord;

#endif
