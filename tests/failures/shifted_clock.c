/* LD_PRELOAD: a wall clock that is ahead by the whole seconds in the file $CLOCK_SHIFT (a binary long), which may change
   at any time, as when somebody sets the clock. The monotonic clock is left alone, as the kernel leaves it. What waits
   until a wall-clock time waits until it by the shifted clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const long *file;
static long (*next_syscall)(long, ...);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) file = mapped;
    close(fd);
}

static long shift(void) { return file ? *file : 0; }
static int wall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }
/* deadlines by the monotonic clock count from the machine's start: small numbers */
static struct timespec unshifted(const struct timespec *t) {
    struct timespec u = *t;
    if (u.tv_sec > 1000000000) u.tv_sec -= shift();
    return u;
}
static long kernel(long a, long b, long c, long d, long e, long f, long g) {
    if (!next_syscall) next_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return next_syscall(a, b, c, d, e, f, g);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    int failed = (int)kernel(SYS_clock_gettime, clock, (long)t, 0, 0, 0, 0);
    if (!failed && wall(clock)) t->tv_sec += shift();
    return failed;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    int failed = (int)kernel(SYS_gettimeofday, (long)t, (long)zone, 0, 0, 0, 0);
    if (!failed) t->tv_sec += shift();
    return failed;
}
time_t time(time_t *out) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}
int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!next) next = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlsym(RTLD_NEXT, __func__);
    struct timespec u = unshifted(t);
    return next(c, m, &u);
}
int sem_timedwait(sem_t *s, const struct timespec *t) {
    static int (*next)(sem_t *, const struct timespec *);
    if (!next) next = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, __func__);
    struct timespec u = unshifted(t);
    return next(s, &u);
}
long syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    long a[6];
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) && a[3]) {
        struct timespec u = unshifted((const struct timespec *)a[3]);
        return kernel(number, a[0], a[1], a[2], (long)&u, a[4], a[5]);
    }
    return kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
