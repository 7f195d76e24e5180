/*
 * mac.c
 *	  Keyed hashes of a token: see mac.h.
 */
#include "core/mac.h"

#include <string.h>

#define BLOCK 64
#define LEAST (3 * BLOCK + 55)

static const char *const labels[TR_KEY_USES] = {
	[TR_KEY_SECRET] = "token_rotation secret v1",
	[TR_KEY_ROTATION] = "token_rotation rotation key v1",
	[TR_KEY_ROW] = "token_rotation row v1",
};

/* A message on its way to the hash: small fields are handed over together. */
typedef struct Message
{
	uint8_t buffer[LEAST];
	size_t used;
	size_t len; /* of the whole message so far */
	bool good;
} Message;

/*
 * Hand over what is in the buffer.
 */
static void
flush(Message *message)
{
	message->good = message->good && tr_hmac_add(message->buffer, message->used);
	message->used = 0;
}

/*
 * Add bytes.
 */
static void
put(Message *message, const void *bytes, size_t len)
{
	message->len += len;
	if (message->used + len > sizeof(message->buffer))
		flush(message);
	if (len > sizeof(message->buffer))
		message->good = message->good && tr_hmac_add(bytes, len);
	else if (len > 0)
	{
		memcpy(message->buffer + message->used, bytes, len);
		message->used += len;
	}
}

/*
 * Add a number in four bytes, or eight.
 */
static void
put_number(Message *message, uint64_t value, int width)
{
	uint8_t bytes[8];
	int i;

	for (i = width - 1; i >= 0; i--)
	{
		bytes[i] = (uint8_t) value;
		value >>= 8;
	}
	put(message, bytes, (size_t) width);
}

/*
 * Add a field.
 */
static void
put_field(Message *message, const void *bytes, size_t len)
{
	put_number(message, len, 4);
	put(message, bytes, len);
}

/*
 * Add a moment.
 */
static void
put_moment(Message *message, int64_t moment)
{
	put_number(message, 8, 4);
	put_number(message, (uint64_t) moment, 8);
}

/*
 * Add the zeros at the end.
 */
static void
put_padding(Message *message)
{
	static const uint8_t zeros[LEAST] = {0};
	size_t end = LEAST;

	while (end < message->len)
		end += BLOCK;
	put(message, zeros, end - message->len);
}

bool
tr_mac(const TrKey *key, TrKeyUse use, const TrRow *row, const uint8_t secret[TR_HASH_BYTES],
	   uint8_t out[TR_HASH_BYTES])
{
	Message message;
	uint8_t rotation_key = row->rotation_key ? 1 : 0;
	int i;

	message.used = 0;
	message.len = 0;
	message.good = tr_hmac_begin(key->subkeys[use]);
	put_field(&message, labels[use], strlen(labels[use]));
	put_field(&message, row->id, TR_ID_BYTES);
	put_field(&message, row->family, TR_ID_BYTES);
	put_moment(&message, row->issued_at);
	put_moment(&message, row->expires_at);
	put_field(&message, &rotation_key, 1);
	put_field(&message, secret, use == TR_KEY_ROW ? 0 : TR_HASH_BYTES);
	put_field(&message, row->client.at, row->client.len);
	put_number(&message, (uint64_t) row->scope_count, 4);
	for (i = 0; i < row->scope_count; i++)
		put_field(&message, row->scopes[i].at, row->scopes[i].len);
	put_padding(&message);
	flush(&message);
	return message.good && tr_hmac_end(key->subkeys[use], out);
}
