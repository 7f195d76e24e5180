/*
 * check.h
 *	  Checks for unit tests, reported as TAP.
 *
 * A case is a function with any number of checks; it is one line of TAP, "ok"
 * when every check held and there was at least one.  The first failed checks
 * of a case are explained in lines that start with '#'.
 */
#ifndef TR_CHECK_H
#define TR_CHECK_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Failed checks of one case that are explained; the others are counted. */
#define CHECK_EXPLAINED 5

static struct
{
	int cases;
	int failed_cases;
	long checks; /* in all cases */
	long case_checks;
	long case_failures;
} check_state;

/*
 * Count one check; explain it if it failed.
 */
__attribute__((format(printf, 4, 5))) static inline void
check_that(bool held, const char *file, int line, const char *format, ...)
{
	va_list args;

	check_state.case_checks++;
	if (held)
		return;
	if (++check_state.case_failures > CHECK_EXPLAINED)
		return;
	printf("# %s:%d: ", file, line);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

/* Check something; the condition itself is the explanation. */
#define CHECK(held) check_that((held), __FILE__, __LINE__, "%s", #held)

/* Check something and say more: for checks in loops. */
#define CHECK_FOR(held, ...) check_that((held), __FILE__, __LINE__, #held ": " __VA_ARGS__)

/* Run the case that is this function. */
#define RUN(function) check_run(function, #function)

/*
 * Run one case and report it.
 */
static inline void
check_run(void (*function)(void), const char *name)
{
	bool passed;

	check_state.case_checks = check_state.case_failures = 0;
	function();
	passed = check_state.case_failures == 0 && check_state.case_checks > 0;
	if (!passed)
	{
		printf("# %ld of %ld checks failed\n", check_state.case_failures, check_state.case_checks);
		check_state.failed_cases++;
	}
	check_state.checks += check_state.case_checks;
	check_state.cases++;
	printf("%sok %d - %s (%ld checks)\n", passed ? "" : "not ", check_state.cases, name,
		   check_state.case_checks);
	fflush(stdout);
}

/*
 * End the report; returns the exit status.
 */
static inline int
check_done(void)
{
	printf("1..%d\n# %ld checks\n", check_state.cases, check_state.checks);
	return check_state.failed_cases == 0 ? 0 : 1;
}

/*
 * A generator of numbers that are the same in each run (splitmix64).
 */
static inline uint64_t
check_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/*
 * Fill memory with such numbers.
 */
static inline void
check_random_bytes(uint64_t *state, void *memory, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		((uint8_t *) memory)[i] = (uint8_t) check_random(state);
}

/*
 * A copy in memory of exactly its length, so that valgrind and the address
 * sanitizer see whoever reads past its end.
 */
static inline char *
check_copy(const char *bytes, size_t len)
{
	char *copy = malloc(len);

	if (copy == NULL && len > 0)
		abort();
	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}

/*
 * Read bytes from hexadecimal digits; aborts on anything else.
 */
static inline void
check_unhex(const char *hex, void *out, size_t len)
{
	size_t i;

	if (strlen(hex) != 2 * len)
		abort();
	for (i = 0; i < len; i++)
	{
		unsigned byte;

		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			abort();
		((uint8_t *) out)[i] = (uint8_t) byte;
	}
}

#endif /* TR_CHECK_H */
