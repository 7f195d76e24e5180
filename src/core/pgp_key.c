/*
 * pgp_key.c
 *	  OpenPGP certificates: see pgp_key.h.
 *
 * A certificate is a primary key, user ids and subkeys, each followed by its
 * signatures.  What a key may be used for, and until when, stands in the newest
 * signature that its owner made over it.  A revocation counts whoever made it.
 */
#include "core/pgp_key.h"

#include <openssl/evp.h>
#include <string.h>

/* Packets. */
enum
{
	PACKET_SIGNATURE = 2,
	PACKET_SECRET_KEY = 5,
	PACKET_PUBLIC_KEY = 6,
	PACKET_SECRET_SUBKEY = 7,
	PACKET_USER_ID = 13,
	PACKET_PUBLIC_SUBKEY = 14,
	PACKET_USER_ATTRIBUTE = 17,
};

/* Algorithms of keys. */
enum
{
	KEY_RSA = 1,
	KEY_RSA_ENCRYPT = 2,
	KEY_RSA_SIGN = 3,
	KEY_ELGAMAL = 16,
	KEY_DSA = 17,
	KEY_ECDSA = 19,
	KEY_EDDSA = 22,
};

/* Signatures. */
enum
{
	CERTIFIES_FIRST = 0x10,
	CERTIFIES_LAST = 0x13,
	BINDS_SUBKEY = 0x18,
	OVER_KEY = 0x1f,
	REVOKES_KEY = 0x20,
	REVOKES_SUBKEY = 0x28,
	REVOKES_USER_ID = 0x30,
};

/* What signatures say. */
enum
{
	SAYS_MADE_AT = 2,
	SAYS_SIGNATURE_ENDS = 3,
	SAYS_KEY_ENDS = 9,
	SAYS_ISSUER = 16,
	SAYS_FLAGS = 27,
	SAYS_ISSUER_FINGERPRINT = 33,
};
#define MAY_ENCRYPT 0x0c /* communication or storage */
#define KEY_ID_BYTES 8

/* A primary key or a subkey, on its way through the packets. */
typedef struct Key
{
	TrPgpBytes packet;
	int algorithm;
	int64_t made_at;
	TrPgpFault size; /* TR_PGP_GOOD, WEAK or LARGE */
	bool revoked;

	/* By the newest signature of its owner. */
	bool is_signed;
	int64_t signed_at;
	int64_t ends_at; /* 0: never */
	unsigned flags;
} Key;

/* A signature. */
typedef struct Signature
{
	int type;
	bool own; /* its issuer is the primary key */
	bool dated;
	bool unknown; /* it says something critical that is not understood */
	int64_t made_at;
	int64_t lasts;	   /* seconds that it counts; 0: for ever */
	int64_t key_lasts; /* seconds that the key lives; 0: for ever */
	unsigned flags;
} Signature;

/*
 * Read the numbers of a key: how many its algorithm has, the modulus first.
 * false: they are not there, or something else is.
 */
static bool
read_numbers(TrPgpBytes *body, int count, Key *key)
{
	bool rsa = count == 2;
	uint32_t bits;
	bool odd;
	int i;

	for (i = 0; i < count; i++)
	{
		if (!tr_pgp_take_large(body, &bits, &odd))
			return false;
		/* a modulus is odd, an exponent of 1 would encrypt nothing, a long one takes its time */
		if ((i == 0 && !odd) || (i == 1 && rsa && (!odd || bits < 2 || bits > 32)))
			return false;
		if (i > 0)
			continue;
		if (bits < TR_PGP_BITS_MIN)
			key->size = TR_PGP_WEAK;
		else if (bits > TR_PGP_BITS_MAX)
			key->size = TR_PGP_LARGE;
	}
	return body->left == 0;
}

/*
 * Read the packet of a key.
 */
