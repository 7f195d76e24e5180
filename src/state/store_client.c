/*
 * store_client.c
 *	  The tokens of one client: see store_client.h.
 *
 * The index has the rows of a client in the order of their places in the table.
 * Backwards that is newest first, but for those that lie where pruned ones were.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/lifecycle.h"
#include "frame/catalog.h"
#include "frame/compat.h"
#include "frame/verdict.h"
#include "state/store_client.h"

/* The columns of token that are looked at. */
enum
{
	COL_TOKEN_ID = 1,
	COL_STATUS = 9,
	COL_ISSUED_AT = 15,
	COL_LAST_USED_AT = 22,
};

void
tr_client_walk_begin(TrClientWalk *walk, const text *client_id, const text *owner)
{
	const TrCatalog *catalog = tr_catalog();
	ScanKeyData keys[2];

	walk->left = TR_CLIENT_ROWS;
	tr_key_text(&keys[0], 1, PointerGetDatum(client_id));
	tr_key_text(&keys[1], 2, PointerGetDatum(owner));
	tr_rows_begin(&walk->rows, catalog->token, catalog->token_client, 2, AccessShareLock);
	tr_rows_seek(&walk->rows, keys, 2);
}

bool
tr_client_walk_next(TrClientWalk *walk, TrClientToken *token)
{
	TupleTableSlot *slot = walk->rows.slot;
	TrStatus status;
	bool isnull;
	Datum value;

	CHECK_FOR_INTERRUPTS();
	if (walk->left-- <= 0 || !tr_rows_prior(&walk->rows))
		return false;

	value = slot_getattr(slot, COL_TOKEN_ID, &isnull);
	memcpy(token->id, DatumGetUUIDP(value)->data, TR_ID_BYTES);
	value = slot_getattr(slot, COL_ISSUED_AT, &isnull);
	token->issued_at = DatumGetTimestampTz(value);
	value = slot_getattr(slot, COL_STATUS, &isnull);
	status = tr_status_read(DatumGetTextPP(value));
	token->live = status != TR_REVOKED && status != TR_EXPIRED;
	value = slot_getattr(slot, COL_LAST_USED_AT, &isnull);
	token->last_used_at = isnull ? TR_NEVER : DatumGetTimestampTz(value);
	return true;
}

void
tr_client_walk_end(TrClientWalk *walk)
{
	tr_rows_end(&walk->rows);
}
