/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/progress.h"

#include <stdio.h>

#include "base/json.h"

void progress_start(struct progress *pr, int enabled, int json, const char *phase, uint64_t total)
{
    pr->enabled = enabled;
    pr->json = json;
    pr->phase = phase;
    atomic_store(&pr->total, total);
    pr->start_ns = now_ns();
    atomic_store(&pr->done, 0);
    atomic_store(&pr->next_ns, pr->start_ns + PROGRESS_NS);
}

void progress_total(struct progress *pr, uint64_t total) { atomic_store(&pr->total, total); }

static void print(const struct progress *pr, uint64_t done, uint64_t now)
{
    double seconds = (double)(now - pr->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    uint64_t known = atomic_load(&pr->total), total = known > done ? known : done; /* the total is an estimate, and files may grow */
    double percent = known && total ? 100.0 * (double)done / (double)total : 0;
    double eta = rate > 0 && known ? (double)(total - done) / rate : 0;
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
    } else if (!known) {
        fprintf(stderr, "\r%s     - %%  %7.2f GB/s       - s left ", pr->phase, rate / 1e9);
        fflush(stderr);
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
    /* The thread that moves the deadline prints, so that two threads never print at once. */
    if (now >= next && atomic_compare_exchange_strong(&pr->next_ns, &next, now + PROGRESS_NS))
        print(pr, done, now);
}

void progress_end(struct progress *pr)
{
    if (!pr->enabled)
        return;
    progress_total(pr, atomic_load(&pr->done));
    print(pr, pr->done, now_ns());
    if (!pr->json)
        fputc('\n', stderr);
}
