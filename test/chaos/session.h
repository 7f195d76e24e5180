/*
 * session.h
 *	  The connections of the chaos tests' client, and what they share.
 *
 * A session is a thread with a connection.  When the connection is lost it
 * makes a new one, to the server that is current, and goes on.  The sessions
 * share the table of tokens.
 */
#ifndef TR_SESSION_H
#define TR_SESSION_H

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include "history.h"

#define TR_MAX_TOKENS 2000000
#define TR_MAX_SESSIONS 32
#define TR_TEXT 96 /* room for a token, and for a uuid */

/* What the sessions do now. */
typedef enum TrRunning
{
	TR_PAUSED, /* nothing, and no transaction is open */
	TR_GOING,
	TR_STOPPED,
} TrRunning;

typedef struct TrSession
{
	int number;
	bool validates;
	bool keeps_snapshots; /* holds old ones */
	PGconn *conn;		  /* NULL: not connected */
	uint64_t random;
	FILE *history;
	long validations;
	_Atomic bool parked; /* heeds that everything is paused */

	/* For who wants to kill it inside a call: see tr_session_enter(). */
	_Atomic int pid;
	_Atomic unsigned call;		/* odd: inside call number call / 2 */
	_Atomic unsigned lost_call; /* the call in which the connection was lost last */
	_Atomic int kind;
	_Atomic bool in_commit;
} TrSession;

/* Token texts and ids, beside their entries. */
typedef struct TrText
{
	char text[TR_TEXT];
	char id[TR_TEXT];
	_Atomic uint32_t newest; /* of an id's first entry: newest entry of its successor */
	uint32_t older;			 /* the entry that this one replaces, or TR_NOBODY */
	_Atomic bool touched;	 /* a call that may end it was begun */
} TrText;

extern TrEntry *tr_entries;
extern TrText *tr_texts;
extern _Atomic uint32_t tr_entry_count;
extern _Atomic int tr_running;
extern _Atomic bool tr_let_go; /* a fault wants locks: end long transactions */

extern const char *const tr_kind_texts[TR_KIND_COUNT];

extern int64_t tr_now(void);

/* A moment of the wall clock (microseconds) as a time of tr_now(). */
extern int64_t tr_from_wall(int64_t microseconds);

extern uint32_t tr_random(TrSession *session, uint32_t below);
extern bool tr_chance(TrSession *session, int percent);

/* Where the server is, from now on. */
extern void tr_server_is(const char *conninfo);

extern void tr_session_init(TrSession *session, int number, const char *folder);
extern void tr_session_close(TrSession *session);

/*
 * Connect, however long it takes; false when the sessions were paused or
 * stopped meanwhile (unless persistent).
 */
extern bool tr_session_connect(TrSession *session, bool persistent);

/*
 * Run a statement.  NULL: the connection is lost, and closed.  An ERROR is a
 * result like others.  The second runs what tr_session_connect() prepared.
 */
extern PGresult *tr_session_run(TrSession *session, const char *sql, int count,
								const char *const *values);
extern PGresult *tr_session_prepared(TrSession *session, const char *name, const char *value);

/* The same, inside a call for which this session may be killed. */
extern PGresult *tr_session_call(TrSession *session, TrKind kind, bool commit, const char *sql,
								 int count, const char *const *values);

/* Run one that must not fail and whose result is of no interest; false: lost or failed. */
extern bool tr_session_do(TrSession *session, const char *sql);

extern void tr_session_record(TrSession *session, const TrRecord *record);

/* Is the result an ERROR with one of these SQLSTATEs?  Any other is shown, if not too often. */
extern bool tr_error_is(const PGresult *result, const char *states);

extern TrAnswer tr_answer(const char *reason);

/*
 * Make an entry for a token text; replaces is an entry of the same id, or
 * TR_NOBODY.
 */
extern uint32_t tr_entry_make(const char *text, const char *id, const TrEntry *entry,
							  uint32_t replaces);

/* Stop with a message: the test itself is broken. */
extern void tr_give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
