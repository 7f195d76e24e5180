/*
 * delivery.c
 *	  tr_set_delivery_key, tr_drop_delivery_key and tr_deliveries, and the making
 *	  of deliveries: see delivery.h.
 *
 * A delivery is encrypted in the transaction that makes the secret, to a key that
 * nobody here can open, so it may lie in a table, in WAL and in backups.  A key
 * that replaces another one waits, so that who takes over an operator's session
 * cannot have the next delivery without anybody seeing it beforehand.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "frame/caller.h"
#include "frame/catalog.h"
#include "frame/event.h"
#include "frame/pgcrypto.h"
#include "frame/rows.h"
#include "frame/settings.h"
#include "frame/stop_point.h"
#include "frame/verdict.h"
#include "frame/xact.h"
#include "state/audit.h"
#include "state/cutoff.h"
#include "state/store.h"
#include "verbs/args.h"
#include "verbs/delivery.h"
#include "verbs/note.h"

#define BEGIN_PUBLIC "-----BEGIN PGP PUBLIC KEY BLOCK-----"
#define BEGIN_PRIVATE "-----BEGIN PGP PRIVATE KEY BLOCK-----"
#define BEGIN_ANY "-----BEGIN "
#define ARMOR_BYTES_MAX (2 * TR_PGP_BYTES_MAX)

#define EXPORT_HINT "Pass what gpg --armor --export-options export-minimal --export KEY writes."
#define SUBKEY_HINT "Add a subkey with gpg --quick-add-key FINGERPRINT rsa3072 encr."

/* Bytes of a message: two tokens' texts and a few times. */
#define MESSAGE_SIZE 1024

/* Seconds from 1970 to the server's epoch. */
#define EPOCHS_APART ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

bool
tr_deliver_key(const TrToken *token, TimestampTz now, TrDeliveryKey *key)
{
	return tr_delivery_key(token->client_id, token->owner, now, key) && key->public_key != NULL &&
		   key->expires_at > now;
}

/*
 * What the holder gets: a JSON object.  Nothing in it needs quoting.
 */
static void
format_message(const TrRotate *rotate, char *message)
{
	const TrToken *successor = &rotate->successor;
	char prefix[TR_PREFIX_MAX + 1];
	char token[TR_TEXT_SIZE];
	char key[TR_TEXT_SIZE];

	text_to_cstring_buffer(successor->prefix, prefix, sizeof(prefix));
	tr_token_format(prefix, false, successor->id, rotate->secrets.token, token);
	tr_token_format(prefix, true, successor->id, rotate->secrets.rotation, key);
	snprintf(
		message, MESSAGE_SIZE,
		"{\"token\": \"%s\", \"rotation_key\": %s%s%s, \"expires_at\": \"%s\","
		" \"refresh_at\": \"%s\", \"previous_valid_until\": \"%s\"}\n",
		token, rotate->secrets.has_rotation ? "\"" : "",
		rotate->secrets.has_rotation ? key : "null", rotate->secrets.has_rotation ? "\"" : "",
		tr_event_moment(successor->life.expires_at), tr_event_moment(successor->refresh_at),
		tr_event_moment(Min(rotate->token.life.overlap_ends_at, rotate->token.life.expires_at)));
	tr_wipe(token, sizeof(token));
	tr_wipe(key, sizeof(key));
}

void
tr_deliver(TrRotate *rotate, const TrDeliveryKey *key)
{
	union
	{
		int32 align;
		char bytes[VARHDRSZ + MESSAGE_SIZE];
	} plain;
	text *volatile message = NULL;

	/* a text of our own, which is the only copy in clear that we make */
	format_message(rotate, plain.bytes + VARHDRSZ);
	tr_wipe(&rotate->secrets, sizeof(rotate->secrets));
	SET_VARSIZE(&plain, VARHDRSZ + strlen(plain.bytes + VARHDRSZ));
	PG_TRY();
	{
		message = tr_pgcrypto_encrypt((text *) &plain, key->public_key);
	}
	PG_FINALLY();
	{
		tr_wipe(&plain, sizeof(plain));
	}
	PG_END_TRY();
	TR_STOP_POINT("deliver_half");
	tr_delivery_put(&rotate->token, &rotate->successor, key->fingerprint, message);
	pfree(message);
}

