/*
 * delivery.c
 *	  The tables delivery and delivery_key: see delivery.h.
 *
 * A key speaks for one realm, or with an empty owner for all; the newest one that
 * has taken effect counts.  A dropped key leaves a row without one, so that the
 * next is not taken for the first, which needs not wait.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "frame/catalog.h"
#include "frame/sql.h"
#include "state/delivery.h"

/* Keys k that may speak for the client $1 in the realm $2. */
#define KEYS_OF                                                                                    \
	"k.client_id OPERATOR(pg_catalog.=) $1"                                                        \
	" AND (k.owner OPERATOR(pg_catalog.=) $2 OR k.owner OPERATOR(pg_catalog.=) '')"
#define IN_REALM(n) "(" n " IS NULL OR d.owner OPERATOR(pg_catalog.=) ANY (" n "))"

/*
 * A text of a result, in CurrentMemoryContext.
 */
static text *
text_of(uint64 row, int column)
{
	bool isnull;

	return DatumGetTextPCopy(tr_sql_value(row, column, &isnull));
}

void
tr_delivery_lock_keys(const text *client_id)
{
	Oid table = tr_catalog()->delivery_key;
	uint32 hash;

	LockDatabaseObject(RelationRelationId, table, 0,
					   client_id == NULL ? ExclusiveLock : ShareLock);
	if (client_id == NULL)
		return;
	hash = hash_bytes((const unsigned char *) VARDATA_ANY(client_id),
					  VARSIZE_ANY_EXHDR(client_id));
	LockDatabaseObject(RelationRelationId, table, (uint16) (hash % PG_UINT16_MAX) + 1,
					   ExclusiveLock);
}

