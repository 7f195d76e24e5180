/*
 * sql.h
 *	  Running the extension's own constant SQL.
 *
 * Inside a section only.  A statement is prepared once a session, and always
 * runs under a snapshot taken now, also in an old REPEATABLE READ transaction.
 */
#ifndef TR_SQL_H
#define TR_SQL_H

#include "postgres.h"

#include "executor/spi.h"

#define TR_SQL_MAX_ARGS 24

/* About a row of token.  Behind an alias, as in "t." TR_LIVE: is it live? */
#define TR_LIVE "status IN ('active', 'rotating')"
/* Of the row t: when does its window or its life end? */
#define TR_ENDS "coalesce(t.overlap_ends_at, t.expires_at)"

typedef struct TrSql
{
	const char *text; /* every name schema-qualified, operators included */
	int nargs;
	Oid types[TR_SQL_MAX_ARGS];
	SPIPlanPtr plan; /* starts as NULL */
	bool writes;	 /* known once it is prepared */
} TrSql;

/*
 * Run a statement; nulls has 'n' for NULL and ' ' for others (NULL: none is).
 * Returns the number of rows; SPI_tuptable holds them.  CurrentMemoryContext
 * stays what it was.
 */
extern uint64 tr_sql_run(TrSql *sql, Datum *values, const char *nulls);

/*
 * A column of row number row of the last result; NULLs give *isnull.
 */
extern Datum tr_sql_value(uint64 row, int column, bool *isnull);

/*
 * A token id of row number row of the last result: TR_ID_BYTES, which live as long
 * as the result; NULL for NULL.
 */
extern const uint8 *tr_sql_id(uint64 row, int column);

/*
 * Token ids, each a uuid, as the uuid[] that a statement takes; in
 * CurrentMemoryContext.
 */
extern Datum tr_ids_datum(Datum *ids, int count);

#endif /* TR_SQL_H */
