/*
 * utf8.c
 *	  Texts in UTF-8, whatever the database's encoding is: see utf8.h.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

#include "frame/utf8.h"

bool
tr_text_to_utf8(StringInfo to, const char *text, int len)
{
	int encoding = GetDatabaseEncoding();
	unsigned char *converted;
	Oid conversion;
	bool whole;

	if (encoding == PG_UTF8 ||
		(encoding == PG_SQL_ASCII && pg_verify_mbstr(PG_UTF8, text, len, true)))
	{
		appendBinaryStringInfo(to, text, len);
		return true;
	}
	conversion =
		encoding == PG_SQL_ASCII ? InvalidOid : FindDefaultConversionProc(encoding, PG_UTF8);
	if (!OidIsValid(conversion))
		return false;
	converted = palloc((Size) len * MAX_CONVERSION_GROWTH + 1);
	whole =
		pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8, (unsigned char *) text, len,
									  converted, len * MAX_CONVERSION_GROWTH + 1, true) == len;
	if (whole)
		appendStringInfoString(to, (char *) converted);
	pfree(converted);
	return whole;
}
