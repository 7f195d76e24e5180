/*
 * note.h
 *	  What verbs tell the audit trail of tokens.
 */
#ifndef TR_NOTE_H
#define TR_NOTE_H

#include "postgres.h"

#include "frame/event.h"
#include "frame/identity.h"
#include "frame/record.h"

/*
 * Begin an event about a token.
 */
extern void tr_note_begin(TrEvent *event, const char *name, const TrToken *token);

/*
 * What the trail says of a token that was made, as JSON: its policy and expiry, the
 * risk where there was any, when the window of its predecessor (NULL: it has none)
 * ends, and the fingerprint of the key that it is delivered to (NULL: it is not).
 */
extern char *tr_note_made(const TrToken *token, const TrToken *predecessor, const char *sealed_to);

/*
 * When the overlap window of a token ends, likewise.
 */
extern char *tr_note_window(const TrToken *token);

/*
 * Record a refusal although the caller may roll back.  token: whose secret
 * matched; NULL: nothing was proven, the refusal is counted as junk.  origin
 * may be NULL.  Raises 53400 where the ring is full and audit_overflow says
 * fail.
 */
extern void tr_note_refusal(const char *name, TrReason reason, const TrToken *token,
							const text *origin);

/*
 * The same for an operator's rotation by id, which proves nothing of its holder.
 */
extern void tr_note_refusal_by_id(TrReason reason, const TrToken *token);

/*
 * The same for a validation, where the setting audit_validations asks for it.
 * On a standby, which can store nothing, it is logged.
 */
extern void tr_note_refused_validation(TrReason reason, const TrToken *token, const text *origin);

/*
 * Record that a valid token lacked a scope that was asked for, where the setting
 * audit_validations asks for it; likewise although the caller rolls back.
 */
extern void tr_note_scope_refused(const TrIdentity *identity, const text *scope,
								  const text *origin);

/*
 * Record that a transaction that had acted for another client is about to act for
 * this one; likewise.
 */
extern void tr_note_identity_changed(const TrIdentity *identity, const char *before,
									 const text *origin);

/*
 * Record that a successor was handed out again, before it is; raises 53400
 * when the ring is full.  One that asks from another origin than the rotation came
 * from, or after the successor was used, is an event of its own.  The token is
 * locked.
 */
extern void tr_note_replay(const TrToken *token, const TrToken *successor, bool used,
						   const text *origin);

#endif /* TR_NOTE_H */
