/*
 * policy.c
 *	  Named rules for a kind of token: see policy.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/interval.h"
#include "frame/rows.h"
#include "frame/scopes.h"
#include "state/policy.h"

/* The columns of token_rotation.policy; those that were added later have no fixed place. */
typedef enum Column
{
	COLUMN_NAME = 1,
	COLUMN_PREFIX,
	COLUMN_TTL,
	COLUMN_OVERLAP,
	COLUMN_REPLAY_WINDOW,
	COLUMN_REFRESH_BEFORE,
	COLUMN_MAX_FAMILY_AGE,
	COLUMN_ROTATION_PROOF,
	COLUMN_ALLOWED_SCOPES,
} Column;

/*
 * Copy a text column, which a constraint keeps shorter than the buffer.
 */
static void
read_text(TupleTableSlot *slot, int column, char *buffer, size_t size)
{
	bool isnull;
	Datum value = slot_getattr(slot, column, &isnull);

	text_to_cstring_buffer(DatumGetTextPP(value), buffer, size);
}

/*
 * Read an interval column; NULL is no bound.
 */
static int64
read_interval(TupleTableSlot *slot, AttrNumber column)
{
	bool isnull;
	Datum value = slot_getattr(slot, column, &isnull);
	int64 usec;

	if (isnull)
		return TR_FOREVER;
	if (!tr_interval_usec(DatumGetIntervalP(value), &usec))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("interval in column %d of a policy is out of range", (int) column),
						errdetail("The table's constraints do not allow it."),
						errhint("Look whether a constraint of token_rotation.policy is missing.")));
	return usec;
}

/*
 * Has a text column this value?
 */
static bool
says(TupleTableSlot *slot, AttrNumber column, const char *value)
{
	char text[NAMEDATALEN];

	read_text(slot, column, text, sizeof(text));
	return strcmp(text, value) == 0;
}

/*
 * Read what the reuse of a token does.  What is not plainly a weaker measure is
 * the strongest one.
 */
static TrOnReuse
read_on_reuse(TupleTableSlot *slot, AttrNumber column)
{
	if (says(slot, column, "audit"))
		return TR_REUSE_AUDIT;
	return says(slot, column, "revoke_successor") ? TR_REUSE_SUCCESSOR : TR_REUSE_FAMILY;
}

/*
 * Take the row in the slot apart.
 */
static void
read_row(TupleTableSlot *slot, TrPolicy *policy)
{
	const TrCatalog *catalog = tr_catalog();
	bool isnull;
	Datum scopes;

	read_text(slot, COLUMN_NAME, policy->name, sizeof(policy->name));
	read_text(slot, COLUMN_PREFIX, policy->prefix, sizeof(policy->prefix));
	policy->ttl = read_interval(slot, COLUMN_TTL);
	policy->overlap = read_interval(slot, COLUMN_OVERLAP);
	policy->replay_window = read_interval(slot, COLUMN_REPLAY_WINDOW);
	policy->refresh_before = read_interval(slot, COLUMN_REFRESH_BEFORE);
	policy->max_family_age = read_interval(slot, COLUMN_MAX_FAMILY_AGE);

	/* what is not plainly the weaker proof asks for the stronger one */
	policy->needs_rotation_key = !says(slot, COLUMN_ROTATION_PROOF, "token");

	scopes = slot_getattr(slot, COLUMN_ALLOWED_SCOPES, &isnull);
	policy->allowed_scopes = isnull ? NULL : DatumGetArrayTypePCopy(scopes);
	policy->on_reuse = read_on_reuse(slot, catalog->policy_on_reuse);
	policy->rotate_after = read_interval(slot, catalog->policy_rotate_after);
	policy->first_use = says(slot, catalog->policy_overlap_starts, "first_use");
	policy->min_ttl = read_interval(slot, catalog->policy_min_ttl);
	policy->sealed = says(slot, catalog->policy_delivery, "sealed");
}

