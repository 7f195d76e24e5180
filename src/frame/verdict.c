/*
 * verdict.c
 *	  Codes into texts and errors: see verdict.h.
 */
#include "postgres.h"

#include "core/mask.h"
#include "frame/verdict.h"

static const char *const reason_texts[] = {
	[TR_OK] = "ok",
	[TR_MALFORMED] = "malformed",
	[TR_UNKNOWN] = "unknown",
	[TR_BAD_SECRET] = "bad_secret",
	[TR_NOT_YET_VALID] = "not_yet_valid",
	[TR_EXPIRED_REASON] = "expired",
	[TR_OVERLAP_ENDED] = "overlap_ended",
	[TR_REPLAY_ENDED] = "replay_ended",
	[TR_REVOKED_REASON] = "revoked",
	[TR_CUTOFF] = "cutoff",
	[TR_BLOCKED] = "blocked",
	[TR_PROOF_REQUIRED] = "proof_required",
	[TR_STALE] = "stale",
	[TR_DISABLED] = "disabled",
	[TR_REUSE] = "reuse",
};
StaticAssertDecl(lengthof(reason_texts) == TR_REASON_COUNT, "every reason has a text");

static const char *const status_texts[] = {
	[TR_ACTIVE] = "active",
	[TR_ROTATING] = "rotating",
	[TR_REVOKED] = "revoked",
	[TR_EXPIRED] = "expired",
};
StaticAssertDecl(lengthof(status_texts) == TR_STATUS_COUNT, "every status has a text");

const char *
tr_reason_text(TrReason reason)
{
	return reason_texts[reason];
}

const char *
tr_status_text(TrStatus status)
{
	return status_texts[status];
}

bool
tr_status_find(const text *name, TrStatus *status)
{
	size_t len = VARSIZE_ANY_EXHDR(name);
	int i;

	for (i = 0; i < TR_STATUS_COUNT; i++)
		if (strlen(status_texts[i]) == len && memcmp(status_texts[i], VARDATA_ANY(name), len) == 0)
		{
			*status = (TrStatus) i;
			return true;
		}
	return false;
}

TrStatus
tr_status_read(const text *name)
{
	TrStatus status;

	if (tr_status_find(name, &status))
		return status;
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("token has an unknown status"),
					errdetail("The library is older than the extension's tables, or they were "
							  "changed by hand.")));
}

TrStatus
tr_status_of_verdict(TrReason reason, TrStatus recorded)
{
	switch (reason)
	{
		case TR_REVOKED_REASON:
		case TR_CUTOFF:
			return TR_REVOKED;
		case TR_EXPIRED_REASON:
		case TR_OVERLAP_ENDED:
			return TR_EXPIRED;
		default:
			return recorded;
	}
}

char *
tr_shown(const char *text)
{
	size_t len = strlen(text);
	char *masked = palloc(len + 1);

	tr_token_mask(text, len, masked);
	return masked;
}

void
tr_raise_value(const char *message, const char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg_internal("%s", message),
					errdetail_internal("%s", detail), errhint("%s", hint)));
}

void
tr_raise_state(const char *message, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg_internal("%s", message),
			 errdetail_internal("%s", detail), errhint("%s", hint)));
}

void
tr_raise_null(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", argument),
			 errdetail("The function cannot tell what is meant by a null %s.", argument),
			 errhint("Pass a value for %s.", argument)));
}

/*
 * The statement may hold the token.
 */
void
tr_raise_refused(TrReason reason)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION), errhidestmt(true),
					errhidecontext(true), errmsg("token is not valid"),
					errdetail("The reason is %s.", tr_reason_text(reason)),
					errhint("Present a valid token; tr_validate() tells the reason without an "
							"error.")));
}

void
tr_raise_no_scope(const text *scope)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errhidestmt(true), errhidecontext(true),
		 errmsg("token has no scope \"%.*s\"", (int) VARSIZE_ANY_EXHDR(scope), VARDATA_ANY(scope)),
		 errdetail("It is valid, for other scopes."),
		 errhint("Present a token that has this scope.")));
}

void
tr_raise_nobody(void)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					errmsg("nobody is authenticated"),
					errdetail("No token was presented in this transaction."),
					errhint("Call tr_authenticate() first, in the same transaction.")));
}

void
tr_raise_ring_full(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("audit ring is full"),
			 errdetail("The event could not be recorded, so the call is refused."),
			 errhint("Raise token_rotation.ring_size, and see whether the token_rotation worker "
					 "runs.")));
}

void
tr_raise_crypto(void)
{
	ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("cryptographic library failed"),
					errdetail("A hash or random bytes could not be computed; nothing was changed."),
					errhint("Check the OpenSSL configuration of the server.")));
}