static TrPgpFault
read_key(const TrPgpPacket *packet, Key *key)
{
	TrPgpBytes body = packet->body;
	uint32_t version;
	uint32_t made_at;
	uint32_t algorithm;

	memset(key, 0, sizeof(*key));
	if (!tr_pgp_take_number(&body, 1, &version))
		return TR_PGP_NO_KEY;
	if (version != 4)
		return TR_PGP_UNKNOWN;
	if (!tr_pgp_take_number(&body, 4, &made_at) || !tr_pgp_take_number(&body, 1, &algorithm))
		return TR_PGP_NO_KEY;
	key->packet = packet->whole;
	key->made_at = made_at;
	key->algorithm = (int) algorithm;
	switch (algorithm)
	{
		case KEY_RSA:
		case KEY_RSA_ENCRYPT:
		case KEY_RSA_SIGN:
			return read_numbers(&body, 2, key) ? TR_PGP_GOOD : TR_PGP_NO_KEY;
		case KEY_ELGAMAL:
			return read_numbers(&body, 3, key) ? TR_PGP_GOOD : TR_PGP_NO_KEY;
		case KEY_DSA:
			return read_numbers(&body, 4, key) ? TR_PGP_GOOD : TR_PGP_NO_KEY;
		default:
			return TR_PGP_GOOD;
	}
}

/*
 * The fingerprint of a version 4 key.
 */
static TrPgpFault
make_fingerprint(const TrPgpBytes *body, uint8_t fingerprint[TR_PGP_FINGERPRINT_BYTES])
{
	uint8_t head[3] = {0x99, (uint8_t) (body->left >> 8), (uint8_t) body->left};
	EVP_MD_CTX *context;
	bool made;

	if (body->left > UINT16_MAX)
		return TR_PGP_NO_KEY;
	context = EVP_MD_CTX_new();
	made = context != NULL && EVP_DigestInit_ex(context, EVP_sha1(), NULL) == 1 &&
		   EVP_DigestUpdate(context, head, sizeof(head)) == 1 &&
		   EVP_DigestUpdate(context, body->at, body->left) == 1 &&
		   EVP_DigestFinal_ex(context, fingerprint, NULL) == 1;
	EVP_MD_CTX_free(context);
	return made ? TR_PGP_GOOD : TR_PGP_CRYPTO;
}

/*
 * Is this what a signature may say without any bearing on whether one can
 * encrypt: preferences, who it is from, and the like?
 */
static bool
is_harmless(int type)
{
	return type == 11 || type == 12 || (type >= 20 && type <= 26) || type == 28 || type == 30 ||
		   type == 31 || type == 34;
}

/*
 * Take in one thing that a signature says.  Only what is hashed counts, but for
 * its issuer.
 */
static bool
read_statement(TrPgpBytes *bytes, bool hashed, const uint8_t *fingerprint, Signature *signature)
{
	uint32_t type;
	uint32_t value;
	TrPgpBytes body;

	if (!tr_pgp_take_statement(bytes, &body) || !tr_pgp_take_number(&body, 1, &type))
		return false;
	switch (type & 0x7f)
	{
		case SAYS_MADE_AT:
		case SAYS_SIGNATURE_ENDS:
		case SAYS_KEY_ENDS:
			if (body.left != 4 || !tr_pgp_take_number(&body, 4, &value))
				return false;
			if (hashed && (type & 0x7f) == SAYS_MADE_AT)
			{
				signature->dated = true;
				signature->made_at = value;
			}
			else if (hashed && (type & 0x7f) == SAYS_KEY_ENDS)
				signature->key_lasts = value;
			else if (hashed)
				signature->lasts = value;
			return true;
		case SAYS_FLAGS:
			if (body.left == 0)
				return false;
			signature->flags = hashed ? body.at[0] : signature->flags;
			return true;
		case SAYS_ISSUER:
			signature->own |= body.left == KEY_ID_BYTES &&
							  memcmp(body.at, fingerprint + TR_PGP_FINGERPRINT_BYTES - KEY_ID_BYTES,
									 KEY_ID_BYTES) == 0;
			return true;
		case SAYS_ISSUER_FINGERPRINT:
			signature->own |= body.left == 1 + TR_PGP_FINGERPRINT_BYTES && body.at[0] == 4 &&
							  memcmp(body.at + 1, fingerprint, TR_PGP_FINGERPRINT_BYTES) == 0;
			return true;
		default:
			signature->unknown |= (type & 0x80) != 0 && !is_harmless((int) (type & 0x7f));
			return true;
	}
}

/*
 * Read a signature.
 */
