/*
 * pgp_key_test.c
 *	  Which certificates can be encrypted to?
 *
 * They are put together here; 084_sealed.pl has those that GnuPG makes.
 */
#include "check.h"
#include "core/pgp_key.h"
#include "pgp.h"

#define NOW (PGP_MADE_AT + 1000)

static Pgp pgp;
static TrPgpKey key;

/*
 * Read what was put together, from memory of exactly its length, and forget it.
 * The spans are checked while that memory is there.
 */
static TrPgpFault
read_at(int64_t now)
{
	static const TrPgpKey none;
	uint8_t *copy = (uint8_t *) check_copy((const char *) pgp.bytes, pgp.len);
	TrPgpFault fault = tr_pgp_read(copy, pgp.len, now, &key);

	if (fault == TR_PGP_GOOD)
	{
		CHECK(key.primary.at == copy);
		CHECK(key.subkey.at > key.primary.at && key.subkey.at < copy + pgp.len);
		CHECK(key.subkey.at[0] == (0x81 | 14 << 2));
		CHECK(memcmp(key.fingerprint, pgp.fingerprint, sizeof(key.fingerprint)) == 0);
	}
	else
		CHECK(memcmp(&key, &none, sizeof(key)) == 0);
	free(copy);
	return fault;
}

static TrPgpFault
read_it(void)
{
	TrPgpFault fault = read_at(NOW);

	pgp.len = 0;
	return fault;
}

/*
 * The beginning of a good certificate: a primary key and a signed user id.
 */
static void
begin(void)
{
	pgp.len = 0;
	pgp_key(&pgp, 6, 1, 2, 2048, PGP_MADE_AT);
	pgp_user(&pgp);
	pgp_own(&pgp, 0x13, PGP_MADE_AT, 0, 3);
}

/*
 * A subkey of RSA, bound for encryption.
 */
static void
subkey(unsigned bits, uint32_t made_at)
{
	pgp_key(&pgp, 14, 1, 2, bits, made_at);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x0c);
}

static void
good_ones(void)
{
	static const struct
	{
		int algorithm;
		int numbers;
		unsigned bits;
	} primaries[] = {{1, 2, 2048}, {3, 2, 8192}, {17, 4, 2048}, {19, 1, 256}, {22, 1, 256}};
	size_t i;

	for (i = 0; i < sizeof(primaries) / sizeof(*primaries); i++)
	{
		pgp_key(&pgp, 6, primaries[i].algorithm, primaries[i].numbers, primaries[i].bits,
				PGP_MADE_AT);
		pgp_own(&pgp, 0x1f, PGP_MADE_AT, 0, 3);
		subkey(2048, PGP_MADE_AT);
		CHECK_FOR(read_it() == TR_PGP_GOOD && key.expires_at == 0, "%zu", i);
	}
	begin();
	pgp_key(&pgp, 14, 2, 2, 4096, PGP_MADE_AT);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x04);
	CHECK(read_it() == TR_PGP_GOOD);
	begin();
	pgp_key(&pgp, 14, 16, 3, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x08);
	CHECK(read_it() == TR_PGP_GOOD);
}

/*
 * Of several subkeys the newest good one is taken, wherever it stands.
 */
static void
several_subkeys(void)
{
	begin();
	subkey(2049, PGP_MADE_AT + 1);
	subkey(4096, PGP_MADE_AT + 3);
	subkey(2050, PGP_MADE_AT + 2);
	subkey(1024, PGP_MADE_AT + 4);
	pgp_key(&pgp, 14, 18, 1, 256, PGP_MADE_AT + 5);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x0c);
	pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT + 6);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x02);
	CHECK(read_it() == TR_PGP_GOOD && key.subkey.left > 512);

	begin();
	subkey(2048, PGP_MADE_AT + 2);
	pgp_own(&pgp, 0x28, PGP_MADE_AT, 0, -1);
	subkey(2049, PGP_MADE_AT + 1);
	CHECK(read_it() == TR_PGP_GOOD && key.subkey.left == 3 + 6 + 2 + 257 + 2 + 3);
}

static void
weak_and_large(void)
{
	begin();
	subkey(2047, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_WEAK);
	begin();
	subkey(8193, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_LARGE);
	pgp_key(&pgp, 6, 1, 2, 2047, PGP_MADE_AT);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 0, 3);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_WEAK);
	pgp_key(&pgp, 6, 17, 4, 1024, PGP_MADE_AT);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 0, 3);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_WEAK);
	begin();
	pgp_key(&pgp, 14, 16, 3, 1024, PGP_MADE_AT);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x0c);
	CHECK(read_it() == TR_PGP_WEAK);

	/* leading zeros, an even modulus, an exponent of 1 */
	begin();
	{
		size_t at = pgp.len + 3 + 6;

		subkey(2048, PGP_MADE_AT);
		pgp.bytes[at + 2] = 0;
		CHECK(read_at(NOW) == TR_PGP_NO_KEY);
		pgp.bytes[at + 2] = 0x80;
		CHECK(read_at(NOW) == TR_PGP_GOOD);
		pgp.bytes[at + 2 + 255] = 0x02;
		CHECK(read_at(NOW) == TR_PGP_NO_KEY);
	}
	begin();
	{
		static Pgp body;

		pgp_byte(&body, 4);
		pgp_number(&body, 4, PGP_MADE_AT);
		pgp_byte(&body, 1);
		pgp_large(&body, 2048);
		pgp_large(&body, 1);
		pgp_packet(&pgp, 14, false, &body);
	}
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x0c);
	CHECK(read_it() == TR_PGP_NO_KEY);
}

