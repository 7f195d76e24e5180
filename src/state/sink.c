/*
 * sink.c
 *	  The file that the sealed audit trail is written to: see sink.h.
 *
 * The file is opened anew for each seal, so that logrotate may move it away at any
 * time.  Several databases may share it: each line is written at the end as it is
 * then.  After a write that failed in the midst, the rest of a line may be left;
 * the next one begins on a line of its own.  Nothing is cut off, because what
 * comes after may be another database's.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "common/file_perm.h"
#include "lib/stringinfo.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/lifecycle.h"
#include "frame/settings.h"
#include "frame/sql.h"
#include "frame/stop_point.h"
#include "frame/utf8.h"
#include "state/sink.h"

/* A seal, by its key, and when it was made. */
typedef struct Position
{
	int64 segment;
	int64 seal;
	TimestampTz at;
} Position;

/*
 * The next seal that the file is to have.  false: there is none, or no file.  How
 * far it is, is known for each segment: a segment that is restored later, or made
 * up, must not pass for one that comes after this one's seals.
 */
static bool
next_seal(Position *position)
{
	static TrSql sql = {
		.text = "WITH RECURSIVE known (segment) AS ("
				"(SELECT s.segment FROM token_rotation.audit_seal s ORDER BY s.segment LIMIT 1)"
				" UNION ALL SELECT (SELECT s.segment FROM token_rotation.audit_seal s"
				" WHERE s.segment OPERATOR(pg_catalog.>) k.segment ORDER BY s.segment LIMIT 1)"
				" FROM known k WHERE k.segment IS NOT NULL)"
				" SELECT x.segment, x.seal, x.at FROM known k"
				" LEFT JOIN token_rotation.audit_sink p"
				" ON p.segment OPERATOR(pg_catalog.=) k.segment, LATERAL ("
				"SELECT s.segment, s.seal, s.at FROM token_rotation.audit_seal s"
				" WHERE s.segment OPERATOR(pg_catalog.=) k.segment"
				" AND s.seal OPERATOR(pg_catalog.>) coalesce(p.seal, 0)"
				" ORDER BY s.seal LIMIT 1) x ORDER BY x.segment LIMIT 1",
	};
	bool isnull;

	if (*tr_audit_file == '\0' || tr_sql_run(&sql, NULL, NULL) == 0)
		return false;
	position->segment = DatumGetInt64(tr_sql_value(0, 1, &isnull));
	position->seal = DatumGetInt64(tr_sql_value(0, 2, &isnull));
	position->at = DatumGetTimestampTz(tr_sql_value(0, 3, &isnull));
	return true;
}

/*
 * Store that the file has this seal.
 */