bool
tr_delivery_key(const text *client_id, const text *owner, TimestampTz now, TrDeliveryKey *key)
{
	static TrSql sql = {
		.text = "SELECT k.public_key, k.fingerprint, k.expires_at"
				" FROM token_rotation.delivery_key k WHERE " KEYS_OF
				" AND k.effective_at OPERATOR(pg_catalog.<=) $3"
				" ORDER BY k.effective_at DESC, k.owner DESC LIMIT 1",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	Datum values[3];
	Datum value;
	bool isnull;

	memset(key, 0, sizeof(*key));
	values[0] = PointerGetDatum(client_id);
	values[1] = PointerGetDatum(owner);
	values[2] = TimestampTzGetDatum(now);
	if (tr_sql_run(&sql, values, NULL) == 0)
		return false;
	value = tr_sql_value(0, 1, &isnull);
	if (isnull)
		return true;
	key->public_key = DatumGetByteaPCopy(value);
	text_to_cstring_buffer(text_of(0, 2), key->fingerprint, sizeof(key->fingerprint));
	value = tr_sql_value(0, 3, &isnull);
	key->expires_at = isnull ? TR_FOREVER : DatumGetTimestampTz(value);
	return true;
}

bool
tr_delivery_has_key(const text *client_id, const text *owner)
{
	static TrSql sql = {
		.text = "SELECT FROM token_rotation.delivery_key k"
				" WHERE k.client_id OPERATOR(pg_catalog.=) $1 AND ($2 OPERATOR(pg_catalog.=) ''"
				" OR k.owner OPERATOR(pg_catalog.=) $2 OR k.owner OPERATOR(pg_catalog.=) '')"
				" LIMIT 1",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	Datum values[2];

	values[0] = PointerGetDatum(client_id);
	values[1] = PointerGetDatum(owner);
	return tr_sql_run(&sql, values, NULL) > 0;
}

/*
 * Where no policy delivers yet, one of any may be the first.  Seconds, because
 * adding a month to a date may be less than the 30 days that it counts as.
 */
TimestampTz
tr_delivery_key_due(TimestampTz now)
{
	static TrSql sql = {
		.text = "SELECT $1 OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs =>"
				" pg_catalog.date_part('epoch', coalesce(pg_catalog.max(p.ttl) FILTER"
				" (WHERE p.delivery OPERATOR(pg_catalog.=) 'sealed'), pg_catalog.max(p.ttl))))"
				" FROM token_rotation.policy p",
		.nargs = 1,
		.types = {TIMESTAMPTZOID},
	};
	Datum value = TimestampTzGetDatum(now);
	bool isnull;

	tr_sql_run(&sql, &value, NULL);
	value = tr_sql_value(0, 1, &isnull);
	return isnull ? now : DatumGetTimestampTz(value);
}

void
tr_delivery_put_key(const text *client_id, const text *owner, const TrDeliveryKey *key,
					TimestampTz now, TimestampTz effective_at)
{
	static TrSql clear = {
		.text = "DELETE FROM token_rotation.delivery_key k"
				" WHERE k.client_id OPERATOR(pg_catalog.=) $1"
				" AND (k.owner OPERATOR(pg_catalog.=) $2 OR $2 OPERATOR(pg_catalog.=) ''"
				" AND ($5 OR k.effective_at OPERATOR(pg_catalog.>) $3))"
				" AND (k.effective_at OPERATOR(pg_catalog.>) $3"
				" OR $4 OPERATOR(pg_catalog.<=) $3 OR EXISTS (SELECT"
				" FROM token_rotation.delivery_key n"
				" WHERE n.client_id OPERATOR(pg_catalog.=) $1"
				" AND n.owner OPERATOR(pg_catalog.=) $2"
				" AND n.effective_at OPERATOR(pg_catalog.>) k.effective_at"
				" AND n.effective_at OPERATOR(pg_catalog.<=) $3))",
		.nargs = 5,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID},
	};
	static TrSql insert = {
		.text = "INSERT INTO token_rotation.delivery_key (client_id, owner, public_key,"
				" fingerprint, added_at, effective_at, expires_at)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7)",
		.nargs = 7,
		.types = {TEXTOID, TEXTOID, BYTEAOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
				  TIMESTAMPTZOID},
	};
	Datum values[7];
	char nulls[] = "       ";

	values[0] = PointerGetDatum(client_id);
	values[1] = PointerGetDatum(owner);
	values[2] = TimestampTzGetDatum(now);
	values[3] = TimestampTzGetDatum(effective_at);
	/* who speaks for every realm drops the key of each */
	values[4] = BoolGetDatum(key->public_key == NULL);
	tr_sql_run(&clear, values, NULL);

	values[2] = PointerGetDatum(key->public_key);
	values[3] = CStringGetTextDatum(key->fingerprint);
	if (key->public_key == NULL)
		nulls[2] = nulls[3] = 'n';
	values[4] = TimestampTzGetDatum(now);
	values[5] = TimestampTzGetDatum(effective_at);
	values[6] = TimestampTzGetDatum(key->expires_at);
	if (key->public_key == NULL || key->expires_at == TR_FOREVER)
		nulls[6] = 'n';
	tr_sql_run(&insert, values, nulls);
}

bool
tr_delivery_key_waits(const text *client_id, const text *owner, TimestampTz now)
{
	static TrSql sql = {
		.text = "SELECT FROM token_rotation.delivery_key k"
				" WHERE k.client_id OPERATOR(pg_catalog.=) $1"
				" AND (k.owner OPERATOR(pg_catalog.=) $2 AND k.effective_at OPERATOR(pg_catalog.>) $3"
				" OR $2 OPERATOR(pg_catalog.=) '' AND k.public_key IS NOT NULL)",
		.nargs = 3,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	Datum values[3];

	values[0] = PointerGetDatum(client_id);
	values[1] = PointerGetDatum(owner);
	values[2] = TimestampTzGetDatum(now);
	return tr_sql_run(&sql, values, NULL) > 0;
}

void
tr_delivery_put(const TrToken *predecessor, const TrToken *successor, const char *fingerprint,
				const text *message)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.delivery (token_id, predecessor_id, client_id, owner,"
				" fingerprint, message, made_at, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		.nargs = 8,
		.types = {UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
				  TIMESTAMPTZOID},
	};
	Datum values[8];

	values[0] = PointerGetDatum(successor->id);
	values[1] = PointerGetDatum(predecessor->id);
	values[2] = PointerGetDatum(successor->client_id);
	values[3] = PointerGetDatum(successor->owner);
	values[4] = CStringGetTextDatum(fingerprint);
	values[5] = PointerGetDatum(message);
	values[6] = TimestampTzGetDatum(successor->life.issued_at);
	values[7] =
		TimestampTzGetDatum(Min(predecessor->life.overlap_ends_at, predecessor->life.expires_at));
	tr_sql_run(&sql, values, NULL);
}

List *
tr_delivery_list(ArrayType *realms, const text *client_id, TimestampTz now, int max)
{
	static TrSql sql = {
		.text = "SELECT d.token_id, d.client_id, d.owner, d.fingerprint, d.message, d.made_at,"
				" d.ends_at, d.fetches FROM token_rotation.delivery d WHERE " IN_REALM(
					"$1") " AND ($2 IS NULL OR d.client_id OPERATOR(pg_catalog.=) $2)"
						  " AND d.ends_at OPERATOR(pg_catalog.>) $3"
						  " ORDER BY d.fetched_at NULLS FIRST, d.made_at, d.token_id LIMIT $4",
		.nargs = 4,
		.types = {TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, INT4OID},
	};
	char nulls[] = "    ";
	List *deliveries = NIL;
	Datum values[4];
	bool isnull;
	uint64 count;
	uint64 i;

	values[0] = PointerGetDatum(realms);
	nulls[0] = realms == NULL ? 'n' : ' ';
	values[1] = PointerGetDatum(client_id);
	nulls[1] = client_id == NULL ? 'n' : ' ';
	values[2] = TimestampTzGetDatum(now);
	values[3] = Int32GetDatum(max);
	count = tr_sql_run(&sql, values, nulls);
	for (i = 0; i < count; i++)
	{
		TrDelivery *delivery = palloc(sizeof(TrDelivery));

		memcpy(delivery->token, tr_sql_id(i, 1), TR_ID_BYTES);
		delivery->client_id = text_of(i, 2);
		delivery->owner = text_of(i, 3);
		delivery->fingerprint = text_of(i, 4);
		delivery->message = text_of(i, 5);
		delivery->made_at = DatumGetTimestampTz(tr_sql_value(i, 6, &isnull));
		delivery->ends_at = DatumGetTimestampTz(tr_sql_value(i, 7, &isnull));
		delivery->fetches = DatumGetInt32(tr_sql_value(i, 8, &isnull));
		deliveries = lappend(deliveries, delivery);
	}
	return deliveries;
}

bool
tr_delivery_fetched(const TrDelivery *delivery, TimestampTz now)
{
	static TrSql sql = {
		.text = "UPDATE token_rotation.delivery d"
				" SET fetches = least(d.fetches, 2147483646) OPERATOR(pg_catalog.+) 1,"
				" fetched_at = $2 WHERE d.token_id OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.types = {UUIDOID, TIMESTAMPTZOID},
	};
	Datum values[2];

	values[0] = PointerGetDatum(delivery->token);
	values[1] = TimestampTzGetDatum(now);
	return tr_sql_run(&sql, values, NULL) > 0;
}

void
tr_delivery_move_end(const uint8 *predecessor, TimestampTz ends_at)
{
	static TrSql sql = {
		.text = "UPDATE token_rotation.delivery m SET ends_at = $2"
				" WHERE m.token_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT d.token_id"
				" FROM token_rotation.delivery d WHERE d.predecessor_id OPERATOR(pg_catalog.=) $1"
				" FOR UPDATE SKIP LOCKED))",
		.nargs = 2,
		.types = {UUIDOID, TIMESTAMPTZOID},
	};
	Datum values[2];

	values[0] = PointerGetDatum(predecessor);
	values[1] = TimestampTzGetDatum(ends_at);
	tr_sql_run(&sql, values, NULL);
}

void
tr_delivery_erase(const uint8 *id)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.delivery e WHERE e.token_id OPERATOR(pg_catalog.=)"
				" ANY (ARRAY(SELECT d.token_id FROM token_rotation.delivery d"
				" WHERE d.token_id OPERATOR(pg_catalog.=) $1"
				" OR d.predecessor_id OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED))",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum value = PointerGetDatum(id);

	tr_sql_run(&sql, &value, NULL);
}

