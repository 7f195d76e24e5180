/*
 * verdict.h
 *	  Codes into texts and errors: the one place that knows how the answers of
 *	  the core are called in SQL.
 */
#ifndef TR_VERDICT_H
#define TR_VERDICT_H

#include "postgres.h"

#include "core/lifecycle.h"
#include "frame/compat.h"

/*
 * The text of a reason, as in the column reason.
 */
extern const char *tr_reason_text(TrReason reason);

/*
 * Texts of the column status, and back.  For a text that is none, find answers
 * false and read, which is for stored ones, raises XX001.
 */
extern const char *tr_status_text(TrStatus status);
extern bool tr_status_find(const text *name, TrStatus *status);
extern TrStatus tr_status_read(const text *name);

/*
 * The status that a verdict amounts to: what is refused because of its end is
 * revoked or expired, whether or not that is recorded yet.
 */
extern TrStatus tr_status_of_verdict(TrReason reason, TrStatus recorded);

/*
 * A text that the caller supplied, as a message may hold it: with everything
 * token-shaped masked, because messages get into the server's log.
 */
extern char *tr_shown(const char *text);

/* Misuse, raised with SQLSTATE, message, detail and hint. */
pg_noreturn extern void tr_raise_null(const char *argument); /* 22004 */
pg_noreturn extern void tr_raise_value(const char *message, const char *detail,
									   const char *hint); /* 22023 */
pg_noreturn extern void tr_raise_state(const char *message, const char *detail,
									   const char *hint);	  /* 55000 */
pg_noreturn extern void tr_raise_refused(TrReason reason);	  /* 28000 */
pg_noreturn extern void tr_raise_nobody(void);				  /* 28000 */
pg_noreturn extern void tr_raise_no_scope(const text *scope); /* 42501 */
pg_noreturn extern void tr_raise_ring_full(void);			  /* 53400 */
pg_noreturn extern void tr_raise_crypto(void);				  /* 58000 */

#endif /* TR_VERDICT_H */
