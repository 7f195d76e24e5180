/*
 * circuit_step.c
 *	  What a worker does about the circuit breaker: see circuit_step.h.
 *
 * That the circuit has opened cannot be recorded then, so it is when writes work
 * again, together with its end.  While it is open, writing that is the try: where
 * nobody rotates, the worker closes the circuit.
 */
#include "postgres.h"

#include "frame/caller.h"
#include "frame/circuit.h"
#include "frame/event.h"
#include "server/circuit_step.h"
#include "server/step.h"
#include "state/audit.h"
#include "state/stats.h"

/*
 * Write both rows.
 */
static void
record(const TrCircuitStory *story)
{
	TrEvent event;

	tr_event_begin(&event, TR_EVENT_CIRCUIT_OPENED);
	event.at = story->opened_at;
	strlcpy(event.reason, unpack_sql_state(story->error), sizeof(event.reason));
	tr_audit_write(&event, NULL);

	tr_event_begin(&event, TR_EVENT_CIRCUIT_CLOSED);
	event.at = story->closed_at;
	tr_audit_write(&event, psprintf("{\"opened_at\": \"%s\"}", tr_event_moment(story->opened_at)));
}

void
tr_circuit_keep(void)
{
	int openings = tr_circuit_openings();
	TrCircuitStory story;
	TrSection section;
	TimestampTz look;

	if (openings > 0)
		tr_stats_add(tr_stats_of(NULL), TR_STAT_CIRCUIT_OPENED, openings);
	if (tr_circuit_tell(&story, &look))
	{
		tr_step_begin(&section);
		record(&story);
		tr_step_commit(&section);
		tr_circuit_told(&story);
		tr_step_settled();
	}
	tr_step_visit_by(look);
}
