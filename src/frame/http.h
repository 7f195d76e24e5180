/*
 * http.h
 *	  What a request through PostgREST is told: errors that are HTTP statuses, and
 *	  headers of the response.
 *
 * https://docs.postgrest.org/en/v13/references/errors.html#raise-errors-with-http-status-codes
 * https://docs.postgrest.org/en/v13/references/transactions.html#response-headers
 */
#ifndef TR_HTTP_H
#define TR_HTTP_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "frame/compat.h"

/*
 * Errors that PostgREST turns into an HTTP status, with what RFC 6750, section 3,
 * has WWW-Authenticate say: 401 where no token was presented; 401 where it is not
 * valid, for a reason that may be told (NULL: it may not); 403 where it lacks a
 * scope.
 */
pg_noreturn extern void tr_raise_http_nobody(void);
pg_noreturn extern void tr_raise_http_refused(const char *reason);
pg_noreturn extern void tr_raise_http_no_scope(const text *scope);

/*
 * Any other status.  code, message and details (may be NULL) are for the body.
 */
pg_noreturn extern void tr_raise_http(int status, const char *code, const char *message,
									  const char *details);

/*
 * A setting of the request, such as request.path; NULL where it is unset or empty,
 * which is what it is after the first transaction of a session.
 */
extern const char *tr_http_setting(const char *name);

/*
 * Give such a setting a value until the end of the transaction.
 */
extern void tr_http_set(const char *name, const char *value);

/*
 * Add a header to the value of response.headers that is being made.
 */
extern void tr_http_header(StringInfo headers, const char *name, const char *value);

/*
 * A moment as headers have it: an IMF-fixdate of RFC 9110, section 5.6.7.
 */
extern char *tr_http_date(TimestampTz moment);

#endif /* TR_HTTP_H */
