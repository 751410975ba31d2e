/*
 * Preloaded into the user-mode Linux of Debian (linux.uml); docs/rig.md says what the rig is.
 *
 * It does two things:
 *
 * - It makes the kernel start on processors with AMX. User-mode Linux 6.1 restores the registers of a guest
 *   process from a buffer of 2696 bytes, less than such a processor has, and the host refuses (EFAULT). The
 *   missing rest is taken from what the process holds at that moment.
 *
 * - It gives the guest a clock of its own when RIG_SPEED is a number above 0 and up to 1. A guest that
 *   has nothing to do is taken to the time of its next timer at once. A busy guest ages RIG_SPEED
 *   seconds in a real one, so at 0.1 its processor is ten times as fast as the real one.
 *
 * One thread of user-mode Linux calls all of this, and it has one timer.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <time.h>

#define SECOND INT64_C(1000000000)
#define MILLION 1000000
/* elf.h has it too, but not under this name everywhere. */
#define XSTATE 0x202

static struct {
	long (*ptrace)(int, pid_t, void *, void *);
	int (*clock_gettime)(clockid_t, struct timespec *);
	int (*timer_settime)(timer_t, int, const struct itimerspec *, struct itimerspec *);
	int (*timer_gettime)(timer_t, struct itimerspec *);
	int (*sigsuspend)(const sigset_t *);
} libc;

/* All times are nanoseconds; "guest" ones are of the guest's own clock. */
static struct {
	bool on;
	int64_t millionths;     /* speed of a busy guest */
	int64_t guest_then;     /* the guest's time ... */
	int64_t host_then;      /* ... when the host's was this */
	int64_t wall_at_zero;
} own;

static struct {
	timer_t id;
	int64_t due;            /* guest; 0 when it is not running */
	int64_t every;          /* guest; 0 when it fires once */
} alarm_clock;

static int64_t nanoseconds(struct timespec t)
{
	return t.tv_sec * SECOND + t.tv_nsec;
}

static struct timespec timespec(int64_t t)
{
	return (struct timespec){ .tv_sec = t / SECOND, .tv_nsec = t % SECOND };
}

static int64_t host_now(clockid_t clock)
{
	struct timespec t;

	libc.clock_gettime(clock, &t);
	return nanoseconds(t);
}

static int64_t guest_now(void)
{
	int64_t passed = host_now(CLOCK_MONOTONIC) - own.host_then;

	return own.guest_then + passed * own.millionths / MILLION;
}

static void guest_is_now(int64_t guest)
{
	own.guest_then = guest;
	own.host_then = host_now(CLOCK_MONOTONIC);
}

__attribute__((constructor)) static void start(void)
{
	const char *speed = getenv("RIG_SPEED");

	libc.ptrace = dlsym(RTLD_NEXT, "ptrace");
	libc.clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	libc.timer_settime = dlsym(RTLD_NEXT, "timer_settime");
	libc.timer_gettime = dlsym(RTLD_NEXT, "timer_gettime");
	libc.sigsuspend = dlsym(RTLD_NEXT, "sigsuspend");
	own.millionths = speed ? (int64_t)(atof(speed) * MILLION) : 0;
	own.on = own.millionths > 0 && own.millionths <= MILLION;
	own.wall_at_zero = host_now(CLOCK_REALTIME);
	guest_is_now(0);
}

/* How long the host has to wait for so much guest time; a timer of 0 would never fire. */
static int64_t host_duration(int64_t guest)
{
	int64_t host = guest * MILLION / own.millionths;

	if (guest <= 0)
		return 0;
	return host > 0 ? host : 1;
}

/* Sets the host's timer, which interrupts a busy guest. An idle one never waits for it. */
static void set_host_timer(int64_t guest_wait)
{
	struct itimerspec set = {
		.it_value = timespec(host_duration(guest_wait)),
		.it_interval = timespec(host_duration(alarm_clock.every)),
	};

	libc.timer_settime(alarm_clock.id, 0, &set, NULL);
}

/* Moves on to the next time the alarm is due; returns whether it was due. */
static bool alarm_was_due(int64_t guest)
{
	int64_t missed;

	if (!alarm_clock.due || guest < alarm_clock.due)
		return false;
	if (alarm_clock.every) {
		missed = (guest - alarm_clock.due) / alarm_clock.every;
		alarm_clock.due += (missed + 1) * alarm_clock.every;
	} else {
		alarm_clock.due = 0;
	}
	return true;
}

static void ring(int64_t guest)
{
	set_host_timer(alarm_clock.due ? alarm_clock.due - guest : 0);
	raise(SIGALRM);
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	if (own.on && clock == CLOCK_MONOTONIC)
		/* Zero means "not set" to some programs. */
		*t = timespec(guest_now() + SECOND);
	else if (own.on && clock == CLOCK_REALTIME)
		*t = timespec(guest_now() + own.wall_at_zero);
	else
		return libc.clock_gettime(clock, t);
	return 0;
}

int timer_settime(timer_t id, int flags, const struct itimerspec *set, struct itimerspec *old)
{
	int64_t wait;

	if (!own.on)
		return libc.timer_settime(id, flags, set, old);
	wait = nanoseconds(set->it_value);
	alarm_clock.id = id;
	alarm_clock.every = nanoseconds(set->it_interval);
	alarm_clock.due = wait ? guest_now() + wait : 0;
	set_host_timer(wait);
	return 0;
}

int timer_gettime(timer_t id, struct itimerspec *left)
{
	int64_t guest = guest_now(), wait;

	if (!own.on)
		return libc.timer_gettime(id, left);
	if (alarm_was_due(guest))
		ring(guest);
	wait = alarm_clock.due ? alarm_clock.due - guest : 0;
	*left = (struct itimerspec){
		.it_value = timespec(wait > 0 ? wait : 0),
		.it_interval = timespec(alarm_clock.every),
	};
	return 0;
}

/* The only place where user-mode Linux sleeps, with SIGALRM blocked. */
int sigsuspend(const sigset_t *mask)
{
	int64_t guest;

	if (own.on && alarm_clock.due) {
		guest = guest_now();
		if (guest < alarm_clock.due)
			guest = alarm_clock.due;
		guest_is_now(guest);
		alarm_was_due(guest);
		/* The signal stays pending until the mask lets it through. */
		ring(guest);
	}
	return libc.sigsuspend(mask);
}

long ptrace(enum __ptrace_request request, ...)
{
	static unsigned char whole[1 << 16] __attribute__((aligned(64)));
	struct iovec *given, current = { whole, sizeof(whole) };
	va_list arguments;
	void *address, *data;
	pid_t pid;

	va_start(arguments, request);
	pid = va_arg(arguments, pid_t);
	address = va_arg(arguments, void *);
	data = va_arg(arguments, void *);
	va_end(arguments);
	if (request != PTRACE_SETREGSET || (uintptr_t)address != XSTATE)
		return libc.ptrace(request, pid, address, data);
	given = data;
	if (libc.ptrace(PTRACE_GETREGSET, pid, address, &current) < 0)
		return -1;
	if (given->iov_len >= current.iov_len)
		return libc.ptrace(request, pid, address, data);
	memcpy(whole, given->iov_base, given->iov_len);
	return libc.ptrace(request, pid, address, &current);
}
