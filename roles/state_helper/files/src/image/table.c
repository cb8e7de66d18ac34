/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/le.h"
#include "base/paths.h"
#include "image/record.h"

enum { PART = 4096 };
enum { STORED_CHANGED = 1, STORED_FAILED = 2 }; /* item flags: not to be restored */

int chunk_list_append(struct chunk_list *l)
{
    if (l->count == MAX_CHUNKS)
        return ENOSPC;
    if (l->count % PART == 0 && !(l->part[l->count / PART] = calloc(PART, sizeof(struct chunk))))
        return ENOMEM;
    l->count++;
    return 0;
}

struct chunk *chunk_list_at(struct chunk_list *l, uint64_t i) { return &l->part[i / PART][i % PART]; }

void chunk_list_free(struct chunk_list *l)
{
    for (uint64_t i = 0; i < l->count; i += PART)
        free(l->part[i / PART]);
    l->count = 0;
}

uint64_t chunk_length(uint64_t total, uint64_t index, uint32_t chunk_bytes)
{
    uint64_t rest = total - index * chunk_bytes;
    return rest >= chunk_bytes ? chunk_bytes : round_up(rest, BLOCK);
}

uint64_t chunk_count(uint64_t total, uint32_t chunk_bytes) { return total / chunk_bytes + (total % chunk_bytes != 0); }

uint32_t chunk_bytes_for(uint64_t device_bytes)
{
    uint32_t c = MIN_CHUNK;
    while (c < MAX_CHUNK && device_bytes / c >= MAX_CHUNKS / 2)
        c *= 2;
    return c;
}

void table_free(struct table *t)
{
    free(t->raw);
    t->raw = NULL;
}

static uint64_t item_entry_size(const struct item *it)
{
    return round_up(ITEM_ENTRY + strlen(it->name) + strlen(it->path), 8);
}

uint64_t table_size(const struct report *r, uint64_t chunks)
{
    uint64_t n = chunks * CHUNK_ENTRY;
    for (int i = 0; i < r->item_count; i++)
        n += item_entry_size(&r->items[i]);
    return round_up(n, BLOCK);
}

/* Item entry: u32 length, u16 name bytes, u16 path bytes, u32 kind, u32 flags, u64 meta bytes, u64
 * data bytes, u64 first meta chunk, u64 first data chunk, u64 bytes, u64 files, name, path, zeros
 * to a multiple of 8. */
static uint8_t *put_item(uint8_t *at, const struct item *it)
{
    size_t name = strlen(it->name), path = strlen(it->path);
    int status = atomic_load(&it->status);
    put32(at, (uint32_t)item_entry_size(it));
    put16(at + 4, (uint16_t)name);
    put16(at + 6, (uint16_t)path);
    put32(at + 8, it->kind);
    put32(at + 12, status == ITEM_CHANGED ? STORED_CHANGED : status == ITEM_FAILED ? STORED_FAILED : 0);
    put64(at + 16, it->meta_bytes);
    put64(at + 24, it->data_bytes);
    put64(at + 32, it->meta_first);
    put64(at + 40, it->data_first);
    put64(at + 48, it->bytes);
    put64(at + 56, it->files);
    memcpy(at + ITEM_ENTRY, it->name, name);
    memcpy(at + ITEM_ENTRY + name, it->path, path);
    return at + item_entry_size(it);
}

int table_build(struct table *t, const struct report *r, struct chunk_list *meta, struct chunk_list *data)
{
    memset(t, 0, sizeof *t);
    t->bytes = table_size(r, meta->count + data->count);
    if (posix_memalign((void **)&t->raw, BLOCK, t->bytes) != 0)
        return ENOMEM;
    memset(t->raw, 0, t->bytes);
    uint8_t *at = t->raw;
    for (int i = 0; i < r->item_count; i++)
        at = put_item(at, &r->items[i]);
    for (uint64_t i = 0; i < meta->count + data->count; i++, at += CHUNK_ENTRY) {
        const struct chunk *c = i < meta->count ? chunk_list_at(meta, i) : chunk_list_at(data, i - meta->count);
        put64(at, c->offset);
        put64(at + 8, c->sum);
    }
    return 0;
}

/* Reads one item entry. Returns NULL, or what is wrong. In both chunk lists, the items follow one
 * another. */
