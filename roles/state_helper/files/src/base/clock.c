/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/clock.h"

#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined __x86_64__
#include <x86intrin.h>
#endif

uint64_t clock_cycles(void)
{
#if defined __x86_64__
    unsigned cpu;
    return __rdtscp(&cpu); /* RDTSCP waits for the instructions before it */
#elif defined __aarch64__
    uint64_t v;
    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(v)::"memory");
    return v;
#else
    return 0;
#endif
}

static int64_t boottime_ns(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_BOOTTIME, &t) != 0)
        return 0;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Reads the clock several times, between two readings of the counter, and takes the try in which
 * these two were closest. */
static void read_pair(uint64_t *cycles, int64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 8; i++) {
        uint64_t before = clock_cycles();
        int64_t now = boottime_ns();
        uint64_t after = clock_cycles();
        if (after - before < best) {
            best = after - before;
            *cycles = before + (after - before) / 2;
            *ns = now;
        }
    }
}

#if defined __aarch64__
static uint64_t told(const char **source)
{
    uint64_t v;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(v));
    *source = "cntfrq";
    return v;
}
#else
/* The ratio with which the kernel itself converts the counter to nanoseconds (perf_event_open(2),
 * cap_user_time). */
static uint64_t told(const char **source)
{
    struct perf_event_attr a;
    uint64_t rate = 0;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.type = PERF_TYPE_SOFTWARE;
    a.config = PERF_COUNT_SW_DUMMY;
    a.exclude_kernel = 1;
    int fd = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return 0;
    struct perf_event_mmap_page *page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) {
        if (page->cap_user_time && page->time_mult && page->time_shift < 64)
            rate = (uint64_t)(((unsigned __int128)1000000000 << page->time_shift) / page->time_mult);
        munmap(page, (size_t)sysconf(_SC_PAGESIZE));
    }
    close(fd);
    *source = "perf";
    return rate;
}
#endif

void clock_read(struct clock_reading *c, int measure)
{
    memset(c, 0, sizeof *c);
    read_pair(&c->cycles, &c->boottime_ns);
    if (!c->cycles)
        return;
    c->cycles_per_second = told(&c->source);
    if (!c->cycles_per_second && measure) {
        struct timespec pause = {0, 50000000};
        uint64_t cycles = 0;
        int64_t ns = 0;
        nanosleep(&pause, NULL);
        read_pair(&cycles, &ns);
        if (ns > c->boottime_ns && cycles > c->cycles)
            c->cycles_per_second = (uint64_t)((unsigned __int128)(cycles - c->cycles) * 1000000000 / (uint64_t)(ns - c->boottime_ns));
        c->source = "measured";
    }
    if (!c->cycles_per_second)
        c->source = NULL;
}
