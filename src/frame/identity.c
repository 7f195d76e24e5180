/*
 * identity.c
 *	  Who the transaction acts for: see identity.h.
 *
 * A stack, of one entry at most for each level of subtransactions: what is bound
 * within a savepoint lies over what was bound before it, until the savepoint is
 * released or rolled back.  Each entry has memory of its own below the
 * transaction's, so that binding in a loop takes no more and more of it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "frame/compat.h"
#include "frame/event.h"
#include "frame/identity.h"
#include "frame/scopes.h"

typedef struct Bound
{
	TrIdentity identity;
	int level; /* transaction nest level that it belongs to */
	MemoryContext context;
	struct Bound *below;
} Bound;

static Bound *bound = NULL;

/* Who was bound last in this transaction; empty: nobody. */
static char last_client[TR_EVENT_TEXT];
static char last_owner[NAMEDATALEN];

/*
 * Take an entry off the stack.
 */
static void
pop(Bound **place)
{
	Bound *entry = *place;

	*place = entry->below;
	MemoryContextDelete(entry->context);
}

/*
 * A copy of a text, with a header that every macro understands.
 */
static text *
copy_text(const text *from)
{
	size_t len = VARSIZE_ANY_EXHDR(from);
	text *to = palloc(len + VARHDRSZ);

	SET_VARSIZE(to, len + VARHDRSZ);
	memcpy(VARDATA(to), VARDATA_ANY(from), len);
	return to;
}

void
tr_identity_bind(const TrIdentity *identity)
{
	int level = GetCurrentTransactionNestLevel();
	MemoryContext context = AllocSetContextCreate(TopTransactionContext, "token_rotation identity",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	Bound *entry = palloc(sizeof(Bound));

	entry->identity = *identity;
	entry->identity.client_id = copy_text(identity->client_id);
	entry->identity.owner = copy_text(identity->owner);
	entry->identity.scopes = DatumGetArrayTypePCopy(PointerGetDatum(identity->scopes));
	entry->level = level;
	entry->context = context;
	MemoryContextSwitchTo(before);

	if (bound != NULL && bound->level == level)
		pop(&bound);
	entry->below = bound;
	bound = entry;
	text_to_cstring_buffer(entry->identity.client_id, last_client, sizeof(last_client));
	text_to_cstring_buffer(entry->identity.owner, last_owner, sizeof(last_owner));
}

void
tr_identity_clear(void)
{
	while (bound != NULL)
		pop(&bound);
}

const TrIdentity *
tr_identity(void)
{
	return bound == NULL ? NULL : &bound->identity;
}

bool
tr_identity_has_scope(const text *scope)
{
	Datum *scopes;
	int count;

	if (bound == NULL)
		return false;
	scopes = tr_scopes_elements(bound->identity.scopes, &count);
	return tr_scopes_hold(scopes, count, scope);
}

/*
 * Is a text this string?
 */
static bool
is_text(const text *value, const char *string)
{
	size_t len = strlen(string);

	return VARSIZE_ANY_EXHDR(value) == len && memcmp(VARDATA_ANY(value), string, len) == 0;
}

const char *
tr_identity_other_before(const TrIdentity *identity)
{
	if (*last_client == '\0' ||
		(is_text(identity->client_id, last_client) && is_text(identity->owner, last_owner)))
		return NULL;
	return last_client;
}

/*
 * The end of the transaction, prepared ones included, ends what was bound; its
 * memory goes with the transaction's.
 */
static void
at_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			bound = NULL;
			*last_client = '\0';
			break;
		default:
			break;
	}
}

/*
 * A rollback to a savepoint undoes what was bound within it; what its release
 * keeps belongs to the transaction around it, instead of what that had.
 */
static void
at_subend(SubXactEvent event, SubTransactionId self, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (bound != NULL && bound->level >= level)
			pop(&bound);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB && bound != NULL && bound->level == level)
	{
		bound->level--;
		if (bound->below != NULL && bound->below->level == bound->level)
			pop(&bound->below);
	}
}

void
tr_identity_init(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subend, NULL);
}