static const char *get_item(const uint8_t **at, const uint8_t *end, struct report *r, struct item *it, uint64_t *meta_next,
                            uint64_t *data_next, uint32_t chunk_bytes)
{
    const uint8_t *e = *at;
    uint64_t left = (uint64_t)(end - e);
    if (left < ITEM_ENTRY)
        return "an item entry runs past the end of the table";
    uint32_t length = get32(e), name = get16(e + 4), path = get16(e + 6), flags = get32(e + 12);
    if (name == 0 || name > MAX_ITEM_NAME || path == 0 || path > MAX_PATH || length > left ||
        length != round_up(ITEM_ENTRY + name + path, 8))
        return "the lengths of an item entry are out of bounds";
    memcpy(it->name, e + ITEM_ENTRY, name);
    it->path = strndup((const char *)e + ITEM_ENTRY + name, path);
    if (!it->path)
        return "out of memory";
    if (!item_name_ok(it->name) || strlen(it->name) != name)
        return "the table contains an invalid item name";
    if (strlen(it->path) != path || !item_path_ok(it->path))
        return "the table contains an invalid item path";
    for (const struct item *other = r->items; other < it; other++)
        if (strcmp(other->name, it->name) == 0)
            return "two items have the same name";
    it->kind = get32(e + 8);
    it->meta_bytes = get64(e + 16);
    it->data_bytes = get64(e + 24);
    it->meta_first = get64(e + 32);
    it->data_first = get64(e + 40);
    it->bytes = get64(e + 48);
    it->files = get64(e + 56);
    if (it->meta_first != *meta_next || it->data_first != *data_next)
        return "the chunks of an item do not follow those of the item before";
    *meta_next += chunk_count(it->meta_bytes, chunk_bytes);
    *data_next += chunk_count(it->data_bytes, chunk_bytes);
    if (it->meta_bytes > (uint64_t)MAX_CHUNKS * chunk_bytes || it->data_bytes > (uint64_t)MAX_CHUNKS * chunk_bytes)
        return "an item is larger than an image can be";
    if (flags & (STORED_CHANGED | STORED_FAILED))
        item_mark(r, it, flags & STORED_CHANGED ? ITEM_CHANGED : ITEM_FAILED, 0,
                  "it was not saved completely (%s), so it can't be restored",
                  flags & STORED_CHANGED ? "its files changed while they were copied" : "it could not be read");
    else if (it->meta_bytes == 0 || (it->kind != RECORD_FILE && it->kind != RECORD_DIR))
        return "an item holds neither a file nor a directory";
    *at = e + length;
    return NULL;
}

static const char *parse(const struct header *h, struct table *t, struct report *r)
{
    const uint8_t *at = t->raw, *end = t->raw + t->bytes;
    uint64_t meta_next = 0, data_next = 0;
    for (uint32_t i = 0; i < h->item_count; i++) {
        r->item_count = (int)i + 1;
        const char *bad = get_item(&at, end, r, &r->items[i], &meta_next, &data_next, h->chunk_bytes);
        if (bad)
            return bad;
    }
    if (meta_next != h->meta_chunks || data_next != h->data_chunks)
        return "the number of chunks in the table differs from the number in the header";
    if ((uint64_t)(end - at) < (h->meta_chunks + h->data_chunks) * CHUNK_ENTRY)
        return "the chunk entries run past the end of the table";
    t->chunks = at;
    t->meta_chunks = h->meta_chunks;
    t->data_chunks = h->data_chunks;
    t->end = h->table_offset;
    return NULL;
}

int table_load(struct device *d, const struct header *h, struct table *t, struct report *r, struct problem *p)
{
    const char *bad = NULL;
    memset(t, 0, sizeof *t);
    t->bytes = h->table_bytes;
    r->items = calloc(h->item_count + MAX_ITEMS, sizeof *r->items); /* and items that the image lacks */
    if (!r->items || posix_memalign((void **)&t->raw, BLOCK, t->bytes) != 0)
        return problem_set(p, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the table of the image on %s", d->path);
    int err = device_read(d, t->raw, t->bytes, h->table_offset);
    if (err)
        return problem_set(p, EXIT_SYSTEM, err, NULL, "Check the kernel log (dmesg) for errors of this device.",
                           "Reading the table of the image on %s", d->path);
    bad = hash64(t->raw, t->bytes) != h->table_sum ? "the checksum of its table is wrong" : parse(h, t, r);
    if (!bad)
        return 0;
    for (int i = 0; i < r->item_count; i++)
        free(r->items[i].path);
    r->item_count = 0;
    return problem_set(p, EXIT_DAMAGED, 0, bad, "Start the services cold; the next save replaces the image.",
                       "Reading the image on %s", d->path);
}

static int entry(const struct table *t, uint64_t i, uint64_t length, struct chunk *c)
{
    c->offset = get64(t->chunks + i * CHUNK_ENTRY);
    c->sum = get64(t->chunks + i * CHUNK_ENTRY + 8);
    if (c->offset == 0)
        return c->sum == 0;
    return c->offset >= PAYLOAD_START && c->offset % BLOCK == 0 && fits(c->offset, length, t->end);
}

int table_meta_chunk(const struct table *t, const struct item *it, uint64_t index, uint64_t length, struct chunk *c)
{
    return entry(t, it->meta_first + index, length, c) && c->offset != 0;
}

int table_data_chunk(const struct table *t, const struct item *it, uint64_t index, uint64_t length, struct chunk *c)
{
    return entry(t, t->meta_chunks + it->data_first + index, length, c);
}
