/*
 * settings.c
 *	  The settings token_rotation.*: see settings.h.
 *
 * All of them need a reload at least, so that no role weakens them for itself;
 * only realm is the session's, and it is checked where it is used.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "frame/compat.h"
#include "frame/keys.h"
#include "frame/settings.h"

bool tr_rotation_enabled = true;
bool tr_overlap_enforcement = true;
bool tr_risk_enabled = true;
int tr_leeway = 30;
int tr_max_staleness = 300;
int tr_circuit_threshold = 5;
int tr_circuit_timeout = 30;
int tr_worker_nap = 10000;
int tr_max_workers = 2;
int tr_ring_size = 1024;
int tr_usage_size = 65536;
int tr_audit_validations = TR_AUDIT_NONE;
int tr_audit_overflow = TR_OVERFLOW_DROP;
bool tr_log_redaction = true;
char *tr_audit_file = NULL;
char *tr_anonymous_paths = NULL;
char *tr_realm = NULL;
char *tr_key_file = NULL;
char *tr_key_command = NULL;

static char *not_before_text = NULL;
static TimestampTz not_before = TR_NEVER;
static char *accept_unkeyed_until_text = NULL;
static TimestampTz accept_unkeyed_until = TR_NEVER;

static const struct config_enum_entry audit_validations_options[] = {
	{"none", TR_AUDIT_NONE, false},
	{"failures", TR_AUDIT_FAILURES, false},
	{"all", TR_AUDIT_ALL, false},
	{NULL, 0, false},
};

static const struct config_enum_entry audit_overflow_options[] = {
	{"drop", TR_OVERFLOW_DROP, false},
	{"fail", TR_OVERFLOW_FAIL, false},
	{NULL, 0, false},
};

/*
 * Read "2026-11-22 10:00:00Z", or with T and an offset such as +01 or -05:30.
 * The offset must be there: each session has its own TimeZone, and a cutoff
 * must mean one moment.  The server's own parser would fill it in.
 */
static bool
parse_moment(const char *input, TimestampTz *moment)
{
	struct pg_tm tm = {0};
	char separator;
	char sign;
	int used = 0;
	int hours = 0;
	int minutes = 0;
	int zone = 0;
	Timestamp local;

	if (sscanf(input, "%4d-%2d-%2d%c%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
			   &separator, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used) != 7 ||
		(separator != ' ' && separator != 'T'))
		return false;
	input += used;
	if (strcmp(input, "Z") != 0)
	{
		used = 0;
		if (sscanf(input, "%c%2d%n:%2d%n", &sign, &hours, &used, &minutes, &used) < 2 ||
			input[used] != '\0' || (sign != '+' && sign != '-') || hours < 0 || hours > 15 ||
			minutes < 0 || minutes > 59)
			return false;
		zone = (hours * 60 + minutes) * 60 * (sign == '+' ? -1 : 1);
	}
	if (tm.tm_mon < 1 || tm.tm_mon > MONTHS_PER_YEAR || tm.tm_mday < 1 ||
		tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1] || tm.tm_hour < 0 ||
		tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 59)
		return false;
	if (tm2timestamp(&tm, 0, NULL, &local) != 0)
		return false;
	*moment = local + (int64) zone * USECS_PER_SEC;
	return true;
}

/*
 * Check hook of not_before and accept_unkeyed_until.
 */
static bool
check_moment(char **newval, void **extra, GucSource source)
{
	TimestampTz moment = TR_NEVER;

	if (*newval != NULL && **newval != '\0' && !parse_moment(*newval, &moment))
	{
		GUC_check_errdetail("\"%s\" is no moment with a UTC offset.", *newval);
		GUC_check_errhint("Write it like \"2026-01-31 12:00:00+00\", or leave it empty.");
		return false;
	}
	*extra = guc_malloc(LOG, sizeof(TimestampTz));
	if (*extra == NULL)
		return false;
	*(TimestampTz *) *extra = moment;
	return true;
}

/*
 * Assign hook of not_before.
 */
