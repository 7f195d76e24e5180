/*
 * lifecycle.h
 *	  The life of a token: its states, and the one function that says whether
 *	  it is valid.
 *
 * Pure: what a token is worth follows from its record, the time and the
 * settings that are handed in.  Times are microseconds on one clock (the
 * server hands in TimestampTz values); INT64_MIN and INT64_MAX stand for never
 * and for ever.
 */
#ifndef TR_LIFECYCLE_H
#define TR_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum TrStatus
{
	TR_ACTIVE,
	TR_ROTATING, /* its overlap window is open; without a successor: its holder may claim one */
	TR_REVOKED,
	TR_EXPIRED, /* its overlap window or its own time has ended */
} TrStatus;
#define TR_STATUS_COUNT (TR_EXPIRED + 1)

/* What can happen to a token. */
typedef enum TrStep
{
	TR_STEP_ROTATE,
	TR_STEP_OPEN_WINDOW, /* by the server, without a successor */
	TR_STEP_CLAIM,		 /* then its holder comes for it */
	TR_STEP_CANCEL_ROTATION,
	TR_STEP_END_OVERLAP,
	TR_STEP_EXPIRE,
	TR_STEP_REVOKE,
} TrStep;
#define TR_STEP_COUNT (TR_STEP_REVOKE + 1)

/* The reasons that verdicts carry; frame/verdict.c has their texts. */
typedef enum TrReason
{
	TR_OK,
	TR_MALFORMED,
	TR_UNKNOWN,
	TR_BAD_SECRET,
	TR_NOT_YET_VALID,
	TR_EXPIRED_REASON,
	TR_OVERLAP_ENDED,
	TR_REPLAY_ENDED,
	TR_REVOKED_REASON,
	TR_CUTOFF,
	TR_BLOCKED,
	TR_PROOF_REQUIRED,
	TR_STALE,
	TR_DISABLED,
	TR_REUSE,
} TrReason;
#define TR_REASON_COUNT (TR_REUSE + 1)

#define TR_NEVER INT64_MIN
#define TR_FOREVER INT64_MAX

/* The part of a token's record, and of what applies to it, that verdicts need. */
typedef struct TrLife
{
	TrStatus status;
	int64_t issued_at;
	int64_t expires_at;
	int64_t rotated_at;		 /* TR_NEVER while it has no successor */
	int64_t overlap_ends_at; /* TR_FOREVER while it has no window */
	int64_t replay_ends_at;	 /* TR_NEVER where there is nothing to replay */
	int64_t cutoff;			 /* nothing issued before this is valid; TR_NEVER: none */
	bool blocked;			 /* its client is blocked */
} TrLife;

/* The settings that verdicts need. */
typedef struct TrRules
{
	int64_t leeway;		   /* clock tolerance, before it is bounded by the token's life */
	bool overlap_enforced; /* off: tokens that are rotating live to their own expiry */
	bool rotation_enabled;
} TrRules;

/* What a holder's rotation does. */
typedef enum TrRotation
{
	TR_ROTATION_MAKE,	/* make the successor */
	TR_ROTATION_REPLAY, /* answer again with the successor that exists */
	TR_ROTATION_REFUSE,
} TrRotation;

/*
 * May a token in this state take this step, and where does it lead?  false: no,
 * and *to is left alone.
 *
 *	from	  rotate	open window	 claim	   cancel  end overlap	expire	 revoke
 *	active	  rotating	rotating	 -		   -	   -			expired	 revoked
 *	rotating  -			-			 rotating  active  expired		expired	 revoked
 *	revoked	  -			-			 -		   -	   -			-		 -
 *	expired	  -			-			 -		   -	   -			-		 -
 *
 * Only a token without a successor is claimed; tr_life_rotation says when.
 */
extern bool tr_life_step(TrStatus from, TrStep step, TrStatus *to);

/*
 * The leeway that a token gets: the setting, but at most a tenth of its life.
 */
extern int64_t tr_life_leeway(const TrLife *life, const TrRules *rules);

/*
 * What the token is worth at the moment now.  The first line that fits decides:
 *
 *	status revoked											 revoked
 *	status expired, window ended before its own time		 overlap_ended
 *	status expired											 expired
 *	issued before the cutoff								 cutoff
 *	client blocked											 blocked
 *	issued_at > now + leeway								 not_yet_valid
 *	expires_at + leeway <= now								 expired
 *	rotating, overlap enforced, overlap_ends_at + l <= now	 overlap_ended
 *		(l is the leeway, and 0 for an overlap of 0)
 *	otherwise												 ok
 */
extern TrReason tr_life_verdict(const TrLife *life, int64_t now, const TrRules *rules);

/*
 * When the token's validity ends under these rules, leeway not included.
 */
extern int64_t tr_life_valid_until(const TrLife *life, const TrRules *rules);

/*
 * Should the end of this token be recorded now?  Only for active and rotating
 * ones whose time, leeway included, is over under these rules; cutoffs and
 * blocks play no part.  *step says which end it is.
 */
extern bool tr_life_due(const TrLife *life, int64_t now, const TrRules *rules, TrStep *step);

/*
 * What happens when the holder, whose proof is right, asks for rotation.  For
 * TR_ROTATION_REFUSE *reason says why, otherwise it is TR_OK.
 *
 *	rotation disabled										 refuse: disabled
 *	no successor yet, verdict ok							 make
 *	no successor yet										 refuse: the verdict
 *	verdict revoked, cutoff, blocked or not_yet_valid		 refuse: the verdict
 *	now < replay_ends_at									 replay
 *	verdict ok (its overlap lasts)							 refuse: replay_ended
 *	otherwise												 refuse: the verdict
 */
extern TrRotation tr_life_rotation(const TrLife *life, int64_t now, const TrRules *rules,
								   TrReason *reason);

/*
 * Is a holder's rotation, whose proof is right and which was refused with this
 * reason, the reuse of a token that must be dead (RFC 9700, section 4.14)?  Then
 * two hold what one should.  successor_rotated and successor_used say what became
 * of its successor, ttl is the policy's.  The first line that fits decides:
 *
 *	refused with another reason than overlap_ended, expired	 no
 *	it has no successor										 no
 *	it ended ttl ago or longer								 no: an old log is no switch
 *	its successor was rotated, too							 yes: an older generation
 *	its successor was accepted								 yes
 *	otherwise												 no: a lost answer, asked for late
 */
extern bool tr_life_reused(const TrLife *life, TrReason refused, bool successor_rotated,
						   bool successor_used, int64_t ttl, int64_t now, const TrRules *rules);

#endif /* TR_LIFECYCLE_H */
