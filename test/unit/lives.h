/*
 * lives.h
 *	  Tokens and times for the tests of the lifecycle.
 */
#ifndef TR_LIVES_H
#define TR_LIVES_H

#include "check.h"
#include "core/lifecycle.h"

#define SECOND INT64_C(1000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

/* The moment at which the tokens of these tests are issued. */
#define T0 (INT64_C(25) * 365 * 24 * HOUR)

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* What explains a failed comparison. */
#define LIFE_FORMAT                                                                                \
	"status %d, issued %lld, expires %lld, rotated %lld, overlap ends %lld, replay ends %lld, "    \
	"cutoff %lld, blocked %d, now %lld, leeway %lld, enforced %d, enabled %d"
#define LIFE_ARGS(l, now, r)                                                                       \
	(int) (l)->status, (long long) (l)->issued_at, (long long) (l)->expires_at,                    \
		(long long) (l)->rotated_at, (long long) (l)->overlap_ends_at,                             \
		(long long) (l)->replay_ends_at, (long long) (l)->cutoff, (l)->blocked, (long long) (now), \
		(long long) (r)->leeway, (r)->overlap_enforced, (r)->rotation_enabled

/*
 * A token as it is issued: for a day.
 */
static inline TrLife
fresh(void)
{
	TrLife life = {.status = TR_ACTIVE,
				   .issued_at = T0,
				   .expires_at = T0 + 24 * HOUR,
				   .rotated_at = TR_NEVER,
				   .overlap_ends_at = TR_FOREVER,
				   .replay_ends_at = TR_NEVER,
				   .cutoff = TR_NEVER,
				   .blocked = false};

	return life;
}

#endif /* TR_LIVES_H */