/*
 * Raise why a key is refused.
 */
pg_noreturn static void
raise_fault(TrPgpFault fault)
{
	static const struct
	{
		const char *detail;
		const char *hint;
	} texts[] = {
		[TR_PGP_NO_KEY] = {"It is not one armored PGP public key.", EXPORT_HINT},
		[TR_PGP_PRIVATE] = {"It is a private key, which nobody but its owner should have.",
							"Nothing was stored. Treat the key as compromised, and pass the public "
							"key of another one."},
		[TR_PGP_SEVERAL] = {"It holds more than one key.", EXPORT_HINT},
		[TR_PGP_UNKNOWN] = {"Something in it is not understood: a version other than 4, or an "
							"unknown algorithm, packet or signature.",
							EXPORT_HINT},
		[TR_PGP_UNSIGNED] = {"It has no signature of its own, or its subkey has none.",
							 EXPORT_HINT},
		[TR_PGP_REVOKED] = {"It was revoked, or its subkey for encryption was.",
							"Pass the client's new key."},
		[TR_PGP_EXPIRED] = {"It has expired, or its subkey for encryption has.",
							"Have the client extend it with gpg --quick-set-expire, or pass a new "
							"key."},
		[TR_PGP_WEAK] = {"It has less than 2048 bits, or its subkey for encryption has.",
						 "Pass a key of 3072 bits."},
		[TR_PGP_LARGE] = {"It has more than 8192 bits, or its subkey for encryption has.",
						  "Pass a key of 3072 or 4096 bits."},
		[TR_PGP_NO_SUBKEY] = {"It has no subkey for encryption.", SUBKEY_HINT},
		[TR_PGP_ALGORITHM] = {"pgcrypto can encrypt to subkeys of RSA and Elgamal only, not to "
							  "elliptic curves.",
							  SUBKEY_HINT},
	};

	if (fault == TR_PGP_CRYPTO)
		tr_raise_crypto();
	tr_raise_value("public_key cannot be used", texts[fault].detail, texts[fault].hint);
}

/*
 * The armor must be of one public key: what stands behind its end would be passed
 * over.
 */
static void
check_armor(const text *value)
{
	char *armor;
	char *first;

	if (VARSIZE_ANY_EXHDR(value) > ARMOR_BYTES_MAX)
		tr_raise_value("public_key is too long",
					   psprintf("It has %zu bytes; %d are allowed.",
								(size_t) VARSIZE_ANY_EXHDR(value), ARMOR_BYTES_MAX),
					   EXPORT_HINT);
	armor = text_to_cstring(value);
	if (strstr(armor, BEGIN_PRIVATE) != NULL)
		raise_fault(TR_PGP_PRIVATE);
	first = strstr(armor, BEGIN_ANY);
	if (first == NULL || strncmp(first, BEGIN_PUBLIC, strlen(BEGIN_PUBLIC)) != 0)
		raise_fault(TR_PGP_NO_KEY);
	if (strstr(first + 1, BEGIN_ANY) != NULL)
		raise_fault(TR_PGP_SEVERAL);
	pfree(armor);
}

/*
 * Read an armored certificate, keep of it what encrypting needs, and try it.
 */
static void
read_key(const text *value, TimestampTz now, TrDeliveryKey *key)
{
	bytea *data = tr_pgcrypto_dearmor(value);
	TrPgpKey found;
	TrPgpFault fault;
	char *at;
	int i;

	fault = tr_pgp_read((const uint8 *) VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data),
						now / USECS_PER_SEC + EPOCHS_APART, &found);
	if (fault != TR_PGP_GOOD)
		raise_fault(fault);
	key->public_key = palloc(VARHDRSZ + found.primary.left + found.subkey.left);
	SET_VARSIZE(key->public_key, VARHDRSZ + found.primary.left + found.subkey.left);
	at = VARDATA(key->public_key);
	memcpy(at, found.primary.at, found.primary.left);
	memcpy(at + found.primary.left, found.subkey.at, found.subkey.left);
	for (i = 0; i < TR_PGP_FINGERPRINT_BYTES; i++)
		snprintf(key->fingerprint + 2 * i, 3, "%02X", found.subkey_fingerprint[i]);
	key->expires_at =
		found.expires_at == 0 ? TR_FOREVER : (found.expires_at - EPOCHS_APART) * USECS_PER_SEC;
	tr_pgcrypto_encrypt(cstring_to_text("try"), key->public_key);
}

