/*
 * sink.h
 *	  The file that the sealed audit trail is written to, for a SIEM.
 */
#ifndef TR_SINK_H
#define TR_SINK_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef enum TrSink
{
	TR_SINK_IDLE, /* there is no file, or it has everything */
	TR_SINK_WROTE,
	TR_SINK_FAILED, /* logged; the same rows are tried again the next time */
} TrSink;

/*
 * Append the rows of the next seal to token_rotation.audit_file: a line of JSON
 * for each row, in the seal's order, and one for the seal.  They are on disk before
 * the position is stored, in this transaction; so each row gets there at least
 * once.  Called inside a section, in a short transaction.
 */
extern TrSink tr_sink_run(void);

/*
 * When the oldest seal was made that the file does not have; TR_FOREVER: there is
 * none, or no file.  Inside a section.
 */
extern TimestampTz tr_sink_waiting_since(void);

#endif /* TR_SINK_H */
