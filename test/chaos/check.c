/*
 * check.c
 *	  Checks a history of the chaos tests: check FOLDER VALIDATIONS KILLS REISSUED
 *
 * Prints TAP, and in lines that begin with "# tried:" what was tried.  It wants
 * at least that many validations, and kills inside a verb; the audit trail has
 * that many rows about successors that got a new secret.  Each validation is
 * looked at twice and each change once.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "past.h"

/* Violations of one rule that are shown. */
#define SHOWN 10

typedef enum Rule
{
	STALE,
	RESURRECTED,
	LOST,
	BLOCKED_ACCEPTED,
	SUCCESSORS,
	REPLAYS,
	REISSUES,
	REISSUE_ROWS,
	ESCAPED,
	UNEXPLAINED,
	FAILED,
	RULE_COUNT
} Rule;

static const char *const rule_texts[RULE_COUNT] = {
	"no acceptance began after an acknowledged end of its token",
	"what was refused for good was never accepted again, unknown outcomes included",
	"no refusal of a token that had to be valid",
	"no acceptance within an acknowledged block of its client",
	"no token was given a second successor",
	"every rotation was answered with a text that was made once",
	"no successor was given a new secret unless its nonce was lost",
	"every new secret of a successor has its audit row, and the other way round",
	"no successor escaped a cutoff of its client or policy",
	"no connection was lost but by a fault",
	"no call failed but by a cutoff, a block or a serialization failure",
};

static const char *const level_texts[TR_LEVEL_COUNT] = {
	"autocommit", "READ COMMITTED", "REPEATABLE READ", "snapshot older than 1 s", "SERIALIZABLE"};
static const char *const fault_texts[TR_FAULT_COUNT] = {"kills of a backend inside a verb",
														"kills of any backend",
														"kills of the whole server",
														"fast restarts",
														"immediate restarts",
														"promotions of a synchronous standby",
														"truncations of the cache"};
static const char *const kind_texts[TR_KIND_COUNT] = {
	[TR_ISSUE] = "issue",
	[TR_ROTATE] = "rotate",
	[TR_REVOKE] = "revoke",
	[TR_FAMILY] = "revoke family",
	[TR_FINISH] = "finish_overlap",
	[TR_CUT_CLIENT] = "revoke_client",
	[TR_CUT_POLICY] = "revoke_policy",
	[TR_CUT_REALM] = "revoke_before",
	[TR_BLOCK] = "block",
	[TR_UNBLOCK] = "unblock",
};

static long violations[RULE_COUNT];
static TrFate *fates;
static int64_t epoch;
static int failures;

static struct
{
	long validations[TR_LEVEL_COUNT];
	long many;
	long accepted;
	long close; /* began within 5 ms of the acknowledgement of an end */
	long after; /* began after it */
	long lost;
} tally;

/*
 * A rule was broken.
 */
