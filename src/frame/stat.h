/*
 * stat.h
 *	  What is counted, and how the view tr_stat calls it.
 */
#ifndef TR_STAT_H
#define TR_STAT_H

#include "postgres.h"

#include "core/lifecycle.h"

/*
 * What is counted.  Where a comment says "+ reason", there is one for each
 * TrReason.  Those of an ordinary validation lie side by side.
 */
typedef enum TrStat
{
	TR_STAT_LOOKUP_CACHE, /* which level answered a validation */
	TR_STAT_LOOKUP_TOKEN,
	TR_STAT_LOOKUP_NONE,
	TR_STAT_VALIDATED,									  /* + reason */
	TR_STAT_LEEWAY = TR_STAT_VALIDATED + TR_REASON_COUNT, /* + reason that it would have had */
	TR_STAT_ROTATION_REFUSED = TR_STAT_LEEWAY + TR_REASON_COUNT,			 /* + reason */
	TR_STAT_REVOCATION_REFUSED = TR_STAT_ROTATION_REFUSED + TR_REASON_COUNT, /* + reason */
	TR_STAT_ISSUED = TR_STAT_REVOCATION_REFUSED + TR_REASON_COUNT,
	TR_STAT_ROTATED_HOLDER,
	TR_STAT_ROTATED_OPERATOR,
	TR_STAT_ROTATED_SEALED,	  /* by the server, and delivered */
	TR_STAT_ROTATION_STARTED, /* by the server */
	TR_STAT_ROTATION_KEYLESS, /* likewise, for want of a key to deliver to */
	TR_STAT_ROTATION_CANCELLED,
	TR_STAT_FIRST_USED, /* of a successor that was pending */
	TR_STAT_REPLAYED,
	TR_STAT_REPLAYED_ELSEWHERE,
	TR_STAT_REPLAYED_AFTER_USE,
	TR_STAT_REISSUED,
	TR_STAT_REVOKED,
	TR_STAT_OVERLAP_USED, /* an overlap ended, and the successor had been used */
	TR_STAT_OVERLAP_UNUSED,
	TR_STAT_OVERLAP_UNCLAIMED, /* the server had opened it, and nobody came */
	TR_STAT_OVERLAP_FINISHED,  /* by an operator */
	TR_STAT_EXPIRED,
	TR_STAT_LEAK,		  /* a family was ended because it was found somewhere */
	TR_STAT_LEAK_REFUSED, /* from here on without a policy */
	TR_STAT_CLOCK_SET_BACK,
	TR_STAT_LOST_PROVEN,
	TR_STAT_LOST_JUNK,
	TR_STAT_LOST_USAGE,
	TR_STAT_VISIT_DONE,
	TR_STAT_VISIT_LOCKED,
	TR_STAT_VISIT_FAILED,
	TR_STAT_AUDIT_FILE_FAILED,
	TR_STAT_CIRCUIT_OPENED,
} TrStat;
#define TR_STAT_COUNT (TR_STAT_CIRCUIT_OPENED + 1)

/*
 * How the view calls it; reason may be NULL.
 */
extern void tr_stat_name(TrStat stat, const char **event, const char **reason);

/*
 * Can it be counted for a policy, or else without one?  The view shows what
 * can, also at 0.
 */
extern bool tr_stat_possible(TrStat stat, bool of_policy);

#endif /* TR_STAT_H */
