/*
 * risk.h
 *	  How much shorter risk makes a life, and what a rule's pattern matches.
 *
 * Pure.  Durations are microseconds, scores parts of a hundred.
 */
#ifndef TR_RISK_CORE_H
#define TR_RISK_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TR_RISK_MAX 100

/*
 * The sum of two scores from 0 to TR_RISK_MAX, which ends there.
 */
extern int tr_risk_add(int score, int more);

/*
 * The life that a score leaves of ttl: all of it at 0, min_ttl at TR_RISK_MAX,
 * in a straight line between them, and never less than min_ttl.  Where min_ttl
 * is below 0, or ttl or longer, nothing is shortened.  Any values are safe.
 */
extern int64_t tr_risk_ttl(int64_t ttl, int64_t min_ttl, int score);

/*
 * Is this the pattern of a name: 1 to max bytes, '*' at its end only?
 */
extern bool tr_risk_pattern_valid(const char *pattern, size_t len, size_t max);

/*
 * Does a name match the pattern?  Byte by byte; one that ends with '*' matches
 * what begins with the rest of it.
 */
extern bool tr_risk_pattern_matches(const char *pattern, size_t len, const char *name,
									size_t name_len);

#endif /* TR_RISK_CORE_H */
