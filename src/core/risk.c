/*
 * risk.c
 *	  How much shorter risk makes a life: see risk.h.
 */
#include "core/risk.h"

#include <string.h>

int
tr_risk_add(int score, int more)
{
	return more >= TR_RISK_MAX - score ? TR_RISK_MAX : score + more;
}

int64_t
tr_risk_ttl(int64_t ttl, int64_t min_ttl, int score)
{
	int64_t span;

	if (min_ttl < 0 || min_ttl >= ttl || score <= 0)
		return ttl;
	if (score >= TR_RISK_MAX)
		return min_ttl;
	span = ttl - min_ttl;
	/* hundreds and the rest apart, so that no product overflows */
	return ttl - (span / TR_RISK_MAX * score + span % TR_RISK_MAX * score / TR_RISK_MAX);
}

bool
tr_risk_pattern_valid(const char *pattern, size_t len, size_t max)
{
	const char *star = len > 0 ? memchr(pattern, '*', len) : NULL;

	return len >= 1 && len <= max && (star == NULL || star == pattern + len - 1);
}

bool
tr_risk_pattern_matches(const char *pattern, size_t len, const char *name, size_t name_len)
{
	bool prefix = len > 0 && pattern[len - 1] == '*';
	size_t needed = prefix ? len - 1 : len;

	if (prefix ? name_len < needed : name_len != needed)
		return false;
	return needed == 0 || memcmp(pattern, name, needed) == 0;
}