static void
without_subkey(void)
{
	begin();
	CHECK(read_it() == TR_PGP_NO_SUBKEY);
	begin();
	pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x02);
	CHECK(read_it() == TR_PGP_NO_SUBKEY);
	begin();
	pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, -1);
	CHECK(read_it() == TR_PGP_NO_SUBKEY);
	begin();
	pgp_key(&pgp, 14, 18, 1, 256, PGP_MADE_AT);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x0c);
	CHECK(read_it() == TR_PGP_ALGORITHM);
	begin();
	pgp_key(&pgp, 14, 3, 2, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x0c);
	CHECK(read_it() == TR_PGP_ALGORITHM);
}

static void
revoked(void)
{
	static const uint8_t somebody[20] = "somebody else";
	static Pgp hashed;

	pgp_key(&pgp, 6, 1, 2, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x20, PGP_MADE_AT, 0, -1);
	pgp_user(&pgp);
	pgp_own(&pgp, 0x13, PGP_MADE_AT, 0, 3);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_REVOKED);
	/* by whom does not matter */
	begin();
	pgp_says(&hashed, 2, 4, PGP_MADE_AT);
	pgp_signed(&pgp, 0x20, &hashed, somebody);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_REVOKED);
	begin();
	subkey(2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x28, PGP_MADE_AT, 0, -1);
	CHECK(read_it() == TR_PGP_REVOKED);
	/* a user id may be */
	begin();
	pgp_own(&pgp, 0x30, PGP_MADE_AT, 0, -1);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_GOOD);
}

/*
 * Ends: of the primary key, of the subkey, the earlier one; the newest signature
 * counts, and only the owner's.
 */
static void
expired(void)
{
	static const uint8_t somebody[20] = "somebody else";
	static Pgp hashed;

	pgp_key(&pgp, 6, 1, 2, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 2000, 3);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_at(PGP_MADE_AT + 1999) == TR_PGP_GOOD && key.expires_at == PGP_MADE_AT + 2000);
	CHECK(read_at(PGP_MADE_AT + 2000) == TR_PGP_EXPIRED);
	begin();
	pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT + 500);
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 2000, 0x0c);
	CHECK(read_at(PGP_MADE_AT + 2499) == TR_PGP_GOOD && key.expires_at == PGP_MADE_AT + 2500);
	CHECK(read_at(PGP_MADE_AT + 2500) == TR_PGP_EXPIRED);
	pgp.len = 0;

	/* extended, and shortened, in whatever order they stand */
	pgp_key(&pgp, 6, 1, 2, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT + 5, 5000, 3);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 10, 3);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_GOOD && key.expires_at == PGP_MADE_AT + 5000);
	pgp_key(&pgp, 6, 1, 2, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 5000, 3);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT + 5, 10, 3);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_EXPIRED);
	/* at the same moment: the earlier */
	pgp_key(&pgp, 6, 1, 2, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 5000, 3);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 3000, 3);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 0, 3);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_GOOD && key.expires_at == PGP_MADE_AT + 3000);

	/* somebody else's says nothing */
	begin();
	hashed.len = 0;
	pgp_says(&hashed, 2, 4, PGP_MADE_AT + 7);
	pgp_says(&hashed, 9, 4, 1);
	pgp_signed(&pgp, 0x10, &hashed, somebody);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_GOOD && key.expires_at == 0);
	/* a signature that counts for a while only */
	begin();
	pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT);
	hashed.len = 0;
	pgp_says(&hashed, 2, 4, PGP_MADE_AT);
	pgp_says(&hashed, 3, 4, 1500);
	pgp_says(&hashed, 27, 1, 0x0c);
	pgp_signed(&pgp, 0x18, &hashed, pgp.fingerprint);
	CHECK(read_it() == TR_PGP_GOOD && key.expires_at == PGP_MADE_AT + 1500);
}

static void
not_signed(void)
{
	static const uint8_t somebody[20] = "somebody else";
	static Pgp hashed;

	pgp_key(&pgp, 6, 1, 2, 2048, PGP_MADE_AT);
	pgp_user(&pgp);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_UNSIGNED);
	begin();
	pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_UNSIGNED);
	begin();
	pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT);
	pgp_says(&hashed, 2, 4, PGP_MADE_AT);
	pgp_says(&hashed, 27, 1, 0x0c);
	pgp_signed(&pgp, 0x18, &hashed, somebody);
	CHECK(read_it() == TR_PGP_UNSIGNED);
	/* undated */
	begin();
	pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT);
	hashed.len = 0;
	pgp_says(&hashed, 27, 1, 0x0c);
	pgp_signed(&pgp, 0x18, &hashed, pgp.fingerprint);
	CHECK(read_it() == TR_PGP_UNKNOWN);
}

