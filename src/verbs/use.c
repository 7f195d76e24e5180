/*
 * use.c
 *	  That a token was accepted: see use.h.
 *
 * The worker stores the use of a token only if it sees the token, and forgets
 * that of one that is not there.  What this transaction has made it does not see
 * before the commit, so such acceptances wait here until then.  After a rollback
 * they are passed on, too: some may be of tokens that others have made.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "frame/xact.h"
#include "state/usage.h"
#include "verbs/use.h"

/* What waits for one token. */
typedef struct OwnUsage
{
	uint8 token[TR_ID_BYTES]; /* the key */
	TrUsage usage;
	bool first; /* its record knew of no use */
} OwnUsage;

/* By token, in the memory of the transaction; NULL: nothing waits. */
static HTAB *own = NULL;

/*
 * Have an acceptance wait.
 */
static void
add_own(const TrToken *token, TimestampTz now)
{
	OwnUsage *entry;
	bool found;

	if (own == NULL)
	{
		HASHCTL control = {
			.keysize = TR_ID_BYTES, .entrysize = sizeof(OwnUsage), .hcxt = TopTransactionContext};

		own = hash_create("token_rotation own usage", 16, &control,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(own, token->id, HASH_ENTER, &found);
	if (!found)
	{
		memset(&entry->usage, 0, sizeof(entry->usage));
		memcpy(entry->usage.token, token->id, TR_ID_BYTES);
		entry->usage.first_at = now;
		entry->first = token->first_used_at == TR_NEVER;
	}
	entry->usage.count++;
	entry->usage.last_at = now;
}

void
tr_use_note(const TrToken *token, TimestampTz now)
{
	TrUsage usage = {.count = 1, .first_at = now, .last_at = now};

	if (tr_xact_may_have_made(token->life.issued_at))
	{
		add_own(token, now);
		return;
	}
	memcpy(usage.token, token->id, TR_ID_BYTES);
	tr_usage_add(&usage, token->first_used_at == TR_NEVER);
}

bool
tr_use_seen(const uint8 token[TR_ID_BYTES])
{
	return (own != NULL && hash_search(own, token, HASH_FIND, NULL) != NULL) ||
		   tr_usage_seen(token);
}

/*
 * At the end of the top-level transaction, when others see what it made.
 */
static void
at_end(XactEvent event, void *arg)
{
	HASH_SEQ_STATUS scan;
	OwnUsage *entry;

	if (own == NULL || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	hash_seq_init(&scan, own);
	while ((entry = hash_seq_search(&scan)) != NULL)
		tr_usage_add(&entry->usage, entry->first);
	own = NULL;
}

void
tr_use_init(void)
{
	RegisterXactCallback(at_end, NULL);
}