void
tr_delivery_erase_ended(TimestampTz now, ArrayType *realms, int max)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.delivery e WHERE e.token_id OPERATOR(pg_catalog.=)"
				" ANY (ARRAY(SELECT d.token_id FROM token_rotation.delivery d"
				" WHERE d.ends_at OPERATOR(pg_catalog.<=) $1 AND " IN_REALM(
					"$2") " ORDER BY d.ends_at LIMIT $3 FOR UPDATE SKIP LOCKED))",
		.nargs = 3,
		.types = {TIMESTAMPTZOID, TEXTARRAYOID, INT4OID},
	};
	Datum values[3];

	values[0] = TimestampTzGetDatum(now);
	values[1] = PointerGetDatum(realms);
	values[2] = Int32GetDatum(max);
	tr_sql_run(&sql, values, realms == NULL ? " n " : NULL);
}

/*
 * Who holds one may be waiting for the lock of the cutoffs, which the caller has:
 * it is passed over, and cannot be fetched any more.
 */
void
tr_delivery_erase_cut(const char *client_id, const char *policy, TimestampTz before,
					  ArrayType *realms)
{
	static TrSql sql = {
		.text = "DELETE FROM token_rotation.delivery e WHERE e.token_id OPERATOR(pg_catalog.=)"
				" ANY (ARRAY(SELECT d.token_id FROM token_rotation.delivery d"
				" JOIN token_rotation.token t ON t.token_id OPERATOR(pg_catalog.=) d.token_id"
				" WHERE ($1 IS NULL OR d.client_id OPERATOR(pg_catalog.=) $1)"
				" AND ($2 IS NULL OR t.policy OPERATOR(pg_catalog.=) $2)"
				" AND t.issued_at OPERATOR(pg_catalog.<) $3 AND " IN_REALM(
					"$4") " FOR UPDATE OF d SKIP LOCKED))",
		.nargs = 4,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID},
	};
	char nulls[] = "    ";
	Datum values[4];

	nulls[0] = client_id == NULL ? 'n' : ' ';
	values[0] = client_id == NULL ? (Datum) 0 : CStringGetTextDatum(client_id);
	nulls[1] = policy == NULL ? 'n' : ' ';
	values[1] = policy == NULL ? (Datum) 0 : CStringGetTextDatum(policy);
	values[2] = TimestampTzGetDatum(before);
	nulls[3] = realms == NULL ? 'n' : ' ';
	values[3] = PointerGetDatum(realms);
	tr_sql_run(&sql, values, nulls);
}

/*
 * A client of both realms may have got the same key at the same moment.
 */
void
tr_delivery_set_owner(const char *from, const char *to)
{
	static TrSql copy = {
		.text = "INSERT INTO token_rotation.delivery_key (client_id, owner, public_key,"
				" fingerprint, added_at, effective_at, expires_at)"
				" SELECT k.client_id, $2, k.public_key, k.fingerprint, k.added_at, k.effective_at,"
				" k.expires_at FROM token_rotation.delivery_key k"
				" WHERE k.owner OPERATOR(pg_catalog.=) $1"
				" ON CONFLICT (client_id, owner, effective_at) DO NOTHING",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	static TrSql drop = {
		.text = "DELETE FROM token_rotation.delivery_key k WHERE k.owner OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.types = {TEXTOID},
	};
	static TrSql move = {
		.text = "UPDATE token_rotation.delivery d SET owner = $2"
				" WHERE d.owner OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	Datum values[2];

	tr_delivery_lock_keys(NULL);
	values[0] = CStringGetTextDatum(from);
	values[1] = CStringGetTextDatum(to);
	tr_sql_run(&copy, values, NULL);
	tr_sql_run(&drop, values, NULL);
	tr_sql_run(&move, values, NULL);
}