/*
 * Packets and statements that are not understood, or in the wrong place.
 */
static void
not_understood(void)
{
	static const int tags[] = {0, 1, 3, 8, 9, 10, 11, 12, 18, 20, 40, 60, 63};
	static Pgp body;
	static Pgp hashed;
	size_t i;

	for (i = 0; i < sizeof(tags) / sizeof(*tags); i++)
	{
		begin();
		subkey(2048, PGP_MADE_AT);
		body.len = 0;
		pgp_packet(&pgp, tags[i], true, &body);
		CHECK_FOR(read_it() == TR_PGP_UNKNOWN, "%d", tags[i]);
	}
	begin();
	subkey(2048, PGP_MADE_AT);
	pgp_user(&pgp);
	CHECK(read_it() == TR_PGP_UNKNOWN);
	begin();
	subkey(2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x20, PGP_MADE_AT, 0, -1);
	CHECK(read_it() == TR_PGP_UNKNOWN);
	begin();
	pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, -1);
	CHECK(read_it() == TR_PGP_UNKNOWN);

	/* critical: known types are passed over, an unknown one is not */
	for (i = 0; i < 128; i++)
	{
		bool known = i == 11 || i == 12 || (i >= 20 && i <= 26) || i == 28 || i == 30 || i == 31 ||
					 i == 34 || i == 16 || i == 33;

		if (i == 2 || i == 3 || i == 9 || i == 27)
			continue;
		begin();
		pgp_key(&pgp, 14, 1, 2, 2048, PGP_MADE_AT);
		hashed.len = 0;
		pgp_says(&hashed, 2, 4, PGP_MADE_AT);
		pgp_says(&hashed, 27, 1, 0x0c);
		pgp_says(&hashed, (int) i | 0x80, 4, 1);
		pgp_signed(&pgp, 0x18, &hashed, pgp.fingerprint);
		CHECK_FOR(read_it() == (known ? TR_PGP_GOOD : TR_PGP_UNKNOWN), "%zu", i);
	}

	/* other versions, of the key and of a signature */
	begin();
	subkey(2048, PGP_MADE_AT);
	pgp.bytes[3] = 5;
	CHECK(read_it() == TR_PGP_UNKNOWN);
	begin();
	i = pgp.len + 6;
	pgp_own(&pgp, 0x10, PGP_MADE_AT, 0, 3);
	pgp.bytes[i] = 3;
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_UNKNOWN);
	/* a primary key of an unknown algorithm */
	pgp_key(&pgp, 6, 99, 1, 2048, PGP_MADE_AT);
	pgp_own(&pgp, 0x1f, PGP_MADE_AT, 0, 3);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_UNKNOWN);
}

static void
not_public(void)
{
	pgp_key(&pgp, 5, 1, 2, 2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_PRIVATE);
	begin();
	pgp_key(&pgp, 7, 1, 2, 2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_PRIVATE);
	begin();
	subkey(2048, PGP_MADE_AT);
	pgp_key(&pgp, 6, 1, 2, 2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_SEVERAL);
	pgp_user(&pgp);
	CHECK(read_it() == TR_PGP_NO_KEY);
	subkey(2048, PGP_MADE_AT);
	CHECK(read_it() == TR_PGP_NO_KEY);
}

/*
 * Every beginning of a good one is refused, and so are lengths that are not told,
 * partial ones, and a text.
 */
static void
cut_off(void)
{
	size_t whole;

	begin();
	subkey(2048, PGP_MADE_AT);
	for (whole = pgp.len; pgp.len > 0; pgp.len--)
		CHECK_FOR((read_at(NOW) == TR_PGP_GOOD) == (pgp.len == whole), "%zu of %zu", pgp.len,
				  whole);
	CHECK(read_at(NOW) == TR_PGP_NO_KEY);

	begin();
	subkey(2048, PGP_MADE_AT);
	pgp.bytes[0] = (uint8_t) (pgp.bytes[0] | 3);
	CHECK(read_it() == TR_PGP_NO_KEY);
	begin();
	pgp_byte(&pgp, 0xc0 | 14);
	pgp_byte(&pgp, 224);
	pgp_number(&pgp, 2, 0);
	CHECK(read_it() == TR_PGP_NO_KEY);
	pgp_bytes(&pgp, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n", 37);
	CHECK(read_it() == TR_PGP_NO_KEY);

	begin();
	subkey(2048, PGP_MADE_AT);
	while (pgp.len <= TR_PGP_BYTES_MAX)
		pgp_own(&pgp, 0x18, PGP_MADE_AT, 0, 0x0c);
	CHECK(read_it() == TR_PGP_NO_KEY);
}

int
main(void)
{
	RUN(good_ones);
	RUN(several_subkeys);
	RUN(weak_and_large);
	RUN(without_subkey);
	RUN(revoked);
	RUN(expired);
	RUN(not_signed);
	RUN(not_understood);
	RUN(not_public);
	RUN(cut_off);
	return check_done();
}