static TrPgpFault
read_signature(const TrPgpPacket *packet, const uint8_t *fingerprint, Signature *signature)
{
	TrPgpBytes body = packet->body;
	uint32_t version;
	uint32_t type;
	uint32_t rest;
	int hashed;

	memset(signature, 0, sizeof(*signature));
	if (!tr_pgp_take_number(&body, 1, &version))
		return TR_PGP_NO_KEY;
	if (version != 4)
		return TR_PGP_UNKNOWN;
	/* behind the type: the algorithms, for who verifies */
	if (!tr_pgp_take_number(&body, 1, &type) || !tr_pgp_take_number(&body, 2, &rest))
		return TR_PGP_NO_KEY;
	signature->type = (int) type;
	for (hashed = 1; hashed >= 0; hashed--)
	{
		TrPgpBytes statements;

		if (!tr_pgp_take_number(&body, 2, &rest) || !tr_pgp_take_bytes(&body, rest, &statements))
			return TR_PGP_NO_KEY;
		while (statements.left > 0)
			if (!read_statement(&statements, hashed == 1, fingerprint, signature))
				return TR_PGP_NO_KEY;
	}
	return TR_PGP_GOOD;
}

/*
 * The earlier of two ends, where 0 is none.
 */
static int64_t
earlier(int64_t one, int64_t two)
{
	if (one == 0 || two == 0)
		return one + two;
	return one < two ? one : two;
}

/*
 * Take in a signature of the owner over his key.  The newest counts; of several
 * as new as each other, what is strictest.
 */
static TrPgpFault
apply_own(const Signature *signature, Key *key)
{
	int64_t ends_at = earlier(signature->key_lasts == 0 ? 0 : key->made_at + signature->key_lasts,
							  signature->lasts == 0 ? 0 : signature->made_at + signature->lasts);

	if (signature->unknown || !signature->dated)
		return TR_PGP_UNKNOWN;
	if (key->is_signed && signature->made_at < key->signed_at)
		return TR_PGP_GOOD;
	if (key->is_signed && signature->made_at == key->signed_at)
	{
		key->ends_at = earlier(key->ends_at, ends_at);
		key->flags &= signature->flags;
		return TR_PGP_GOOD;
	}
	key->is_signed = true;
	key->signed_at = signature->made_at;
	key->ends_at = ends_at;
	key->flags = signature->flags;
	return TR_PGP_GOOD;
}

/*
 * Take in a signature that follows a key, or one of its user ids.
 */
static TrPgpFault
apply_signature(const Signature *signature, bool of_subkey, Key *key)
{
	int type = signature->type;

	if (type == (of_subkey ? REVOKES_SUBKEY : REVOKES_KEY))
	{
		key->revoked = true;
		return TR_PGP_GOOD;
	}
	if (of_subkey ? type == BINDS_SUBKEY
				  : (type >= CERTIFIES_FIRST && type <= CERTIFIES_LAST) || type == OVER_KEY)
		return signature->own ? apply_own(signature, key) : TR_PGP_GOOD;
	return !of_subkey && type == REVOKES_USER_ID ? TR_PGP_GOOD : TR_PGP_UNKNOWN;
}

/*
 * May the key be used at this time, whatever for?
 */
static TrPgpFault
judge(const Key *key, int64_t now)
{
	if (key->revoked)
		return TR_PGP_REVOKED;
	if (!key->is_signed)
		return TR_PGP_UNSIGNED;
	if (key->ends_at != 0 && key->ends_at <= now)
		return TR_PGP_EXPIRED;
	return key->size;
}

/*
 * May something be encrypted to this subkey?
 */
static TrPgpFault
judge_subkey(const Key *key, int64_t now)
{
	TrPgpFault fault = judge(key, now);

	if (key->is_signed && (key->flags & MAY_ENCRYPT) == 0)
		return TR_PGP_NO_SUBKEY;
	if (fault == TR_PGP_GOOD && key->algorithm != KEY_RSA && key->algorithm != KEY_RSA_ENCRYPT &&
		key->algorithm != KEY_ELGAMAL)
		return TR_PGP_ALGORITHM;
	return fault;
}

/*
 * Is this a primary key whose strength is known?
 */
static TrPgpFault
judge_primary(const Key *key, int64_t now)
{
	TrPgpFault fault = judge(key, now);

	if (fault == TR_PGP_GOOD && key->algorithm != KEY_RSA && key->algorithm != KEY_RSA_SIGN &&
		key->algorithm != KEY_DSA && key->algorithm != KEY_ECDSA && key->algorithm != KEY_EDDSA)
		return TR_PGP_UNKNOWN;
	return fault;
}