__attribute__((format(printf, 2, 3))) static void
violate(Rule rule, const char *format, ...)
{
	va_list args;

	if (violations[rule]++ >= SHOWN)
		return;
	printf("# %s: ", rule_texts[rule]);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

/*
 * A time as milliseconds of the test.
 */
static double
ms(int64_t time)
{
	return (double) (time - epoch) / TR_MS;
}

/*
 * A line of TAP.
 */
static void
report(bool ok, const char *text)
{
	printf("%sok - %s\n", ok ? "" : "not ", text);
	failures += !ok;
}

/*
 * First look: when was each token refused first, and accepted last?
 */
static void
look(const TrRecord *validation)
{
	TrSeen *seen = &tr_seen[validation->token];

	if (epoch == 0 || validation->begin < epoch)
		epoch = validation->begin;
	if (validation->outcome != TR_DONE)
		return;
	if (validation->reason == TR_OK)
	{
		if (validation->begin > seen->accepted_from)
			seen->accepted_from = validation->begin;
	}
	else if (validation->reason != TR_BLOCKED && validation->end < seen->refused_by)
		seen->refused_by = validation->end;
}

/*
 * A token was accepted.
 */
static void
judge_acceptance(const TrRecord *validation)
{
	const TrFate *fate = &fates[validation->token];

	if (validation->begin > fate->dead_from)
		violate(STALE, "token %u, %s, at %.3f ms, %.3f ms after the acknowledgement",
				validation->token, level_texts[validation->level], ms(validation->begin),
				(double) (validation->begin - fate->dead_from) / TR_MS);
	if (validation->begin > tr_seen[validation->token].refused_by)
		violate(RESURRECTED, "token %u, %s, at %.3f ms, refused by %.3f ms", validation->token,
				level_texts[validation->level], ms(validation->begin),
				ms(tr_seen[validation->token].refused_by));
	if (tr_past_must_be_blocked(validation, tr_entries[validation->token].client))
		violate(BLOCKED_ACCEPTED, "token %u, %s, at %.3f ms", validation->token,
				level_texts[validation->level], ms(validation->begin));
}

/*
 * A token was refused.
 */
static void
judge_refusal(const TrRecord *validation)
{
	const TrFate *fate = &fates[validation->token];
	bool may = validation->reason == TR_BLOCKED
				   ? tr_past_may_be_blocked(validation, tr_entries[validation->token].client)
				   : validation->reason != TR_UNKNOWN && validation->reason != TR_MALFORMED &&
						 fate->doubt_from < validation->end;

	if (!may)
		violate(LOST, "token %u, %s, at %.3f ms, answer %d; in doubt from %.3f ms",
				validation->token, level_texts[validation->level], ms(validation->begin),
				validation->reason, ms(fate->doubt_from));
}

/*
 * Second look: judge a validation.
 */
static void
judge(const TrRecord *validation)
{
	int64_t dead_from = fates[validation->token].dead_from;

	if (validation->outcome == TR_ABORTED)
	{
		violate(FAILED, "validate, at %.3f ms", ms(validation->begin));
		return;
	}
	if (validation->outcome == TR_MAYBE)
	{
		tally.lost++;
		if (!tr_past_fault_between(validation->begin - 1000 * TR_MS, validation->end, true))
			violate(UNEXPLAINED, "in a validation at %.3f ms", ms(validation->end));
		return;
	}
	if (validation->reason == TR_OK)
		judge_acceptance(validation);
	else
		judge_refusal(validation);
	if (validation->reason == TR_NOT_ENDED)
		return;
	tally.validations[validation->level]++;
	tally.many += validation->many;
	tally.accepted += validation->reason == TR_OK;
	tally.after += validation->begin > dead_from;
	tally.close +=
		validation->begin > dead_from - TR_SLACK && validation->begin < dead_from + TR_SLACK;
}

/*
 * What rotations answered: one successor a token, a text is made once, and a
 * second text for a successor needs a lost nonce, and leaves an audit row.
 */
static void
judge_rotations(long reissued_rows)
{
	uint32_t *successor = malloc((tr_entry_count + 1) * sizeof(uint32_t));
	uint32_t *latest = calloc(tr_entry_count + 1, sizeof(uint32_t));
	bool *may_have_made = calloc(tr_entry_count + 1, sizeof(bool));
	uint8_t *made = calloc(tr_entry_count + 1, 1);
	uint8_t *given = calloc(tr_entry_count + 1, 1);
	long reissued = 0;
	long unknown = 0;
	uint32_t e;
	size_t i;

	memset(successor, 0xff, (tr_entry_count + 1) * sizeof(uint32_t));
	for (i = 0; i < tr_change_count; i++)
	{
		const TrRecord *record = &tr_changes[i];
		uint32_t id;

		if (record->kind != TR_ROTATE || record->outcome == TR_ABORTED)
			continue;
		id = tr_entries[record->token].id;
		if (record->outcome == TR_MAYBE)
		{
			may_have_made[id] = true;
			unknown++;
		}
		else if (record->reason == TR_UNKNOWN || record->reason == TR_MALFORMED ||
				 (record->reason == TR_BAD_SECRET &&
				  fates[record->token].doubt_from >= record->end))
			violate(LOST, "token %u is %s to a rotation at %.3f ms", record->token,
					record->reason == TR_BAD_SECRET ? "bad_secret" : "unknown", ms(record->begin));
		else if (record->reason == TR_OK)
		{
			uint32_t other = tr_entries[record->other].id;

			if (successor[id] != TR_NOBODY && successor[id] != other)
				violate(SUCCESSORS, "token %u has %u and %u, %.3f ms", id, successor[id], other,
						ms(record->begin));
			successor[id] = other;
			given[record->other] = 1;
			if (!record->replayed && made[record->other]++)
				violate(REPLAYS, "token %u was made twice, %.3f ms", record->other,
						ms(record->begin));
		}
	}
	for (e = 0; e < tr_entry_count; e++)
	{
		const TrEntry *entry = &tr_entries[e];

		if (given[e] && !made[e] && !may_have_made[entry->predecessor])
			violate(REPLAYS, "token %u was replayed and never made", e);
		if (entry->id != e &&
			!tr_past_fault_between(tr_entries[latest[entry->id]].begin, entry->end, false))
			violate(REISSUES, "token %u at %.3f ms", e, ms(entry->begin));
		reissued += entry->id != e;
		latest[entry->id] = e;
	}
	if (reissued > reissued_rows || reissued + unknown < reissued_rows)
		violate(REISSUE_ROWS, "%ld rows, %ld acknowledged and %ld unknown outcomes", reissued_rows,
				reissued, unknown);
	printf("# tried: %ld successors got a new secret because their nonce was lost\n", reissued);
	free(successor);
	free(latest);
	free(may_have_made);
	free(made);
	free(given);
}

/*
 * Was the predecessor of an entry under a cutoff of this kind that the entry
 * itself was not under?
 */
static void
judge_escapes(void)
{
	size_t i;
	uint32_t e;
	int64_t(*cuts)[2][64] = calloc(TR_CLIENTS, sizeof(*cuts));
	int(*counts)[2] = calloc(TR_CLIENTS, sizeof(*counts));

	/* the newest 64 of each: a successor that escapes does so within moments */
	for (i = 0; i < tr_change_count; i++)
	{
		const TrRecord *record = &tr_changes[i];
		int of_policy = record->kind == TR_CUT_POLICY;

		if ((record->kind == TR_CUT_CLIENT || of_policy) && record->outcome == TR_DONE)
			cuts[record->token][of_policy][counts[record->token][of_policy]++ % 64] =
				record->moment;
	}
	for (e = 0; e < tr_entry_count; e++)
	{
		const TrEntry *entry = &tr_entries[e];
		uint32_t subjects[2] = {entry->client, entry->policy * TR_REALMS + entry->realm};
		int of_policy;
		int n;

		if (entry->predecessor == TR_NOBODY)
			continue;
		for (of_policy = 0; of_policy < 2; of_policy++)
			for (n = 0; n < counts[subjects[of_policy]][of_policy] && n < 64; n++)
			{
				int64_t moment = cuts[subjects[of_policy]][of_policy][n];

				if (tr_entries[entry->predecessor].issued_at < moment && entry->issued_at >= moment)
					violate(ESCAPED, "token %u, made at %.3f ms", e, ms(entry->end));
			}
	}
	free(cuts);
	free(counts);
}

/*
 * Print how often each kind of change came to which outcome.
 */
static void
tell_changes(void)
{
	long counts[TR_KIND_COUNT][3] = {{0}};
	size_t i;
	int kind;

	for (i = 0; i < tr_change_count; i++)
	{
		const TrRecord *record = &tr_changes[i];

		counts[record->kind][record->outcome]++;
		if (record->outcome == TR_MAYBE &&
			!tr_past_fault_between(record->begin - 1000 * TR_MS, record->end, true))
			violate(UNEXPLAINED, "in a change at %.3f ms", ms(record->end));
		if (record->outcome == TR_ABORTED && record->reason == TR_OTHER)
			violate(FAILED, "%s, at %.3f ms", kind_texts[record->kind], ms(record->begin));
	}
	printf("# tried: changes acknowledged/rolled back/unknown:");
	for (kind = 0; kind < TR_KIND_COUNT; kind++)
		if (kind_texts[kind] != NULL)
			printf(" %s %ld/%ld/%ld%s", kind_texts[kind], counts[kind][TR_DONE],
				   counts[kind][TR_ABORTED], counts[kind][TR_MAYBE],
				   kind == TR_UNBLOCK ? "\n" : ",");
}

/*
 * Print the faults; returns how many kills landed inside a verb.
 */
static long
tell_faults(void)
{
	long counts[TR_FAULT_COUNT] = {0};
	long inside[TR_KIND_COUNT] = {0};
	long landed = 0;
	long in_commit = 0;
	size_t i;
	int n;

	for (i = 0; i < tr_fault_count; i++)
	{
		const TrRecord *record = &tr_faults[i];

		counts[record->reason]++;
		if (record->reason != TR_KILL || !record->replayed)
			continue;
		landed++;
		inside[record->victim]++;
		in_commit += record->in_commit;
	}
	printf("# tried:");
	for (n = 0; n < TR_FAULT_COUNT; n++)
		if (counts[n] > 0)
			printf(" %ld %s;", counts[n], fault_texts[n]);
	printf(" %ld unknown outcomes of validations\n", tally.lost);
	if (landed > 0)
	{
		printf("# tried: %ld kills landed inside (the call was sent and never answered):", landed);
		for (n = 0; n < TR_KIND_COUNT; n++)
			if (inside[n] > 0)
				printf(" %s %ld,", kind_texts[n], inside[n]);
		printf(" %ld of them inside COMMIT\n", in_commit);
	}
	return landed;
}

/*
 * Print the validations; returns how many there were.
 */
static long
tell_validations(void)
{
	long sum = 0;
	int level;

	for (level = 0; level < TR_LEVEL_COUNT; level++)
		sum += tally.validations[level];
	printf("# tried: %ld validations (%ld one by one), %ld accepted, of %u tokens:", sum,
		   sum - tally.many, tally.accepted, tr_entry_count);
	for (level = 0; level < TR_LEVEL_COUNT; level++)
		printf(" %s %ld%s", level_texts[level], tally.validations[level],
			   level == TR_LEVEL_COUNT - 1 ? "\n" : ",");
	printf("# tried: %ld validations began after an acknowledged end, %ld within 5 ms of one\n",
		   tally.after, tally.close);
	return sum;
}

int
main(int argc, char **argv)
{
	long validations;
	long kills;
	uint32_t e;
	int rule;

	if (argc != 5)
	{
		fputs("usage: check FOLDER VALIDATIONS KILLS REISSUED\n", stderr);
		return 2;
	}
	tr_past_read(argv[1]);
	tr_past_validations(look);
	fates = calloc(tr_entry_count + 1, sizeof(TrFate));
	for (e = 0; e < tr_entry_count; e++)
		fates[e] = tr_past_fate(e);
	tr_past_validations(judge);
	judge_rotations(atol(argv[4]));
	judge_escapes();
	tell_changes();
	kills = tell_faults();
	validations = tell_validations();
	for (rule = 0; rule < RULE_COUNT; rule++)
	{
		if (violations[rule] > SHOWN)
			printf("# %s: %ld violations\n", rule_texts[rule], violations[rule]);
		report(violations[rule] == 0, rule_texts[rule]);
	}
	report(validations >= atol(argv[2]), "enough validations");
	report(kills >= atol(argv[3]), "enough kills inside a rotation or a revocation");
	return failures == 0 ? 0 : 1;
}
