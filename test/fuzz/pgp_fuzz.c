/*
 * pgp_fuzz.c
 *	  Any certificate: is nothing accepted that must not be encrypted to?
 *
 * The input is a certificate as it stands, or says how to put one together, and
 * what to break in it.
 */
#include "fuzz.h"

#include "../unit/pgp.h"
#include "core/pgp_key.h"

#define SUBKEYS 8

/* What is known of a subkey that was put in. */
typedef struct Subkey
{
	size_t at; /* its packet */
	bool usable;
	bool revoked;
	bool own;
} Subkey;

static Pgp pgp;
static Subkey subkeys[SUBKEYS];
static int count;
static bool revoked;

/*
 * Put a subkey in.
 */
static void
add_subkey(Input *in)
{
	static const int algorithms[] = {1, 2, 3, 16, 17, 18, 22, 99};
	static const int numbers[] = {2, 2, 2, 3, 4, 1, 1, 1};
	static const unsigned bits[] = {1024, 2047, 2048, 2049, 4096, 8192, 8193, 256};
	int which = input_byte(in) & 7;
	unsigned size = bits[input_byte(in) & 7];
	Subkey *subkey = &subkeys[count++];

	subkey->at = pgp.len;
	subkey->usable = (which == 0 || which == 1 || which == 3) && size >= TR_PGP_BITS_MIN &&
					 size <= TR_PGP_BITS_MAX;
	subkey->revoked = subkey->own = false;
	pgp_key(&pgp, 14, algorithms[which], numbers[which], size, PGP_MADE_AT + input_byte(in));
}

/*
 * Put a signature in, by the owner or by somebody else.
 */
static void
add_signature(Input *in)
{
	static const int types[] = {0x10, 0x13, 0x18, 0x1f, 0x20, 0x28, 0x30, 0x19};
	static const uint8_t somebody[20] = "somebody else";
	static Pgp hashed;
	int type = types[input_byte(in) & 7];
	uint8_t what = input_byte(in);
	bool own = (what & 1) != 0;

	hashed.len = 0;
	if ((what & 2) != 0)
		pgp_says(&hashed, 2, 4, PGP_MADE_AT + input_byte(in));
	if ((what & 4) != 0)
		pgp_says(&hashed, 9, 4, input_byte(in) * 16u);
	if ((what & 8) != 0)
		pgp_says(&hashed, 27, 1, input_byte(in));
	if ((what & 16) != 0)
		pgp_says(&hashed, input_byte(in), 4, input_byte(in));
	pgp_signed(&pgp, type, &hashed, own ? pgp.fingerprint : somebody);
	if (type == 0x20)
		revoked = true;
	if (count > 0 && type == 0x28)
		subkeys[count - 1].revoked = true;
	if (count > 0 && type == 0x18)
		subkeys[count - 1].own |= own;
}

/*
 * Put a certificate together.
 */
static void
build(Input *in)
{
	int parts;

	pgp.len = 0;
	count = 0;
	revoked = false;
	pgp_key(&pgp, 6, 1, 2, (input_byte(in) & 7) == 0 ? 1024 : 2048, PGP_MADE_AT);
	for (parts = 0; parts < 12 && in->left > 0; parts++)
	{
		switch (input_byte(in) & 3)
		{
			case 0:
				pgp_user(&pgp);
				break;
			case 1:
				if (count < SUBKEYS)
					add_subkey(in);
				break;
			default:
				add_signature(in);
		}
	}
}

/*
 * What holds for all that is accepted.
 */
static void
check_good(const uint8_t *data, size_t size, int64_t now, const TrPgpKey *key)
{
	HOLDS(key->primary.at == data && key->primary.left > 0);
	HOLDS(key->subkey.at >= data + key->primary.left);
	HOLDS(key->subkey.at + key->subkey.left <= data + size);
	HOLDS(key->expires_at == 0 || key->expires_at > now);
	/* the modulus is in there */
	HOLDS(key->subkey.left > TR_PGP_BITS_MIN / 8 && size <= TR_PGP_BYTES_MAX);
}

/*
 * Read bytes, in memory of exactly their length.
 */
static TrPgpFault
read_bytes(const uint8_t *bytes, size_t size, int64_t now, size_t *subkey_at)
{
	static const TrPgpKey none;
	uint8_t *data = exactly(size);
	TrPgpFault fault;
	TrPgpKey key;

	if (size > 0)
		memcpy(data, bytes, size);
	fault = tr_pgp_read(data, size, now, &key);
	if (fault == TR_PGP_GOOD)
	{
		check_good(data, size, now, &key);
		*subkey_at = (size_t) (key.subkey.at - data);
	}
	else
		HOLDS(memcmp(&key, &none, sizeof(none)) == 0);
	free(data);
	return fault;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input in = {data, size};
	int64_t now = PGP_MADE_AT;
	size_t subkey_at;
	int i;

	if (input_byte(&in) == 0)
	{
		read_bytes(in.at, in.left, now, &subkey_at);
		return 0;
	}
	now += input_byte(&in) * 16;
	build(&in);
	if (read_bytes(pgp.bytes, pgp.len, now, &subkey_at) == TR_PGP_GOOD)
	{
		HOLDS(!revoked);
		for (i = 0; i < count && subkeys[i].at != subkey_at; i++)
			;
		HOLDS(i < count);
		HOLDS(subkeys[i].usable && subkeys[i].own && !subkeys[i].revoked);
	}
	/* broken somewhere, and cut off */
	pgp.bytes[(input_byte(&in) << 8 | input_byte(&in)) % pgp.len] ^=
		(uint8_t) (input_byte(&in) | 1);
	read_bytes(pgp.bytes, pgp.len - (input_byte(&in) << 8 | input_byte(&in)) % pgp.len, now,
			   &subkey_at);
	return 0;
}