/*
 * The key that is to be stored.  What pgcrypto finds wrong, it calls a failure of
 * its own.
 */
static void
arg_key(FunctionCallInfo fcinfo, int n, TimestampTz now, TrDeliveryKey *key)
{
	MemoryContext context = CurrentMemoryContext;
	text *value = DatumGetTextPP(tr_arg(fcinfo, n, "public_key"));

	check_armor(value);
	PG_TRY();
	{
		read_key(value, now, key);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		raise_fault(TR_PGP_NO_KEY);
	}
	PG_END_TRY();
}

/*
 * Write the audit row of a key: never more of it than its fingerprint.
 */
static void
record_key(const text *client_id, const char *owner, const char *reason, const TrDeliveryKey *key,
		   TimestampTz effective_at)
{
	TrEvent event;

	tr_event_begin(&event, TR_EVENT_DELIVERY_KEY_CHANGED);
	tr_event_text(event.client_id, VARDATA_ANY(client_id), VARSIZE_ANY_EXHDR(client_id));
	strlcpy(event.owner, owner, sizeof(event.owner));
	strlcpy(event.reason, reason, sizeof(event.reason));
	tr_audit_write(&event, psprintf("{\"fingerprint\": \"%s\", \"effective_at\": \"%s\"}",
									key->fingerprint, tr_event_moment(effective_at)));
}

/*
 * Are these the same keys to encrypt to?
 */
static bool
same_key(const TrDeliveryKey *one, const TrDeliveryKey *two)
{
	return one->public_key != NULL && two->public_key != NULL &&
		   VARSIZE_ANY_EXHDR(one->public_key) == VARSIZE_ANY_EXHDR(two->public_key) &&
		   memcmp(VARDATA_ANY(one->public_key), VARDATA_ANY(two->public_key),
				  VARSIZE_ANY_EXHDR(one->public_key)) == 0;
}

/*
 * Store a key in one realm; when it takes effect.
 */
static TimestampTz
set_key(const text *client_id, const char *owner, const TrDeliveryKey *key, TimestampTz now)
{
	text *realm = cstring_to_text(owner);
	TimestampTz effective_at = now;
	const char *reason = "added";
	TrDeliveryKey current;

	if (tr_delivery_key(client_id, realm, now, &current) && same_key(&current, key))
		reason = "renewed";
	else if (tr_delivery_has_key(client_id, realm))
	{
		reason = "replaced";
		effective_at = tr_delivery_key_due(now);
	}
	tr_delivery_put_key(client_id, realm, key, now, effective_at);
	record_key(client_id, owner, reason, key, effective_at);
	return effective_at;
}

/*
 * Drop a key in one realm; was there one?
 */
static bool
drop_key(const text *client_id, const char *owner, TimestampTz now)
{
	text *realm = cstring_to_text(owner);
	TrDeliveryKey none = {0};
	TrDeliveryKey current;

	tr_delivery_key(client_id, realm, now, &current);
	if (current.public_key == NULL && !tr_delivery_key_waits(client_id, realm, now))
		return false;
	tr_delivery_put_key(client_id, realm, &none, now, now);
	record_key(client_id, owner, "dropped", &current, now);
	return true;
}

PG_FUNCTION_INFO_V1(tr_set_delivery_key);

/*
 * tr_set_delivery_key(client_id, public_key): when it takes effect.
 */