static void
assign_not_before(const char *newval, void *extra)
{
	not_before = *(TimestampTz *) extra;
}

/*
 * Assign hook of accept_unkeyed_until.
 */
static void
assign_accept_unkeyed_until(const char *newval, void *extra)
{
	accept_unkeyed_until = *(TimestampTz *) extra;
}

/*
 * Assign hooks of key_file and key_command, which a reload calls also where the
 * value is the same.  No check hook reads keys: what it refuses at the start of
 * the server is taken for unset, and no key would be asked for.
 */
static void
assign_key_file(const char *newval, void *extra)
{
	tr_keys_reload(TR_KEYS_FROM_FILE, newval);
}

static void
assign_key_command(const char *newval, void *extra)
{
	tr_keys_reload(TR_KEYS_FROM_COMMAND, newval);
}

/*
 * Check hook of audit_file.
 */
static bool
check_audit_file(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || (is_absolute_path(*newval) && strlen(*newval) < MAXPGPATH))
		return true;
	GUC_check_errdetail("It is no absolute path, or too long a one.");
	GUC_check_errhint("Name the file from the root on, or leave it empty.");
	return false;
}

/*
 * Check hook of anonymous_paths.
 */
static bool
check_anonymous_paths(char **newval, void **extra, GucSource source)
{
	const char *next = *newval;

	while (*(next += strspn(next, ", ")) != '\0')
	{
		size_t len = strcspn(next, ", ");
		const char *star = memchr(next, '*', len);

		if (*next != '/' || (star != NULL && star != next + len - 1))
		{
			GUC_check_errdetail("\"%.*s\" is no path.", (int) len, next);
			GUC_check_errhint("Write paths like \"/rpc/rotate, /public/*\", or leave it empty.");
			return false;
		}
		next += len;
	}
	return true;
}

/*
 * Settings that change what verdicts say.
 */