static void
store_position(const Position *position)
{
	static TrSql sql = {
		.text = "INSERT INTO token_rotation.audit_sink AS p (segment, seal) VALUES ($1, $2)"
				" ON CONFLICT (segment) DO UPDATE SET seal = excluded.seal",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	Datum values[2];

	values[0] = Int64GetDatum(position->segment);
	values[1] = Int64GetDatum(position->seal);
	tr_sql_run(&sql, values, NULL);
}

/*
 * Append a line of JSON in UTF-8.  Where it has what UTF-8 lacks, because a caller
 * passed it as his origin, it must not stop the others: then each byte that is not
 * ASCII, which there is within strings only, becomes \u00hh.
 */
static void
append_line(StringInfo lines, const char *line)
{
	int len = (int) strlen(line);
	const char *p;

	if (tr_text_to_utf8(lines, line, len))
	{
		appendStringInfoChar(lines, '\n');
		return;
	}
	for (p = line; *p != '\0'; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			appendStringInfo(lines, "\\u00%02x", (unsigned char) *p);
		else
			appendStringInfoChar(lines, *p);
	}
	appendStringInfoChar(lines, '\n');
}

/*
 * Run one of the statements below and append each row of its answer as a line.
 * Returns how many.
 */
static uint64
append_lines(StringInfo lines, TrSql *sql, const Position *position)
{
	Datum values[2];
	uint64 count;
	uint64 i;

	values[0] = Int64GetDatum(position->segment);
	values[1] = Int64GetDatum(position->seal);
	count = tr_sql_run(sql, values, NULL);
	for (i = 0; i < count; i++)
	{
		bool isnull;

		append_line(lines, TextDatumGetCString(tr_sql_value(i, 1, &isnull)));
	}
	return count;
}

/* Parts of the lines below. */
#define MOMENT(column)                                                                             \
	"pg_catalog.to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
#define HEX(value) "pg_catalog.encode(" value ", 'hex')"
#define ROW_HASH                                                                                   \
	"pg_catalog.substr(s.row_hashes, ((u.n OPERATOR(pg_catalog.-) 1)"                              \
	" OPERATOR(pg_catalog.*) 32 OPERATOR(pg_catalog.+) 1)::pg_catalog.int4, 32)"
#define OF_SEAL                                                                                    \
	"pg_catalog.json_build_object('database', pg_catalog.current_database(),"                      \
	" 'segment', s.segment, 'seal', s.seal, "
#define FROM_SEAL " FROM token_rotation.audit_seal s"
#define ONE_SEAL " WHERE s.segment OPERATOR(pg_catalog.=) $1 AND s.seal OPERATOR(pg_catalog.=) $2"

/* clang-format off */
#define ROW_LINES                                                                                  \
	"SELECT " OF_SEAL "'seq', a.seq, 'at', " MOMENT("a.at") ", 'event', a.event,"                  \
	" 'client_id', a.client_id, 'owner', a.owner, 'token_ref', " HEX("a.token_ref") ","            \
	" 'successor_ref', " HEX("a.successor_ref") ", 'actor', a.actor, 'role', a.role,"              \
	" 'application_name', a.application_name, 'client_addr', a.client_addr,"                       \
	" 'origin', a.origin, 'reason', a.reason, 'detail', a.detail,"                                 \
	" 'xid', a.xid::pg_catalog.text, 'row_hash', " HEX(ROW_HASH) ")::pg_catalog.text"              \
	FROM_SEAL ", pg_catalog.unnest(s.seqs) WITH ORDINALITY AS u (seq, n),"                         \
	" token_rotation.audit a" ONE_SEAL " AND a.seq OPERATOR(pg_catalog.=) u.seq ORDER BY u.n"
#define SEAL_LINE                                                                                  \
	"SELECT " OF_SEAL "'at', " MOMENT("s.at") ", 'rows', s.rows, 'hash', " HEX("s.hash") ")"       \
	"::pg_catalog.text, s.rows, s.seqs IS NULL AND s.rows OPERATOR(pg_catalog.>) 0" FROM_SEAL      \
	ONE_SEAL
/* clang-format on */

/*
 * The rows of a seal and, last, the seal itself.
 */
static void
collect(StringInfo lines, const Position *position)
{
	static TrSql row_sql = {.text = ROW_LINES, .nargs = 2, .types = {INT8OID, INT8OID}};
	static TrSql seal_sql = {.text = SEAL_LINE, .nargs = 2, .types = {INT8OID, INT8OID}};
	uint64 count = append_lines(lines, &row_sql, position);
	bool isnull;
	bool pruned;
	int32 sealed;

	append_lines(lines, &seal_sql, position);
	sealed = DatumGetInt32(tr_sql_value(0, 2, &isnull));
	pruned = DatumGetBool(tr_sql_value(0, 3, &isnull));
	if (count != (uint64) sealed && !pruned)
		ereport(LOG,
				(errmsg("seal " INT64_FORMAT
						" of the audit trail has %d rows, of which " UINT64_FORMAT " are there",
						position->seal, sealed, count),
				 errdetail("Somebody has removed the others."), errhint("Run tr_audit_verify().")));
}

/*
 * Does the file end in the midst of a line?
 */
static bool
ends_within_line(int fd, off_t size)
{
	char last;

	return size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

/*
 * Write everything; false with errno.
 */
static bool
write_all(int fd, const char *text, size_t len)
{
	while (len > 0)
	{
		ssize_t written;

		errno = 0;
		written = write(fd, text, len);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
		{
			errno = errno != 0 ? errno : ENOSPC;
			return false;
		}
		text += written;
		len -= (size_t) written;
	}
	return true;
}

/*
 * Append to the open file, to the disk, with its name, which may be new; false with
 * errno.
 */
static bool
append(int fd, const StringInfoData *lines)
{
	char folder[MAXPGPATH];
	struct stat st;

	if (fstat(fd, &st) != 0)
		return false;
	if (!S_ISREG(st.st_mode))
	{
		errno = EINVAL;
		return false;
	}
	if (ends_within_line(fd, st.st_size) && !write_all(fd, "\n", 1))
		return false;
	if (!write_all(fd, lines->data, (size_t) lines->len) || pg_fsync(fd) != 0)
		return false;
	strlcpy(folder, tr_audit_file, sizeof(folder));
	get_parent_directory(folder);
	return fsync_fname_ext(folder, true, true, LOG) == 0;
}

/*
 * Open the file, append, close.  What goes wrong is logged.
 */
static bool
write_file(const StringInfoData *lines)
{
	/* a pipe without a reader is an error, and nothing to wait for */
	int fd = OpenTransientFilePerm(tr_audit_file, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK,
								   pg_file_create_mode);
	bool done = fd >= 0 && append(fd, lines);

	if (!done)
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not write the audit file \"%s\": %m", tr_audit_file),
					  errdetail("Sealed rows wait for it; none is skipped."),
					  errhint("It is tried again in token_rotation.worker_nap.")));
	if (fd >= 0)
		CloseTransientFile(fd);
	return done;
}

TrSink
tr_sink_run(void)
{
	StringInfoData lines;
	Position position;

	if (!next_seal(&position))
		return TR_SINK_IDLE;
	initStringInfo(&lines);
	collect(&lines, &position);
	if (!write_file(&lines))
		return TR_SINK_FAILED;
	TR_STOP_POINT("sink_written");
	store_position(&position);
	return TR_SINK_WROTE;
}

TimestampTz
tr_sink_waiting_since(void)
{
	Position position;

	return next_seal(&position) ? position.at : TR_FOREVER;
}
