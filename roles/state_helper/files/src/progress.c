/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "progress.h"

#include <stdio.h>
#include <time.h>

#include "json.h"

enum { INTERVAL_NS = 200000000 };

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void progress_start(struct progress *pr, int enabled, int json, const char *phase, uint64_t total)
{
    pr->enabled = enabled;
    pr->json = json;
    pr->phase = phase;
    pr->total = total;
    pr->start_ns = now_ns();
    atomic_store(&pr->done, 0);
    atomic_store(&pr->next_ns, pr->start_ns + INTERVAL_NS);
}

static void print(const struct progress *pr, uint64_t done, uint64_t now)
{
    double seconds = (double)(now - pr->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    uint64_t total = pr->total > done ? pr->total : done; /* the total is an estimate when files grow */
    double percent = pr->total && total ? 100.0 * (double)done / (double)total : 0;
    double eta = rate > 0 && pr->total ? (double)(total - done) / rate : 0;
    if (pr->json) {
        struct json j;
        json_start(&j, stdout);
        json_string(&j, "event", "progress");
        json_string(&j, "phase", pr->phase);
        json_uint(&j, "bytes_done", done);
        json_uint(&j, "bytes_total", total);
        json_double(&j, "percent", percent, 1);
        json_double(&j, "rate", rate, 0);
        json_double(&j, "eta_seconds", eta, 1);
        json_finish(&j);
    } else {
        fprintf(stderr, "\r%s %5.1f %%  %7.2f GB/s  %6.1f s left ", pr->phase, percent, rate / 1e9, eta);
        fflush(stderr);
    }
}

void progress_add(struct progress *pr, uint64_t bytes)
{
    if (!pr->enabled)
        return;
    uint64_t done = atomic_fetch_add(&pr->done, bytes) + bytes;
    uint64_t now = now_ns(), next = atomic_load(&pr->next_ns);
    /* Whoever moves the deadline prints: no two threads at once. */
    if (now >= next && atomic_compare_exchange_strong(&pr->next_ns, &next, now + INTERVAL_NS))
        print(pr, done, now);
}

void progress_end(struct progress *pr)
{
    if (!pr->enabled)
        return;
    pr->total = pr->done;
    print(pr, pr->done, now_ns());
    if (!pr->json)
        fputc('\n', stderr);
}
