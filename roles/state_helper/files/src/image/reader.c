/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/reader.h"

#include <string.h>

#include "base/hash.h"
#include "base/le.h"

void reader_start(struct reader *rd, struct run *run, const struct item *it, uint8_t *buffer)
{
    *rd = (struct reader){.run = run, .item = it, .buffer = buffer};
}

/* Brings the next chunk of records into memory. */
static const char *next_chunk(struct reader *rd)
{
    struct chunk c;
    uint32_t size = rd->run->header.chunk_bytes;
    uint64_t on_device = chunk_length(rd->item->meta_bytes, rd->chunk, size), rest = rd->item->meta_bytes - rd->chunk * size;
    if (!table_meta_chunk(&rd->run->table, rd->item, rd->chunk, on_device, &c))
        return "a chunk of its records lies outside the payload";
    if (device_read(&rd->run->device, rd->buffer, on_device, c.offset) != 0)
        return "its records could not be read";
    if (hash64(rd->buffer, on_device) != c.sum)
        return "the checksum of its records is wrong";
    rd->chunk++;
    rd->used = 0;
    rd->length = rest < size ? rest : size;
    return NULL;
}

/* Checks the place of a record: the root comes first and once, everything else is inside it, and
 * extents follow their file. */
static const char *check_order(struct reader *rd, const struct record *r)
{
    if (rd->more ? r->type != RECORD_EXTENTS : r->type == RECORD_EXTENTS)
        return "the extents of a file do not follow the record of the file";
    if (r->type == RECORD_EXTENTS)
        return NULL;
    if (!rd->started ? r->type != rd->item->kind || r->name_bytes != 0 : rd->depth == 0 || (r->name_bytes == 0 && r->type != RECORD_UP))
        return "its records do not form a single tree";
    rd->started = 1;
    rd->depth += r->type == RECORD_DIR ? 1 : r->type == RECORD_UP ? -1 : 0;
    return rd->depth > MAX_DEPTH ? "its directories are nested too deeply" : NULL;
}

static const char *check_data(struct reader *rd, const struct record *r)
{
    if (r->type == RECORD_FILE) {
        rd->file_end = 0;
        rd->file_size = r->size;
    }
    for (uint32_t i = 0; i < r->extent_count; i++) {
        struct extent e = record_extent(r, i);
        if (e.file_offset < rd->file_end || !fits(e.file_offset, e.length, rd->file_size) || e.data_offset < rd->data_end ||
            !fits(e.data_offset, e.length, rd->item->data_bytes))
            return "the extents of a file overlap or lie outside the data";
        rd->file_end = e.file_offset + e.length;
        rd->data_end = e.data_offset + e.length;
    }
    rd->more = (r->flags & RECORD_MORE) != 0;
    return NULL;
}

int reader_next(struct reader *rd, struct record *r)
{
    /* The rest of a chunk may be empty. */
    while (rd->used == rd->length || (rd->length - rd->used >= 4 && get32(rd->buffer + rd->used) == 0)) {
        if (rd->chunk == chunk_count(rd->item->meta_bytes, rd->run->header.chunk_bytes)) {
            rd->bad = rd->more || rd->depth || !rd->started ? "its records end too early" : NULL;
            return rd->bad ? -1 : 0;
        }
        rd->bad = next_chunk(rd);
        if (rd->bad)
            return -1;
    }
    rd->bad = record_decode(rd->buffer + rd->used, rd->length - rd->used, r);
    if (!rd->bad)
        rd->bad = check_order(rd, r);
    if (!rd->bad)
        rd->bad = check_data(rd, r);
    if (rd->bad)
        return -1;
    rd->used += r->length;
    return 1;
}
