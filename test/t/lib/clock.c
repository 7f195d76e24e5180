/*
 * clock.c
 *	  A wall clock that a test moves: preloaded into a program, by Clock.pm.
 *
 * The file that TR_CLOCK names holds one number: microseconds, times 2, plus 1
 * where the clock stands still at that moment; else they are added to the true
 * time.  It is mapped, so every process sees a change at once.  The monotonic
 * clock, by which waits and timeouts go, is left alone.
 *
 * libfaketime would do, but for background workers: a server up to 15 forks them
 * in a signal handler, within a call that libfaketime wraps, and from there on
 * their clock is the true one.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000)

static const volatile int64_t *number;

/*
 * Map the file.
 */
__attribute__((constructor)) static void
begin(void)
{
	const char *path = getenv("TR_CLOCK");
	int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);

	if (map != MAP_FAILED)
		number = map;
	if (fd >= 0)
		close(fd);
}

/*
 * Microseconds since 1970 by this clock.
 */
static int64_t
now(void)
{
	struct timespec true_time;
	int64_t value = number == NULL ? 0 : *number;

	if (value & 1)
		return value >> 1;
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &true_time);
	return true_time.tv_sec * SECOND + true_time.tv_nsec / 1000 + (value >> 1);
}

int
gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	int64_t us = now();

	time->tv_sec = us / SECOND;
	time->tv_usec = us % SECOND;
	return 0;
}

time_t
time(time_t *result)
{
	time_t seconds = now() / SECOND;

	if (result != NULL)
		*result = seconds;
	return seconds;
}

int
clock_gettime(clockid_t clock, struct timespec *time)
{
	int64_t us;

	if (clock != CLOCK_REALTIME)
		return (int) syscall(SYS_clock_gettime, clock, time);
	us = now();
	time->tv_sec = us / SECOND;
	time->tv_nsec = us % SECOND * 1000;
	return 0;
}
