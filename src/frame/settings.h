/*
 * settings.h
 *	  The settings token_rotation.*, all defined in settings.c.
 */
#ifndef TR_SETTINGS_H
#define TR_SETTINGS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/lifecycle.h"

typedef enum TrAuditValidations
{
	TR_AUDIT_NONE,
	TR_AUDIT_FAILURES,
	TR_AUDIT_ALL,
} TrAuditValidations;

typedef enum TrAuditOverflow
{
	TR_OVERFLOW_DROP, /* count what does not fit and go on */
	TR_OVERFLOW_FAIL, /* refuse the call */
} TrAuditOverflow;

extern bool tr_rotation_enabled;
extern bool tr_overlap_enforcement;
extern bool tr_risk_enabled;
extern int tr_leeway;		 /* seconds */
extern int tr_max_staleness; /* seconds; -1: standbys never answer stale */
extern int tr_worker_nap;	 /* milliseconds */
extern int tr_max_workers;
extern int tr_ring_size;  /* entries */
extern int tr_usage_size; /* entries */
extern int tr_audit_validations;
extern int tr_audit_overflow;
extern bool tr_log_redaction;
extern char *tr_audit_file;		 /* "": none */
extern char *tr_anonymous_paths; /* "": none */
extern char *tr_realm;			 /* "": the current user */
extern char *tr_key_file;		 /* "": none */
extern char *tr_key_command;	 /* "": none */

extern int tr_circuit_threshold; /* failures; 0: the circuit never opens */
extern int tr_circuit_timeout;	 /* seconds */

/*
 * Define them all; called from _PG_init while the postmaster preloads.
 */
extern void tr_settings_define(void);

/*
 * The setting not_before: nothing issued before it is valid; TR_NEVER: unset.
 */
extern TimestampTz tr_not_before(void);

/*
 * The setting accept_unkeyed_until: tokens that were made without a server key
 * are refused from then on; TR_NEVER: unset.
 */
extern TimestampTz tr_accept_unkeyed_until(void);

/*
 * The settings that the lifecycle's functions need.
 */
extern TrRules tr_rules(void);

#endif /* TR_SETTINGS_H */
