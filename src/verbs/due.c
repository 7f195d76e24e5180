/*
 * due.c
 *	  Telling of what nobody does: see due.h.
 *
 * Each kind of moment, and each lead time of it, has a mark in the table told: what
 * lies before it has been told.  A call tells of the moments between the mark and
 * now and moves the mark, in one transaction.  So a moment is told of once, over
 * crashes, restarts and a failover, without a word in the token's row; and the
 * mark, which begins now, keeps an update and a new lead time from telling of
 * years.  A clock that is set back finds the mark ahead, and tells nothing until it
 * has caught up.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "core/secret.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/interval.h"
#include "frame/keys.h"
#include "frame/settings.h"
#include "state/audit.h"
#include "state/cutoff.h"
#include "state/passing.h"
#include "state/policy.h"
#include "state/store.h"
#include "state/told.h"
#include "verbs/due.h"
#include "verbs/note.h"

/* A mark that nothing passes is moved this often, in microseconds: not with each visit. */
#define MARK_AGE (60 * USECS_PER_SEC)

/* A kind of moment: an event, for tokens that have so long until their time. */
typedef struct Kind
{
	const char *event;
	TrPassing what;
	int64 lead;			   /* microseconds */
	ArrayType *policies;   /* of these only; NULL: of all */
	const Interval *named; /* the lead time as the policy has it, to be told; NULL: none */
} Kind;

/*
 * Is it still so, now that the token has been read?
 */
static bool
still_so(const Kind *kind, const TrPassed *passed, TrToken *token, TimestampTz now)
{
	TrRules rules = tr_rules();

	tr_cutoff_apply_now(token);
	if (token->life.expires_at <= now || token->life.rotated_at != TR_NEVER ||
		tr_life_verdict(&token->life, now, &rules) != TR_OK)
		return false;
	switch (kind->what)
	{
		case TR_PASSING_REFRESH:
			return token->life.status == TR_ACTIVE;
		case TR_PASSING_WINDOW:
			return token->life.status == TR_ROTATING && token->life.overlap_ends_at == passed->at;
		case TR_PASSING_END:
			return Min(token->life.expires_at, token->life.overlap_ends_at) == passed->at;
	}
	return false;
}

/*
 * Tell of one token.
 */
static void
tell(const Kind *kind, const TrPassed *passed, TimestampTz now)
{
	TrToken token;
	TrEvent event;

	if (!tr_store_read_now(passed->id, &token) || !still_so(kind, passed, &token, now))
		return;
	tr_note_begin(&event, kind->event, &token);
	if (kind->named != NULL)
	{
		struct pg_itm parts;

		interval2itm(*kind->named, &parts);
		EncodeInterval(&parts, INTSTYLE_POSTGRES, event.reason);
	}
	tr_audit_write(&event, psprintf("{\"%s\": \"%s\"}",
									kind->what == TR_PASSING_REFRESH  ? "refresh_at"
									: kind->what == TR_PASSING_WINDOW ? "overlap_ends_at"
																	  : "ends_at",
									tr_event_moment(passed->at)));
}

/*
 * Tell of the moments of one kind.  true: there are more.
 */
static bool
tell_kind(const Kind *kind, int max)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = tr_told_until(kind->event, kind->lead);
	List *found;
	ListCell *cell;
	bool more;

	if (until == TR_NEVER)
		tr_told_store(kind->event, kind->lead, now, -1);
	if (until == TR_NEVER || until >= now)
		return false;
	found = tr_passing_find(kind->what, kind->policies, until + kind->lead, now + kind->lead, max);
	more = list_length(found) >= max;
	foreach (cell, found)
	{
		CHECK_FOR_INTERRUPTS();
		tell(kind, lfirst(cell), now);
	}
	if (found != NIL || now - until >= MARK_AGE)
		tr_told_store(kind->event, kind->lead,
					  more ? ((TrPassed *) llast(found))->at - kind->lead : now, -1);
	return more;
}

/*
 * Tell of the moments of one kind with each of these lead times, or a part of it,
 * and forget the marks of others.
 */
static bool
tell_leads(Kind *kind, List *leads, int part, int max)
{
	int64 *lengths = palloc(sizeof(int64) * Max(list_length(leads), 1));
	bool more = false;
	ListCell *cell;
	int count = 0;

	foreach (cell, leads)
	{
		const TrLead *lead = lfirst(cell);

		if (!tr_interval_usec(lead->length, &kind->lead))
			continue;
		kind->lead /= part;
		/* of no length: it ends as it begins */
		if (kind->lead == 0)
			continue;
		kind->policies = lead->policies;
		if (part == 1)
			kind->named = lead->length;
		more |= tell_kind(kind, max);
		lengths[count++] = kind->lead;
	}
	tr_told_keep(kind->event, lengths, count);
	return more;
}

/*
 * Tell that what is made is made under another key, or under one at all.  Keys
 * that cannot be read are no change.
 */
static void
tell_key(void)
{
	int32 told = tr_told_key(TR_EVENT_KEY_CHANGED);
	int32 number = 0;
	TrEvent event;
	TrKey key;

	if (tr_keys_find(0, &key))
		number = key.number;
	else if (tr_keys_configured())
		return;
	tr_wipe(&key, sizeof(key));
	if (number == told)
		return;
	tr_told_store(TR_EVENT_KEY_CHANGED, 0, GetCurrentTimestamp(), number);
	if (told < 0)
		return;
	tr_event_begin(&event, TR_EVENT_KEY_CHANGED);
	tr_audit_write(&event, psprintf("{\"from\": %d, \"to\": %d}", told, number));
}

bool
tr_due_run(int max)
{
	Kind due = {.event = TR_EVENT_ROTATION_DUE, .what = TR_PASSING_REFRESH};
	Kind unclaimed = {.event = TR_EVENT_UNCLAIMED, .what = TR_PASSING_WINDOW};
	Kind expiring = {.event = TR_EVENT_EXPIRING, .what = TR_PASSING_END};
	bool more;

	/* that who writes is missing is told loudly elsewhere */
	if (!OidIsValid(tr_catalog()->worker))
		return false;
	tell_key();
	more = tell_kind(&due, max);
	more |= tell_leads(&unclaimed, tr_passing_windows(), 2, max);
	more |= tell_leads(&expiring, tr_passing_warnings(), 1, max);
	return more;
}
