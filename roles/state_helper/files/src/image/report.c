/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/device.h"
#include "base/json.h"
#include "base/mark_names.h"
#include "image/header.h"

void report_init(struct report *r, const char *verb)
{
    memset(r, 0, sizeof *r);
    r->verb = verb;
    pthread_mutex_init(&r->lock, NULL);
}

void report_drop_items(struct report *r)
{
    for (int i = 0; i < r->item_count; i++)
        free(r->items[i].path);
    free(r->items);
    r->items = NULL;
    r->item_count = 0;
}

void report_free(struct report *r)
{
    report_drop_items(r);
    for (uint64_t i = 0; i < r->left_out_count && i < MAX_LEFT_OUT; i++)
        free(r->left_out[i].path);
    pthread_mutex_destroy(&r->lock);
}

void item_mark(struct report *r, struct item *it, enum item_status status, int err, const char *fmt, ...)
{
    va_list ap;
    if (status == ITEM_CHANGED && r->live)
        return;
    pthread_mutex_lock(&r->lock);
    if (item_fine(it)) {
        va_start(ap, fmt);
        vsnprintf(it->error, sizeof it->error, fmt, ap);
        va_end(ap);
        it->err = err;
        atomic_store(&it->status, status);
    }
    pthread_mutex_unlock(&r->lock);
}

int item_fine(const struct item *it)
{
    int s = atomic_load(&it->status);
    return s != ITEM_DAMAGED && s != ITEM_CHANGED && s != ITEM_FAILED && s != ITEM_SKIPPED;
}

const char *item_status_name(int status)
{
    static const char *const names[] = {"", "saved", "restored", "ok", "damaged", "changed", "failed", "skipped"};
    return names[status];
}

void report_left_out(struct report *r, const char *path, const char *reason)
{
    pthread_mutex_lock(&r->lock);
    if (r->left_out_count < MAX_LEFT_OUT) {
        struct left_out *one = &r->left_out[r->left_out_count];
        one->path = strdup(path);
        one->reason = reason;
        if (one->path)
            r->left_out_count++;
    } else {
        r->left_out_count++;
    }
    pthread_mutex_unlock(&r->lock);
}

void report_problem(struct report *r, const struct problem *p)
{
    pthread_mutex_lock(&r->lock);
    if (!r->problem.code)
        r->problem = *p;
    pthread_mutex_unlock(&r->lock);
}

static const char *status_word(int code)
{
    static const char *const words[] = {"done", "usage", "failed", "no_image", "damaged", "refused", "partial"};
    return words[code];
}

static void json_image(struct json *j, const struct report *r)
{
    const struct header *h = r->image;
    char id[33];
    json_object(j, "image");
    json_string(j, "state", r->image_state);
    if (r->content)
        json_string(j, "content", r->content);
    if (h) {
        json_uint(j, "version", h->version);
        json_uint(j, "sequence", h->sequence);
        json_string(j, "machine_id", hex_id(id, h->machine_id));
        json_string(j, "boot_id", hex_uuid((char[37]){0}, h->boot_id));
        json_string(j, "kernel", h->kernel);
        json_string(j, "consumed_boot_id", header_any_consumed(h) ? hex_uuid((char[37]){0}, h->consumed_boot_id) : NULL);
        json_int(j, "saved_unix_ns", h->saved_unix_ns);
        json_uint(j, "bytes", h->bytes);
        json_uint(j, "stored_bytes", h->stored_bytes);
        json_uint(j, "device_bytes", h->device_bytes);
        json_uint(j, "cycles_per_second", h->cycles_per_second);
        json_object(j, "marks");
        for (uint32_t i = 0; i < h->mark_count && i < MAX_MARKS; i++)
            if (mark_name(h->marks[i].id))
                json_uint(j, mark_name(h->marks[i].id), h->marks[i].cycles);
        json_end(j);
        json_array(j, "items");
        for (int i = 0; i < r->item_count && (uint32_t)i < h->item_count; i++)
            json_string(j, NULL, r->items[i].name);
        json_end(j);
    }
    json_end(j);
}

static void json_items(struct json *j, const struct report *r)
{
    json_array(j, "items");
    for (int i = 0; i < r->item_count; i++) {
        const struct item *it = &r->items[i];
        json_object(j, NULL);
        json_string(j, "name", it->name);
        json_string(j, "path", it->path);
        if (it->status != ITEM_PENDING)
            json_string(j, "status", item_status_name(it->status));
        json_uint(j, "bytes", it->bytes);
        json_uint(j, "files", it->files);
        json_string(j, "error", it->error[0] ? it->error : NULL);
        if (it->err)
            json_string(j, "errno", errno_name(it->err));
        json_end(j);
    }
    json_end(j);
}

