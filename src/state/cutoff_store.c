/*
 * cutoff_store.c
 *	  Writing cutoffs and blocks: see cutoff_store.h.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/catalog.h"
#include "frame/sql.h"
#include "state/cutoff_store.h"

void
tr_cutoff_lock(void)
{
	LockDatabaseObject(RelationRelationId, tr_catalog()->cutoff, 0, ExclusiveLock);
}

/*
 * Store one cutoff; returns the one in force.
 */
static TimestampTz
raise_one(const char *kind, const char *subject, const char *owner, TimestampTz before,
		  TimestampTz at, const char *reason)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.cutoff AS c (kind, subject, owner, before, at, reason)"
				" VALUES ($1, $2, $3, $4, $5, $6)"
				" ON CONFLICT (kind, subject, owner) DO UPDATE SET"
				" before = greatest(c.before, EXCLUDED.before),"
				" at = CASE WHEN EXCLUDED.before OPERATOR(pg_catalog.>) c.before"
				" THEN EXCLUDED.at ELSE c.at END,"
				" reason = CASE WHEN EXCLUDED.before OPERATOR(pg_catalog.>) c.before"
				" THEN EXCLUDED.reason ELSE c.reason END"
				" RETURNING c.before",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID},
	};
	Datum values[6];
	char nulls[] = "      ";
	bool isnull;

	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(subject);
	values[2] = CStringGetTextDatum(owner);
	values[3] = TimestampTzGetDatum(before);
	values[4] = TimestampTzGetDatum(at);
	values[5] = reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason);
	nulls[5] = reason == NULL ? 'n' : ' ';
	tr_sql_run(&sql, values, nulls);
	return DatumGetTimestampTz(tr_sql_value(0, 1, &isnull));
}

TimestampTz
tr_cutoff_raise(const char *kind, const char *subject, List *realms, TimestampTz before,
				TimestampTz at, const char *reason)
{
	TimestampTz stands = TR_FOREVER;
	ListCell *cell;

	if (realms == NIL)
		return raise_one(kind, subject, "", before, at, reason);
	foreach (cell, realms)
		stands = Min(stands, raise_one(kind, subject, lfirst(cell), before, at, reason));
	return stands;
}

/*
 * Block a client in one realm.
 */
static bool
block_one(const char *client_id, const char *owner, TimestampTz at)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.blocked_client (client_id, owner, at)"
				" VALUES ($1, $2, $3) ON CONFLICT (client_id, owner) DO NOTHING",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	Datum values[3];

	values[0] = CStringGetTextDatum(client_id);
	values[1] = CStringGetTextDatum(owner);
	values[2] = TimestampTzGetDatum(at);
	return tr_sql_run(&sql, values, NULL) > 0;
}

/*
 * Unblock a client in one realm, or with NULL in every one.
 */
static bool
unblock_one(const char *client_id, const char *owner)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.blocked_client b"
				" WHERE b.client_id OPERATOR(pg_catalog.=) $1"
				" AND ($2 IS NULL OR b.owner OPERATOR(pg_catalog.=) $2)",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	Datum values[2];

	values[0] = CStringGetTextDatum(client_id);
	values[1] = owner == NULL ? (Datum) 0 : CStringGetTextDatum(owner);
	return tr_sql_run(&sql, values, owner == NULL ? " n" : NULL) > 0;
}

bool
tr_cutoff_block(const char *client_id, List *realms, TimestampTz at)
{
	bool changed = false;
	ListCell *cell;

	if (realms == NIL)
		return block_one(client_id, "", at);
	foreach (cell, realms)
		changed |= block_one(client_id, lfirst(cell), at);
	return changed;
}

bool
tr_cutoff_unblock(const char *client_id, List *realms)
{
	bool changed = false;
	ListCell *cell;

	if (realms == NIL)
		return unblock_one(client_id, NULL);
	foreach (cell, realms)
		changed |= unblock_one(client_id, lfirst(cell));
	return changed;
}

void
tr_cutoff_copy(const char *from, const char *to)
{
	static TrSql cutoffs = {
		.text = "INSERT INTO token_rotation.cutoff AS c (kind, subject, owner, before, at, reason)"
				" SELECT o.kind, o.subject, $2, o.before, o.at, o.reason"
				" FROM token_rotation.cutoff o WHERE o.owner OPERATOR(pg_catalog.=) $1"
				" ON CONFLICT (kind, subject, owner) DO UPDATE SET"
				" before = greatest(c.before, EXCLUDED.before)",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	static TrSql blocks = {
		.text = "INSERT INTO token_rotation.blocked_client (client_id, owner, at)"
				" SELECT o.client_id, $2, o.at FROM token_rotation.blocked_client o"
				" WHERE o.owner OPERATOR(pg_catalog.=) $1"
				" ON CONFLICT (client_id, owner) DO NOTHING",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	Datum values[2];

	values[0] = CStringGetTextDatum(from);
	values[1] = CStringGetTextDatum(to);
	tr_sql_run(&cutoffs, values, NULL);
	tr_sql_run(&blocks, values, NULL);
}