/*
 * What is known when the last signature of a key was read: keep the newest subkey
 * that is good, or why there is none.
 */
static void
settle(const Key *key, int64_t now, Key *best, TrPgpFault *fault)
{
	TrPgpFault own = judge_subkey(key, now);

	if (own == TR_PGP_GOOD && (*fault != TR_PGP_GOOD || key->made_at > best->made_at))
	{
		*best = *key;
		*fault = TR_PGP_GOOD;
	}
	else if (*fault == TR_PGP_NO_SUBKEY)
		*fault = own;
}

/*
 * What a packet behind the first one is: a fault where it may not be there.
 */
static TrPgpFault
place(int tag, bool of_subkey)
{
	switch (tag)
	{
		case PACKET_SIGNATURE:
		case PACKET_PUBLIC_SUBKEY:
			return TR_PGP_GOOD;
		case PACKET_USER_ID:
		case PACKET_USER_ATTRIBUTE:
			return of_subkey ? TR_PGP_UNKNOWN : TR_PGP_GOOD;
		case PACKET_PUBLIC_KEY:
			return TR_PGP_SEVERAL;
		case PACKET_SECRET_KEY:
		case PACKET_SECRET_SUBKEY:
			return TR_PGP_PRIVATE;
		default:
			return TR_PGP_UNKNOWN;
	}
}

/*
 * Read everything behind the primary key.
 */
static TrPgpFault
read_rest(TrPgpBytes *bytes, int64_t now, TrPgpKey *key, Key *primary)
{
	TrPgpFault subkeys = TR_PGP_NO_SUBKEY;
	TrPgpFault fault;
	Key current;
	Key best = {0};
	bool of_subkey = false;

	while (bytes->left > 0)
	{
		Signature signature;
		TrPgpPacket packet;

		if (!tr_pgp_take_packet(bytes, &packet))
			return TR_PGP_NO_KEY;
		fault = place(packet.tag, of_subkey);
		if (fault == TR_PGP_GOOD && packet.tag == PACKET_PUBLIC_SUBKEY)
		{
			if (of_subkey)
				settle(&current, now, &best, &subkeys);
			of_subkey = true;
			fault = read_key(&packet, &current);
		}
		else if (fault == TR_PGP_GOOD && packet.tag == PACKET_SIGNATURE)
		{
			fault = read_signature(&packet, key->fingerprint, &signature);
			if (fault == TR_PGP_GOOD)
				fault = apply_signature(&signature, of_subkey, of_subkey ? &current : primary);
		}
		if (fault != TR_PGP_GOOD)
			return fault;
	}
	if (of_subkey)
		settle(&current, now, &best, &subkeys);
	fault = judge_primary(primary, now);
	if (fault != TR_PGP_GOOD)
		return fault;
	key->primary = primary->packet;
	key->subkey = best.packet;
	key->expires_at = earlier(primary->ends_at, best.ends_at);
	return subkeys;
}

TrPgpFault
tr_pgp_read(const uint8_t *data, size_t len, int64_t now, TrPgpKey *key)
{
	TrPgpBytes bytes = {data, len};
	TrPgpFault fault = TR_PGP_NO_KEY;
	TrPgpPacket packet;
	Key primary;

	memset(key, 0, sizeof(*key));
	if (len <= TR_PGP_BYTES_MAX && tr_pgp_take_packet(&bytes, &packet))
	{
		if (packet.tag == PACKET_SECRET_KEY || packet.tag == PACKET_SECRET_SUBKEY)
			fault = TR_PGP_PRIVATE;
		else if (packet.tag == PACKET_PUBLIC_KEY)
			fault = read_key(&packet, &primary);
		if (fault == TR_PGP_GOOD)
			fault = make_fingerprint(&packet.body, key->fingerprint);
		if (fault == TR_PGP_GOOD)
			fault = read_rest(&bytes, now, key, &primary);
		bytes = key->subkey;
		if (fault == TR_PGP_GOOD && tr_pgp_take_packet(&bytes, &packet))
			fault = make_fingerprint(&packet.body, key->subkey_fingerprint);
	}
	if (fault != TR_PGP_GOOD)
		memset(key, 0, sizeof(*key));
	return fault;
}