static void
define_verdict_settings(void)
{
	DefineCustomBoolVariable("token_rotation.rotation_enabled",
							 "Tokens can be rotated; off: tr_rotate answers disabled and every "
							 "valid token stays valid.",
							 NULL, &tr_rotation_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("token_rotation.overlap_enforcement",
							 "Overlap windows end; off: tokens that are rotating live to their own "
							 "expiry.",
							 NULL, &tr_overlap_enforcement, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("token_rotation.risk_enabled",
							 "Risk rules shorten the lives of new tokens; off: none does.", NULL,
							 &tr_risk_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("token_rotation.leeway",
							"Clock tolerance, at most a tenth of a token's life.", NULL, &tr_leeway,
							30 /* default */, 0 /* min */, 3600 /* max */, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("token_rotation.max_staleness",
							"A standby whose newest replayed commit is older answers stale.",
							"-1 switches this off.", &tr_max_staleness, 300 /* default */,
							-1 /* min */, INT_MAX / 1000 /* max */, PGC_SIGHUP, GUC_UNIT_S, NULL,
							NULL, NULL);
	DefineCustomIntVariable("token_rotation.circuit_threshold",
							"Writes in a row that fail because of the storage until rotation "
							"answers disabled.",
							"0 switches this off.", &tr_circuit_threshold, 5 /* default */,
							0 /* min */, 1000 /* max */, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("token_rotation.circuit_timeout",
							"Time after which it is tried whether a rotation works again.", NULL,
							&tr_circuit_timeout, 30 /* default */, 1 /* min */, 3600 /* max */,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"token_rotation.not_before", "Nothing issued before this moment is valid.",
		"With a UTC offset; empty: unset.", &not_before_text, "" /* default */, PGC_SIGHUP, 0,
		check_moment, assign_not_before, NULL);
	DefineCustomStringVariable(
		"token_rotation.anonymous_paths", "Paths that tr_pre_request lets through without a token.",
		"Separated by commas; one that ends with * stands for all that "
		"begin so; empty: none.",
		&tr_anonymous_paths, "" /* default */, PGC_SIGHUP, 0, check_anonymous_paths, NULL, NULL);
	DefineCustomStringVariable("token_rotation.realm",
							   "Role that owns the tokens that this session issues, and whose "
							   "tokens it ends by client or time.",
							   "Empty: the current user.", &tr_realm, "" /* default */, PGC_USERSET,
							   0, NULL, NULL, NULL);
}

/*
 * Settings of the audit trail, the log and the worker.
 */
static void
define_worker_settings(void)
{
	DefineCustomIntVariable("token_rotation.worker_nap",
							"Time after which the worker visits a database although nothing asks "
							"for it.",
							NULL, &tr_worker_nap, 10000 /* default */, 200 /* min */,
							3600000 /* max */, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("token_rotation.max_workers", "Databases that are visited at once.",
							NULL, &tr_max_workers, 2 /* default */, 1 /* min */, 16 /* max */,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("token_rotation.ring_size",
							"Events that wait in shared memory for the worker.", NULL,
							&tr_ring_size, 1024 /* default */, 64 /* min */, 65536 /* max */,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("token_rotation.usage_size",
							"Tokens whose acceptances are counted in shared memory.", NULL,
							&tr_usage_size, 65536 /* default */, 512 /* min */, 16777216 /* max */,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("token_rotation.audit_validations",
							 "Which validations are recorded in the audit trail.", NULL,
							 &tr_audit_validations, TR_AUDIT_NONE /* default */,
							 audit_validations_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("token_rotation.audit_overflow",
							 "What happens to a call whose proven refusal cannot be recorded.",
							 "drop counts the event as lost, fail refuses the call.",
							 &tr_audit_overflow, TR_OVERFLOW_DROP /* default */,
							 audit_overflow_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("token_rotation.audit_file",
							   "File that the sealed audit trail is written to.",
							   "An absolute path; empty: none.", &tr_audit_file, "" /* default */,
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_audit_file, NULL, NULL);
	DefineCustomBoolVariable("token_rotation.log_redaction",
							 "The secrets of tokens are masked in the server's log.", NULL,
							 &tr_log_redaction, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/*
 * Settings of the server's keys.
 */
static void
define_key_settings(void)
{
	DefineCustomStringVariable(
		"token_rotation.key_file", "File of the server keys that stored hashes are made with.",
		"Owned by the database user with permissions 0600, or by root with 0640.", &tr_key_file,
		"" /* default */, PGC_SIGHUP, 0, NULL, assign_key_file, NULL);
	DefineCustomStringVariable(
		"token_rotation.key_command", "Shell command that prints server keys.",
		"It is run by the server at its start and with each reload.", &tr_key_command,
		"" /* default */, PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, assign_key_command, NULL);
	DefineCustomStringVariable("token_rotation.accept_unkeyed_until",
							   "Tokens that were made without a server key are refused from this "
							   "moment on.",
							   "With a UTC offset; empty: as soon as there is a server key.",
							   &accept_unkeyed_until_text, "" /* default */, PGC_SIGHUP, 0,
							   check_moment, assign_accept_unkeyed_until, NULL);
}

/*
 * What the library is; nobody sets it.
 */
static void
define_version(void)
{
	static char *version;

	DefineCustomStringVariable("token_rotation.version", "Version of the library.",
							   "ALTER EXTENSION UPDATE needs the one that it updates to.", &version,
							   TR_VERSION, PGC_INTERNAL, GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							   NULL, NULL, NULL);
}

void
tr_settings_define(void)
{
	define_version();
	define_verdict_settings();
	define_worker_settings();
	define_key_settings();
	MarkGUCPrefixReserved("token_rotation");
}

TimestampTz
tr_not_before(void)
{
	return not_before;
}

TimestampTz
tr_accept_unkeyed_until(void)
{
	return accept_unkeyed_until;
}

TrRules
tr_rules(void)
{
	TrRules rules;

	rules.leeway = (int64) tr_leeway * USECS_PER_SEC;
	rules.overlap_enforced = tr_overlap_enforcement;
	rules.rotation_enabled = tr_rotation_enabled;
	return rules;
}