Datum
tr_set_delivery_key(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz effective_at = TR_NEVER;
	TrDeliveryKey key = {0};
	TrSection section;
	text *client_id;
	List *realms;
	ListCell *cell;

	tr_catalog();
	tr_xact_writes("tr_set_delivery_key()");
	client_id = tr_arg_client(fcinfo, 0);
	arg_key(fcinfo, 1, now, &key);

	tr_section_begin(&section);
	realms = tr_realms_of_caller();
	tr_delivery_lock_keys(client_id);
	now = GetCurrentTimestamp();
	if (realms == NIL)
		effective_at = set_key(client_id, "", &key, now);
	foreach (cell, realms)
	{
		TimestampTz here = set_key(client_id, lfirst(cell), &key, now);

		effective_at = Max(effective_at, here);
	}
	tr_section_end(&section);
	PG_RETURN_TIMESTAMPTZ(effective_at);
}

PG_FUNCTION_INFO_V1(tr_drop_delivery_key);

/*
 * tr_drop_delivery_key(client_id): did the client have one?
 */
Datum
tr_drop_delivery_key(PG_FUNCTION_ARGS)
{
	bool dropped = false;
	TrSection section;
	TimestampTz now;
	text *client_id;
	List *realms;
	ListCell *cell;

	tr_catalog();
	tr_xact_writes("tr_drop_delivery_key()");
	client_id = tr_arg_client(fcinfo, 0);

	tr_section_begin(&section);
	realms = tr_realms_of_caller();
	tr_delivery_lock_keys(client_id);
	now = GetCurrentTimestamp();
	if (realms == NIL)
		dropped = drop_key(client_id, "", now);
	foreach (cell, realms)
		dropped |= drop_key(client_id, lfirst(cell), now);
	tr_section_end(&section);
	PG_RETURN_BOOL(dropped);
}

/*
 * Is the successor still of any use?  If it is, count that its delivery is
 * fetched; the first time is an event.
 */
static bool
fetch(const TrDelivery *delivery, TimestampTz now)
{
	TrRules rules = tr_rules();
	TrEvent event;
	TrToken token;

	if (!tr_store_read_now(delivery->token, &token))
		return false;
	tr_cutoff_apply_now(&token);
	if (tr_life_verdict(&token.life, now, &rules) != TR_OK || !tr_delivery_fetched(delivery, now))
		return false;
	if (delivery->fetches == 0)
	{
		tr_note_begin(&event, TR_EVENT_DELIVERY_FETCHED, &token);
		tr_audit_write(
			&event, psprintf("{\"fingerprint\": \"%s\"}", text_to_cstring(delivery->fingerprint)));
	}
	return true;
}

/*
 * A delivery as a row of the answer.
 */
static void
put_row(ReturnSetInfo *result, const TrDelivery *delivery)
{
	bool nulls[8] = {false};
	uint8 ref[TR_HASH_BYTES];
	Datum values[8];

	if (!tr_sha256(delivery->token, TR_ID_BYTES, ref))
		tr_raise_crypto();
	values[0] = tr_hash_datum(ref);
	values[1] = PointerGetDatum(delivery->client_id);
	values[2] = PointerGetDatum(delivery->owner);
	values[3] = PointerGetDatum(delivery->fingerprint);
	values[4] = PointerGetDatum(delivery->message);
	values[5] = TimestampTzGetDatum(delivery->made_at);
	values[6] = TimestampTzGetDatum(delivery->ends_at);
	values[7] = Int32GetDatum(delivery->fetches + 1);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(tr_deliveries);

/*
 * tr_deliveries(client_id, max_tokens): what waits for a client, or for all.
 */
Datum
tr_deliveries(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	text *client_id = PG_ARGISNULL(0) ? NULL : tr_arg_client(fcinfo, 0);
	TrSection section;
	TimestampTz now;
	ListCell *cell;
	int32 max;

	tr_catalog();
	tr_xact_writes("tr_deliveries()");
	max = tr_arg_max(fcinfo, 1);
	InitMaterializedSRF(fcinfo, 0);

	tr_section_begin(&section);
	now = GetCurrentTimestamp();
	foreach (cell, tr_delivery_list(tr_realm_array_of_caller(), client_id, now, max))
	{
		CHECK_FOR_INTERRUPTS();
		if (fetch(lfirst(cell), now))
			put_row(result, lfirst(cell));
	}
	tr_section_end(&section);
	return (Datum) 0;
}