static void print_json(const struct report *r, int code)
{
    struct json j;
    const struct problem *p = &r->problem;
    json_start(&j, stdout);
    json_string(&j, "event", "result");
    json_string(&j, "verb", r->verb);
    json_int(&j, "exit", code);
    json_string(&j, "status", status_word(code));
    if (p->code) {
        json_object(&j, "error");
        json_string(&j, "what", p->what);
        json_string(&j, "said", p->said);
        json_string(&j, "todo", p->todo);
        json_string(&j, "errno", p->err ? errno_name(p->err) : NULL);
        json_end(&j);
    } else {
        json_string(&j, "error", NULL);
    }
    json_string(&j, "refused", p->refused);
    if (r->device) {
        json_string(&j, "device", r->device->path);
        json_string(&j, "device_kind", device_kind_name(r->device->kind));
        json_uint(&j, "device_bytes", r->device->bytes);
    }
    if (r->image_state)
        json_image(&j, r);
    if (r->clock.cycles) {
        json_object(&j, "clock");
        json_uint(&j, "cycles", r->clock.cycles);
        json_int(&j, "boottime_ns", r->clock.boottime_ns);
        json_uint(&j, "cycles_per_second", r->clock.cycles_per_second);
        json_string(&j, "source", r->clock.source);
        json_end(&j);
    }
    json_uint(&j, "bytes", r->bytes);
    json_uint(&j, "stored_bytes", r->stored_bytes);
    json_uint(&j, "chunks", r->chunks);
    json_uint(&j, "zero_chunks", r->zero_chunks);
    json_double(&j, "seconds", r->seconds, 6);
    json_double(&j, "rate", r->seconds > 0 ? (double)r->bytes / r->seconds : 0, 0);
    if (r->threads)
        json_int(&j, "threads", r->threads);
    if (r->has_needed)
        json_uint(&j, "needed_bytes", r->needed_bytes);
    if (r->has_huge) {
        json_uint(&j, "huge_bytes", r->huge_bytes);
        json_string(&j, "stopped", r->stopped);
    }
    if (r->capacity_bytes)
        json_uint(&j, "capacity_bytes", r->capacity_bytes);
    json_items(&j, r);
    json_array(&j, "left_out");
    for (uint64_t i = 0; i < r->left_out_count && i < MAX_LEFT_OUT; i++) {
        json_object(&j, NULL);
        json_string(&j, "path", r->left_out[i].path);
        json_string(&j, "reason", r->left_out[i].reason);
        json_end(&j);
    }
    json_end(&j);
    json_uint(&j, "left_out_count", r->left_out_count);
    json_finish(&j);
}

static void print_people(const struct report *r, int code)
{
    const struct header *h = r->image;
    if (r->image_state && strcmp(r->verb, "save") != 0) {
        printf("image: %s", r->image_state);
        if (h)
            printf(", saved in boot %s on kernel %s, %" PRIu64 " bytes", hex_uuid((char[37]){0}, h->boot_id), h->kernel,
                   h->bytes);
        printf("\n");
    }
    for (int i = 0; i < r->item_count; i++) {
        const struct item *it = &r->items[i];
        printf("%-20s %-9s %14" PRIu64 " bytes %9" PRIu64 " files  %s\n", it->name, item_status_name(it->status),
               (uint64_t)it->bytes, it->files, it->path);
        if (it->error[0])
            fprintf(stderr, "pmem-state: item %s %s: %s\n", it->name, item_status_name(it->status), it->error);
    }
    for (uint64_t i = 0; i < r->left_out_count && i < MAX_LEFT_OUT; i++)
        fprintf(stderr, "pmem-state: left out (%s): %s\n", r->left_out[i].reason, r->left_out[i].path);
    if (r->left_out_count > MAX_LEFT_OUT)
        fprintf(stderr, "pmem-state: and %" PRIu64 " more left out\n", r->left_out_count - MAX_LEFT_OUT);
    if (r->has_needed)
        printf("needed %" PRIu64 " bytes, capacity %" PRIu64 " bytes: %s\n", r->needed_bytes, r->capacity_bytes,
               r->needed_bytes <= r->capacity_bytes ? "fits" : "does not fit");
    if (r->has_huge)
        printf("prepare: %" PRIu64 " of %" PRIu64 " bytes are in huge pages, %.3f s%s%s\n", r->huge_bytes, (uint64_t)r->bytes, r->seconds,
               r->stopped ? ", stopped for lack of " : "", r->stopped ? r->stopped : "");
    else if (r->seconds > 0 && r->bytes)
        printf("%s: %" PRIu64 " bytes in %.3f s, %.2f GB/s, %" PRIu64 " stored, %d threads\n", r->verb, (uint64_t)r->bytes,
               r->seconds, (double)r->bytes / r->seconds / 1e9, (uint64_t)r->stored_bytes, r->threads);
    if (code == EXIT_DONE && strcmp(r->verb, "cycles") == 0)
        printf("%" PRIu64 " cycles at %" PRId64 " ns, %" PRIu64 " a second (%s)\n", r->clock.cycles, r->clock.boottime_ns,
               r->clock.cycles_per_second, r->clock.source);
    if (code == EXIT_DONE && strcmp(r->verb, "invalidate") == 0)
        printf("%s no longer holds an image\n", r->device->path);
}

void report_print(const struct report *r, int code, int json)
{
    const struct problem *p = &r->problem;
    if (json)
        print_json(r, code);
    else
        print_people(r, code);
    if (p->code) {
        fprintf(stderr, "pmem-state: %s", p->what);
        if (p->said[0])
            fprintf(stderr, ": %s", p->said);
        fprintf(stderr, ".%s%s\n", p->todo[0] ? " " : "", p->todo);
    }
}
