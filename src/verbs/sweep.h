/*
 * sweep.h
 *	  Recording the ends of windows and lives.
 */
#ifndef TR_SWEEP_H
#define TR_SWEEP_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/array.h"

#include "frame/record.h"

/*
 * Record the end of a locked token, which takes this step: TR_STEP_END_OVERLAP or
 * TR_STEP_EXPIRE.  used: its successor is being used, whatever is recorded of that.
 */
extern void tr_sweep_end(TrToken *token, TrStep step, bool used, TimestampTz now);

/*
 * Record the end of up to max tokens whose overlap window or life is over,
 * oldest first, with an audit row for each ended overlap.  Called inside a
 * section.  realms: only of these (text[]), NULL: of all.  Returns how many;
 * *next (may be NULL) becomes the time of the next end, TR_FOREVER if there is
 * none.  Tokens that others hold are left for the next time.
 */
extern int tr_sweep_run(ArrayType *realms, int max, TimestampTz *next);

#endif /* TR_SWEEP_H */
