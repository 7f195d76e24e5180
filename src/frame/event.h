/*
 * event.h
 *	  Things that happened, on their way to the tables.
 *
 * A TrEvent becomes a row of the audit trail.  It is of fixed size and without pointers, so that the same record goes into an
 * audit row in the caller's transaction (state/audit.c) or through a ring in
 * shared memory to the worker (state/ring.c).
 */
#ifndef TR_EVENT_H
#define TR_EVENT_H

#include "datatype/timestamp.h"

#include "core/token_text.h"

#define TR_EVENT_TEXT 256 /* bytes with the terminating zero: what callers supply */

/* The events; doc/audit.md says what each one means. */
#define TR_EVENT_ISSUED "issued"
#define TR_EVENT_ROTATED "rotated"
#define TR_EVENT_ROTATION_STARTED "rotation_started"
#define TR_EVENT_ROTATION_DUE "rotation_due"
#define TR_EVENT_UNCLAIMED "unclaimed"
#define TR_EVENT_EXPIRING "expiring"
#define TR_EVENT_REPLAYED "replayed"
#define TR_EVENT_REPLAYED_ELSEWHERE "replayed_elsewhere"
#define TR_EVENT_REPLAYED_AFTER_USE "replayed_after_use"
#define TR_EVENT_REISSUED "reissued"
#define TR_EVENT_ROTATION_CANCELLED "rotation_cancelled"
#define TR_EVENT_FIRST_USED "first_used"
#define TR_EVENT_OVERLAP_EXTENDED "overlap_extended"
#define TR_EVENT_OVERLAP_FINISHED "overlap_finished"
#define TR_EVENT_OVERLAP_ENDED "overlap_ended"
#define TR_EVENT_EXPIRED "expired"
#define TR_EVENT_REVOKED "revoked"
#define TR_EVENT_CUTOFF "cutoff"
#define TR_EVENT_BLOCKED "blocked"
#define TR_EVENT_UNBLOCKED "unblocked"
#define TR_EVENT_DELIVERY_KEY_CHANGED "delivery_key_changed"
#define TR_EVENT_DELIVERY_FETCHED "delivery_fetched"
#define TR_EVENT_POLICY_CHANGED "policy_changed"
#define TR_EVENT_KEY_CHANGED "key_changed"
#define TR_EVENT_RISK_RULE_CHANGED "risk_rule_changed"
#define TR_EVENT_SCHEDULE_CHANGED "schedule_changed"
#define TR_EVENT_PRUNED "pruned"
#define TR_EVENT_AUDIT_PRUNED "audit_pruned"
#define TR_EVENT_OWNER_CHANGED "owner_changed"
#define TR_EVENT_GRANTED "granted"
#define TR_EVENT_UNGRANTED "ungranted"
#define TR_EVENT_VALIDATED "validated"
#define TR_EVENT_VALIDATION_REFUSED "validation_refused"
#define TR_EVENT_SCOPE_REFUSED "scope_refused"
#define TR_EVENT_IDENTITY_CHANGED "identity_changed"
#define TR_EVENT_ROTATION_REFUSED "rotation_refused"
#define TR_EVENT_REVOCATION_REFUSED "revocation_refused"
#define TR_EVENT_REUSE "reuse"
#define TR_EVENT_LEAK "leak"
#define TR_EVENT_LEAK_REFUSED "leak_refused"
#define TR_EVENT_EVENTS_LOST "events_lost"
#define TR_EVENT_CLOCK_SET_BACK "clock_set_back"
#define TR_EVENT_CIRCUIT_OPENED "circuit_opened"
#define TR_EVENT_CIRCUIT_CLOSED "circuit_closed"

typedef struct TrEvent
{
	TimestampTz at;
	char event[24]; /* one of the above */
	bool has_token;
	bool has_successor;
	uint8 token[TR_ID_BYTES];
	uint8 successor[TR_ID_BYTES];
	char client_id[TR_EVENT_TEXT]; /* empty texts are stored as NULL */
	char owner[NAMEDATALEN];
	char actor[NAMEDATALEN];
	char role[NAMEDATALEN];
	char application[NAMEDATALEN];
	char client_addr[64];
	char origin[TR_EVENT_TEXT];
	char reason[TR_EVENT_TEXT];
	char detail[TR_EVENT_TEXT]; /* JSON text */
} TrEvent;

/* Acceptances of one token, counted in shared memory until the worker comes. */
typedef struct TrUsage
{
	Oid database;
	uint8 token[TR_ID_BYTES];
	uint64 count;
	TimestampTz first_at;
	TimestampTz last_at;
} TrUsage;

/*
 * Begin an event: the clock, and who the session is (session user, the role
 * that called, application name, peer address).  Everything else is empty.
 */
extern void tr_event_begin(TrEvent *event, const char *name);

/*
 * From here on this process is the worker: its events name the worker's role,
 * not the superuser that background workers run as.
 */
extern void tr_event_as_worker(void);

/*
 * Copy text that a caller supplied into a field of TR_EVENT_TEXT bytes: masked
 * like a log line, then clipped at a character boundary.
 */
extern void tr_event_text(char *field, const char *text, size_t len);

/*
 * Name the realm: what a row has as its owner, which somebody may have written
 * who has never heard of roles.
 */
extern void tr_event_owner(TrEvent *event, const text *owner);

/*
 * A moment as an event's detail has it: ISO 8601 in UTC, whatever the session's
 * TimeZone and DateStyle are.
 */
extern char *tr_event_moment(TimestampTz moment);

#endif /* TR_EVENT_H */
