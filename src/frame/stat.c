/*
 * stat.c
 *	  What is counted, and how the view tr_stat calls it: see stat.h.
 */
#include "postgres.h"

#include "frame/event.h"
#include "frame/stat.h"
#include "frame/verdict.h"

void
tr_stat_name(TrStat stat, const char **event, const char **reason)
{
	static const struct
	{
		const char *event;
		const char *reason;
	} names[TR_STAT_COUNT] = {
		[TR_STAT_LOOKUP_CACHE] = {"lookup", "cache"},
		[TR_STAT_LOOKUP_TOKEN] = {"lookup", "token"},
		[TR_STAT_LOOKUP_NONE] = {"lookup", "none"},
		[TR_STAT_ISSUED] = {TR_EVENT_ISSUED, NULL},
		[TR_STAT_ROTATED_HOLDER] = {TR_EVENT_ROTATED, "holder"},
		[TR_STAT_ROTATED_OPERATOR] = {TR_EVENT_ROTATED, "operator"},
		[TR_STAT_ROTATED_SEALED] = {TR_EVENT_ROTATED, "sealed"},
		[TR_STAT_ROTATION_STARTED] = {TR_EVENT_ROTATION_STARTED, NULL},
		[TR_STAT_ROTATION_KEYLESS] = {TR_EVENT_ROTATION_STARTED, "no_delivery_key"},
		[TR_STAT_ROTATION_CANCELLED] = {TR_EVENT_ROTATION_CANCELLED, NULL},
		[TR_STAT_FIRST_USED] = {TR_EVENT_FIRST_USED, NULL},
		[TR_STAT_REPLAYED] = {TR_EVENT_REPLAYED, NULL},
		[TR_STAT_REPLAYED_ELSEWHERE] = {TR_EVENT_REPLAYED_ELSEWHERE, NULL},
		[TR_STAT_REPLAYED_AFTER_USE] = {TR_EVENT_REPLAYED_AFTER_USE, NULL},
		[TR_STAT_REISSUED] = {TR_EVENT_REISSUED, NULL},
		[TR_STAT_REVOKED] = {TR_EVENT_REVOKED, NULL},
		[TR_STAT_OVERLAP_USED] = {TR_EVENT_OVERLAP_ENDED, "used"},
		[TR_STAT_OVERLAP_UNUSED] = {TR_EVENT_OVERLAP_ENDED, "unused"},
		[TR_STAT_OVERLAP_UNCLAIMED] = {TR_EVENT_OVERLAP_ENDED, "unclaimed"},
		[TR_STAT_OVERLAP_FINISHED] = {TR_EVENT_OVERLAP_FINISHED, NULL},
		[TR_STAT_EXPIRED] = {TR_EVENT_EXPIRED, NULL},
		[TR_STAT_LEAK] = {TR_EVENT_LEAK, NULL},
		[TR_STAT_LEAK_REFUSED] = {TR_EVENT_LEAK_REFUSED, NULL},
		[TR_STAT_CLOCK_SET_BACK] = {TR_EVENT_CLOCK_SET_BACK, NULL},
		[TR_STAT_LOST_PROVEN] = {TR_EVENT_EVENTS_LOST, "proven"},
		[TR_STAT_LOST_JUNK] = {TR_EVENT_EVENTS_LOST, "junk"},
		[TR_STAT_LOST_USAGE] = {TR_EVENT_EVENTS_LOST, "usage"},
		[TR_STAT_VISIT_DONE] = {"visit", "done"},
		[TR_STAT_VISIT_LOCKED] = {"visit", "locked"},
		[TR_STAT_VISIT_FAILED] = {"visit", "failed"},
		[TR_STAT_AUDIT_FILE_FAILED] = {"audit_file", "failed"},
		[TR_STAT_CIRCUIT_OPENED] = {TR_EVENT_CIRCUIT_OPENED, NULL},
	};
	static const char *const with_reason[] = {
		TR_EVENT_VALIDATED, "leeway", TR_EVENT_ROTATION_REFUSED, TR_EVENT_REVOCATION_REFUSED};
	int i = (int) stat - TR_STAT_VALIDATED;

	if (i >= 0 && stat < TR_STAT_ISSUED)
	{
		*event = with_reason[i / TR_REASON_COUNT];
		*reason = tr_reason_text((TrReason) (i % TR_REASON_COUNT));
		return;
	}
	*event = names[stat].event;
	*reason = names[stat].reason;
}

/*
 * The same for those that have a reason.
 */
static bool
possible_reason(TrStat family, TrReason reason, bool of_policy)
{
	if (family == TR_STAT_LEEWAY)
		return of_policy && (reason == TR_NOT_YET_VALID || reason == TR_EXPIRED_REASON ||
							 reason == TR_OVERLAP_ENDED);
	switch (reason)
	{
		case TR_OK:
			return of_policy && family == TR_STAT_VALIDATED;
		case TR_MALFORMED:
		case TR_UNKNOWN:
		case TR_BAD_SECRET:
			return !of_policy;
		case TR_STALE:
			return !of_policy && family == TR_STAT_VALIDATED;
		case TR_REPLAY_ENDED:
		case TR_PROOF_REQUIRED:
		case TR_REUSE:
		case TR_DISABLED:
			return of_policy && family == TR_STAT_ROTATION_REFUSED;
		default:
			return of_policy;
	}
}

bool
tr_stat_possible(TrStat stat, bool of_policy)
{
	int i = (int) stat - TR_STAT_VALIDATED;

	if (i >= 0 && stat < TR_STAT_ISSUED)
		return possible_reason((TrStat) ((int) stat - i % TR_REASON_COUNT),
							   (TrReason) (i % TR_REASON_COUNT), of_policy);
	return of_policy == (stat < TR_STAT_LEAK_REFUSED && stat != TR_STAT_LOOKUP_NONE);
}