bool
tr_policy_read(const char *name, TrPolicy *policy)
{
	const TrCatalog *catalog = tr_catalog();
	TrRows rows;
	ScanKeyData key;
	bool found;

	tr_key_text(&key, 1, CStringGetTextDatum(name));
	tr_rows_begin(&rows, catalog->policy, catalog->policy_pkey, 1, AccessShareLock);
	tr_rows_seek(&rows, &key, 1);
	found = tr_rows_next(&rows);
	if (found)
		read_row(rows.slot, policy);
	tr_rows_end(&rows);
	return found;
}

int64
tr_policy_started(const TrPolicy *policy)
{
	return Max(policy->overlap, policy->refresh_before);
}

bool
tr_policy_allows(const TrPolicy *policy, ArrayType *scopes)
{
	Datum *allowed;
	Datum *asked;
	int nallowed;
	int nasked;
	int i;

	if (policy->allowed_scopes == NULL)
		return true;
	allowed = tr_scopes_elements(policy->allowed_scopes, &nallowed);
	asked = tr_scopes_elements(scopes, &nasked);
	for (i = 0; i < nasked; i++)
		if (!tr_scopes_hold(allowed, nallowed, DatumGetTextPP(asked[i])))
			return false;
	return true;
}

/*
 * Those of the scopes that are among these, in their order.
 */
static ArrayType *
intersect(ArrayType *scopes, ArrayType *among)
{
	int nallowed;
	int nasked;
	Datum *allowed = tr_scopes_elements(among, &nallowed);
	Datum *asked = tr_scopes_elements(scopes, &nasked);
	int kept = 0;
	int i;

	for (i = 0; i < nasked; i++)
		if (tr_scopes_hold(allowed, nallowed, DatumGetTextPP(asked[i])))
			asked[kept++] = asked[i];
	return construct_array(asked, kept, TEXTOID, -1, false, TYPALIGN_INT);
}

ArrayType *
tr_policy_allowed(const TrPolicy *policy, ArrayType *scopes)
{
	return policy->allowed_scopes == NULL ? scopes : intersect(scopes, policy->allowed_scopes);
}

bool
tr_policy_degrade(const text *name, Snapshot snapshot, Datum *scopes)
{
	const TrCatalog *catalog = tr_catalog();
	bool isnull = true;
	bool found;
	Datum among = (Datum) 0;
	ScanKeyData key;
	TrRows rows;

	tr_key_text(&key, 1, PointerGetDatum(name));
	tr_rows_begin_at(&rows, catalog->policy, catalog->policy_pkey, 1, snapshot);
	tr_rows_seek(&rows, &key, 1);
	found = tr_rows_next(&rows);
	if (found)
		among = slot_getattr(rows.slot, catalog->policy_degraded_scopes, &isnull);
	if (!isnull)
		*scopes =
			PointerGetDatum(intersect(DatumGetArrayTypeP(*scopes), DatumGetArrayTypeP(among)));
	else if (!found)
		*scopes = PointerGetDatum(construct_empty_array(TEXTOID));
	tr_rows_end(&rows);
	return !isnull;
}

bool
tr_policy_request_role(const text *name, char role[NAMEDATALEN])
{
	const TrCatalog *catalog = tr_catalog();
	bool isnull = true;
	ScanKeyData key;
	TrRows rows;

	if (catalog->policy_request_role == InvalidAttrNumber)
		return false;
	tr_key_text(&key, 1, PointerGetDatum(name));
	tr_rows_begin(&rows, catalog->policy, catalog->policy_pkey, 1, AccessShareLock);
	tr_rows_seek(&rows, &key, 1);
	if (tr_rows_next(&rows))
		slot_getattr(rows.slot, catalog->policy_request_role, &isnull);
	if (!isnull)
		read_text(rows.slot, catalog->policy_request_role, role, NAMEDATALEN);
	tr_rows_end(&rows);
	return !isnull;
}
