/*
 * chain.c
 *	  The audit chain's bytes: see chain.h.
 *
 * A hash is fed piece by piece into a context that is kept for the life of the
 * process, as in secret.c.
 */
#include "core/chain.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static const char *const labels[] = {
	[TR_CHAINED_ROW] = "token_rotation audit row v1",
	[TR_CHAINED_LIST] = "token_rotation audit list v1",
	[TR_CHAINED_SEAL] = "token_rotation audit seal v1",
};

static EVP_MD_CTX *context = NULL;

/*
 * Write a number of so many bytes, the most significant first.
 */
static void
put_number(uint8_t *out, uint64_t value, int bytes)
{
	int i;

	for (i = bytes - 1; i >= 0; i--)
	{
		out[i] = (uint8_t) value;
		value >>= 8;
	}
}

void
tr_field_null(TrField *field)
{
	field->tag = TR_TAG_NULL;
	field->data = NULL;
	field->len = 0;
}

void
tr_field_bytes(TrField *field, const void *data, size_t len)
{
	field->tag = TR_TAG_VALUE;
	field->data = data;
	field->len = len;
}

void
tr_field_int64(TrField *field, int64_t value)
{
	put_number(field->number, (uint64_t) value, 8);
	tr_field_bytes(field, field->number, sizeof(field->number));
}

/*
 * Feed the hash.
 */
static bool
feed(const void *data, size_t len)
{
	return EVP_DigestUpdate(context, data, len) == 1;
}

static bool
feed_field(const TrField *field)
{
	uint8_t head[5];

	head[0] = (uint8_t) field->tag;
	if (field->tag == TR_TAG_NULL)
		return feed(head, 1);
	put_number(head + 1, field->len, 4);
	return feed(head, sizeof(head)) && feed(field->data, field->len);
}

/*
 * Begin a hash with its label.
 */
static bool
begin(TrChained what)
{
	TrField label;

	if (context == NULL)
		context = EVP_MD_CTX_new();
	if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
		return false;
	tr_field_bytes(&label, labels[what], strlen(labels[what]));
	return feed_field(&label);
}

bool
tr_chain_hash(TrChained what, const TrField *fields, int count, uint8_t out[TR_HASH_BYTES])
{
	int i;

	if (!begin(what))
		return false;
	for (i = 0; i < count; i++)
		if (!feed_field(&fields[i]))
			return false;
	return EVP_DigestFinal_ex(context, out, NULL) == 1;
}

bool
tr_chain_list_hash(const int64_t *seqs, const uint8_t *hashes, size_t count,
				   uint8_t out[TR_HASH_BYTES])
{
	size_t i;

	if (!begin(TR_CHAINED_LIST))
		return false;
	for (i = 0; i < count; i++)
	{
		uint8_t seq[8];

		put_number(seq, (uint64_t) seqs[i], sizeof(seq));
		if (!feed(seq, sizeof(seq)) || !feed(hashes + i * TR_HASH_BYTES, TR_HASH_BYTES))
			return false;
	}
	return EVP_DigestFinal_ex(context, out, NULL) == 1;
}

/*
 * Read a number and the character that must follow it, 0 for any.
 */
static bool
read_number(const char **text, char end, uint64_t *value)
{
	char *rest;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	*value = strtoull(*text, &rest, 10);
	*text = rest;
	if (errno != 0)
		return false;
	if (end == '\0')
		return true;
	return *(*text)++ == end;
}

bool
tr_xids_parse(const char *text, uint64_t *in_progress, size_t room, TrXids *xids)
{
	uint64_t xmin;

	xids->count = 0;
	xids->in_progress = in_progress;
	if (!read_number(&text, ':', &xmin) || !read_number(&text, ':', &xids->xmax))
		return false;
	for (; *text != '\0' || xids->count > 0; text++)
	{
		uint64_t xid;

		if (xids->count == room || !read_number(&text, '\0', &xid))
			return false;
		if (xids->count > 0 && xid <= in_progress[xids->count - 1])
			return false;
		in_progress[xids->count++] = xid;
		if (*text == '\0')
			return true;
		if (*text != ',')
			return false;
	}
	return true;
}

bool
tr_xids_show(const TrXids *xids, uint64_t xid)
{
	size_t low = 0;
	size_t high = xids->count;

	if (xid >= xids->xmax)
		return false;
	while (low < high)
	{
		size_t middle = low + (high - low) / 2;

		if (xids->in_progress[middle] == xid)
			return false;
		if (xids->in_progress[middle] < xid)
			low = middle + 1;
		else
			high = middle;
	}
	return true;
}
