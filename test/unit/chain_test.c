/*
 * chain_test.c
 *	  Are rows and seals of the audit trail written down and hashed as doc/audit.md
 *	  says, and are stored snapshots read right?
 *
 * The expected hashes were made by a Perl program with Digest::SHA, from the
 * documented format.
 */
#include "check.h"
#include "core/chain.h"

/*
 * Is this the hash of these fields?
 */
static bool
hashes_to(TrChained what, const TrField *fields, int count, const char *expected)
{
	uint8_t want[TR_HASH_BYTES];
	uint8_t hash[TR_HASH_BYTES];

	check_unhex(expected, want, sizeof(want));
	return tr_chain_hash(what, fields, count, hash) && memcmp(hash, want, sizeof(want)) == 0;
}

static void
set_text(TrField *field, const char *text)
{
	if (text == NULL)
		tr_field_null(field);
	else
		tr_field_bytes(field, text, strlen(text));
}

/*
 * A row of the trail, with and without its columns.
 */
static void
known_rows(void)
{
	static const char *const texts[] = {[2] = "issued",
										[3] = "acme",
										[7] = "app",
										[8] = "app",
										[9] = "",
										[11] = "203.0.113.9/32",
										[13] = "{\"policy\": \"default\"}",
										[15] = NULL};
	uint8_t reference[TR_HASH_BYTES];
	TrField fields[16];
	int i;

	for (i = 0; i < 16; i++)
		set_text(&fields[i], texts[i]);
	memset(reference, 0xab, sizeof(reference));
	tr_field_int64(&fields[0], INT64_C(1764098202123456));
	tr_field_int64(&fields[1], INT64_C(817413402123456));
	tr_field_bytes(&fields[5], reference, sizeof(reference));
	tr_field_int64(&fields[14], 731);
	tr_field_int64(&fields[15], INT64_C(1764000000000000));
	CHECK(hashes_to(TR_CHAINED_ROW, fields, 16,
					"50096c4d4f5ce6d1675ca86354755b38776161ed06020c2f48a5035d109d273c"));

	for (i = 0; i < 16; i++)
		tr_field_null(&fields[i]);
	CHECK(hashes_to(TR_CHAINED_ROW, fields, 16,
					"968ed0f1e2dc75f2998b3ebe483f4304728ac8113eb46216cab72e3025f036e1"));
	CHECK(hashes_to(TR_CHAINED_ROW, fields, 0,
					"45e2df9bfcd9d7e59a0916084b8d32644cd40352baeaccf5bff1313babad09ca"));
	tr_field_bytes(&fields[0], "\xff\xfe", 2);
	fields[0].tag = TR_TAG_RAW;
	CHECK(hashes_to(TR_CHAINED_ROW, fields, 1,
					"cf3b077d38c001121386f51e76a4c9e75e1320cb4adf7817dddfc3cc56f31662"));
}

static void
known_seal(void)
{
	uint8_t previous[TR_HASH_BYTES];
	uint8_t list[TR_HASH_BYTES];
	TrField fields[14];

	memset(previous, 0x33, sizeof(previous));
	memset(list, 0x44, sizeof(list));
	tr_field_int64(&fields[0], INT64_C(1764000000000000));
	tr_field_int64(&fields[1], 2);
	tr_field_int64(&fields[2], 1);
	tr_field_int64(&fields[3], INT64_C(817413402123456));
	tr_field_bytes(&fields[4], previous, sizeof(previous));
	tr_field_null(&fields[5]);
	tr_field_int64(&fields[6], INT64_C(1764000000000000));
	set_text(&fields[7], "740:745:741,743");
	tr_field_int64(&fields[8], 1);
	tr_field_int64(&fields[9], 2);
	tr_field_int64(&fields[10], 7);
	tr_field_int64(&fields[11], 9);
	tr_field_int64(&fields[12], INT64_C(817413402000000));
	tr_field_bytes(&fields[13], list, sizeof(list));
	CHECK(hashes_to(TR_CHAINED_SEAL, fields, 14,
					"35ec7843981d20e9ce9f0a77e1741c7c76b0c82547e108fa5022f2387f0b3d02"));
}

/*
 * Is this the hash of a list of so many rows?
 */
static bool
list_hashes_to(size_t count, const char *expected)
{
	static const int64_t seqs[] = {7, -1};
	uint8_t hashes[2 * TR_HASH_BYTES];
	uint8_t want[TR_HASH_BYTES];
	uint8_t hash[TR_HASH_BYTES];

	memset(hashes, 0x11, TR_HASH_BYTES);
	memset(hashes + TR_HASH_BYTES, 0x22, TR_HASH_BYTES);
	check_unhex(expected, want, sizeof(want));
	return tr_chain_list_hash(seqs, hashes, count, hash) && memcmp(hash, want, sizeof(want)) == 0;
}

