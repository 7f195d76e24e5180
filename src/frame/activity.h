/*
 * activity.h
 *	  This session's line in pg_stat_activity.
 */
#ifndef TR_ACTIVITY_H
#define TR_ACTIVITY_H

/*
 * Mask the tokens that are literals of the statement that this session shows in
 * pg_stat_activity, in place: query_id and times stay.  For functions that take
 * a token, first of all.  Costs a comparison where the line has not changed
 * since.
 */
extern void tr_activity_mask(void);

#endif /* TR_ACTIVITY_H */
