/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a run found and did: shared by all threads, printed once at the end. */
#ifndef REPORT_H
#define REPORT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/problem.h"
#include "base/status.h"

struct header;
struct device;

enum item_status { ITEM_PENDING, ITEM_SAVED, ITEM_RESTORED, ITEM_OK, ITEM_DAMAGED, ITEM_CHANGED, ITEM_FAILED, ITEM_SKIPPED };

struct item {
    char name[MAX_ITEM_NAME + 1];
    char *path;              /* absolute, normal form; owned */
    _Atomic int status;      /* enum item_status */
    int err;                 /* errno behind `error`; 0: not from a system call */
    char error[768];         /* the reason for the status; empty: no error */
    _Atomic uint64_t bytes;  /* sum of the sizes of its files (logical) */
    uint64_t files;          /* entries of every type */
    /* its place in the table of the image */
    uint32_t kind;           /* enum record_type of its root */
    uint64_t meta_bytes, data_bytes;
    uint64_t meta_first, data_first; /* index of its first chunk entry */
};

struct left_out {
    char *path;
    const char *reason; /* static string */
};

enum { MAX_LEFT_OUT = 1000 }; /* kept by name; more are only counted */

struct report {
    const char *verb;
    pthread_mutex_t lock; /* guards problem, item errors, left_out */
    struct problem problem;
    const struct header *image; /* NULL: no valid image */
    const char *image_state;    /* "none", "valid", "consumed", "damaged"; NULL: not looked at */
    const char *content;        /* image_state "none": header_content(), NULL: not looked at */
    struct device *device;
    struct item *items;
    int item_count;
    struct left_out left_out[MAX_LEFT_OUT];
    uint64_t left_out_count;
    _Atomic uint64_t bytes;        /* logical bytes done */
    _Atomic uint64_t stored_bytes; /* bytes written to or read from the payload */
    _Atomic uint64_t chunks, zero_chunks;
    uint64_t needed_bytes, capacity_bytes;
    int has_needed;
    uint64_t huge_bytes; /* prepare: how many of `bytes` lie in huge pages now */
    int has_huge;
    const char *stopped; /* why prepare ended early: "time", "memory"; NULL: it did not */
    int live; /* plan: programs still write to the items, so a change is not an error */
    double seconds;
    struct clock_reading clock; /* at the end of save, restore and cycles */
    int threads;
};

void report_init(struct report *r, const char *verb);
void report_free(struct report *r);

/* Frees the list of items. */
void report_drop_items(struct report *r);

/* Gives an item an error status, unless it has one already, or it only changed and may. Any thread
 * may call it. */
void item_mark(struct report *r, struct item *it, enum item_status status, int err, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
int item_fine(const struct item *it); /* the item does not have an error status */
const char *item_status_name(int status);

void report_left_out(struct report *r, const char *path, const char *reason);

/* Copies a problem found by a worker into the report (the first one stays). */
void report_problem(struct report *r, const struct problem *p);

/* Prints the result: JSON on standard output, or a summary for people; errors always to standard
 * error. */
void report_print(const struct report *r, int code, int json);

#endif
