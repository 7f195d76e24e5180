/*
 * utf8.h
 *	  Texts in UTF-8, whatever the database's encoding is.
 */
#ifndef TR_UTF8_H
#define TR_UTF8_H

#include "postgres.h"

#include "lib/stringinfo.h"

/*
 * Append a text of the database in UTF-8.  false, and nothing is appended: it has
 * characters that UTF-8 lacks, or the database does not know its encoding and the
 * bytes are no UTF-8.  Raises nothing for that.
 */
extern bool tr_text_to_utf8(StringInfo to, const char *text, int len);

#endif /* TR_UTF8_H */