static void
known_lists(void)
{
	CHECK(list_hashes_to(0, "cf04f12c93a7493edb7873bdf160073712255d73d7afb2200e6475b18695c3b1"));
	CHECK(list_hashes_to(2, "f41be674499a2bbf69e014158f08a5079a42dd4b1da78419a27c0fa8d11b4329"));
}

/*
 * Two fields of some texts, NULL for none.
 */
static void
hash_two(const char *a, const char *b, uint8_t hash[TR_HASH_BYTES])
{
	TrField fields[2];

	set_text(&fields[0], a);
	set_text(&fields[1], b);
	CHECK(tr_chain_hash(TR_CHAINED_ROW, fields, 2, hash));
}

/*
 * What is distinct stays distinct: where a field ends, NULL and empty, the kinds
 * of what is hashed.
 */
static void
nothing_is_mistaken(void)
{
	static const char *const pairs[][2] = {{"ab", "c"},	  {"a", "bc"},	 {"abc", ""}, {"", "abc"},
										   {"abc", NULL}, {NULL, "abc"}, {"", NULL},  {NULL, ""},
										   {"", ""},	  {NULL, NULL}};
	uint8_t hashes[sizeof(pairs) / sizeof(*pairs)][TR_HASH_BYTES];
	uint8_t row[TR_HASH_BYTES];
	uint8_t seal[TR_HASH_BYTES];
	size_t i;
	size_t j;

	for (i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
	{
		hash_two(pairs[i][0], pairs[i][1], hashes[i]);
		for (j = 0; j < i; j++)
			CHECK_FOR(memcmp(hashes[i], hashes[j], TR_HASH_BYTES) != 0, "%zu and %zu", i, j);
	}
	CHECK(tr_chain_hash(TR_CHAINED_ROW, NULL, 0, row));
	CHECK(tr_chain_hash(TR_CHAINED_SEAL, NULL, 0, seal));
	CHECK(memcmp(row, seal, TR_HASH_BYTES) != 0);
}

/*
 * Which transactions a snapshot shows.
 */
static void
snapshots(void)
{
	uint64_t room[8];
	TrXids xids;

	CHECK(tr_xids_parse("740:745:741,743", room, 8, &xids));
	CHECK(xids.count == 2 && xids.xmax == 745);
	CHECK(tr_xids_show(&xids, 3) && tr_xids_show(&xids, 740));
	CHECK(!tr_xids_show(&xids, 741) && tr_xids_show(&xids, 742));
	CHECK(!tr_xids_show(&xids, 743) && tr_xids_show(&xids, 744));
	CHECK(!tr_xids_show(&xids, 745) && !tr_xids_show(&xids, UINT64_MAX));

	CHECK(tr_xids_parse("10:10:", room, 8, &xids));
	CHECK(xids.count == 0 && tr_xids_show(&xids, 9) && !tr_xids_show(&xids, 10));
	/* beyond 32 bits */
	CHECK(tr_xids_parse("8589934592:8589934600:8589934593", room, 1, &xids));
	CHECK(!tr_xids_show(&xids, UINT64_C(8589934593)) && tr_xids_show(&xids, UINT64_C(8589934599)));
}

/*
 * Against a search from end to end.
 */
static void
snapshots_with_many_in_progress(void)
{
	uint64_t seed = 11;
	uint64_t room[64];
	char text[1024];
	TrXids xids;
	int round;

	for (round = 0; round < 200; round++)
	{
		bool in_progress[200] = {false};
		size_t len = (size_t) snprintf(text, sizeof(text), "100:300:");
		uint64_t xid;

		for (xid = 100; xid < 300; xid++)
		{
			in_progress[xid - 100] = check_random(&seed) % 5 == 0 && xid % 4 != 0;
			if (in_progress[xid - 100])
				len += (size_t) snprintf(text + len, sizeof(text) - len, "%s%d",
										 text[len - 1] == ':' ? "" : ",", (int) xid);
		}
		if (!tr_xids_parse(text, room, 64, &xids))
			continue;
		for (xid = 100; xid < 300; xid++)
			CHECK_FOR(tr_xids_show(&xids, xid) == !in_progress[xid - 100], "%d of %s", (int) xid,
					  text);
	}
}

static void
no_snapshots(void)
{
	static const char *const texts[] = {"",		   "1",		  "1:",		 "1:2",
										":2:",	   "a:2:",	  "1:2:x",	 "1:5:3,",
										"1:5:3,3", "1:5:4,3", "-1:5:",	 "1:99999999999999999999:",
										"1:5:,3",  " 1:5:",	  "1:5:2;3", "1:9:2,3,4"};
	uint64_t room[2];
	TrXids xids;
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		CHECK_FOR(!tr_xids_parse(texts[i], room, 2, &xids), "\"%s\"", texts[i]);
}

int
main(void)
{
	RUN(known_rows);
	RUN(known_seal);
	RUN(known_lists);
	RUN(nothing_is_mistaken);
	RUN(snapshots);
	RUN(snapshots_with_many_in_progress);
	RUN(no_snapshots);
	return check_done();
}
