/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/header.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/le.h"
#include "image/layout.h"

/* The second copy lies at 4 KiB of a raw namespace, where the kernel looks for info blocks. This is
 * not the signature of any of them (NVDIMM_PFN_INFO, NVDIMM_DAX_INFO, BTT_ARENA_INFO). */
static const uint8_t magic[8] = {'h', 'o', 't', 'p', 'm', 'e', 'm', 0x1a};

static const char unsupported[] = "this program does not support its format version";

enum state { STATE_NONE, STATE_BAD, STATE_GOOD };

/* Checks the numbers of a header with a good checksum against this device. Returns NULL, or what is
 * wrong. */
static const char *implausible(const struct header *h, uint64_t device_bytes)
{
    if (h->version != FORMAT_VERSION)
        return unsupported;
    if (h->header_bytes != sizeof *h)
        return "its header has an invalid size";
    if (h->device_bytes > device_bytes)
        return "it was written to a bigger device, so a part of it is missing";
    if (h->chunk_bytes < MIN_CHUNK || h->chunk_bytes > MAX_CHUNK || (h->chunk_bytes & (h->chunk_bytes - 1)))
        return "its chunk size is invalid";
    if (h->item_count == 0 || h->item_count > MAX_ITEMS)
        return "its number of items is invalid";
    if (h->meta_chunks > MAX_CHUNKS || h->data_chunks > MAX_CHUNKS || h->meta_chunks + h->data_chunks > MAX_CHUNKS)
        return "its number of chunks is invalid";
    if (h->table_offset < PAYLOAD_START || h->table_offset % BLOCK || h->table_bytes == 0 || h->table_bytes % BLOCK ||
        h->table_bytes > MAX_TABLE || !fits(h->table_offset, h->table_bytes, h->device_bytes))
        return "its table lies outside the device";
    if (h->mark_count > MAX_MARKS || memchr(h->kernel, 0, sizeof h->kernel) == NULL)
        return "its marks or its kernel release are invalid";
    return NULL;
}

static enum state check(const struct header *h, uint64_t device_bytes, const char **why)
{
    if (memcmp(h->magic, magic, sizeof magic) != 0)
        return STATE_NONE;
    if (h->sum != hash64(h, offsetof(struct header, sum))) {
        *why = "the checksum of its header is wrong";
        return STATE_BAD;
    }
    const char *bad = implausible(h, device_bytes);
    if (bad)
        *why = bad;
    return bad ? STATE_BAD : STATE_GOOD;
}

int header_load(struct device *d, struct header *h, struct problem *p)
{
    static _Alignas(BLOCK) struct header copies[HEADER_COPIES]; /* only one thread calls this, and O_DIRECT needs the alignment */
    const char *why = NULL;
    const struct header *best = NULL;
    if (d->bytes < sizeof copies)
        return problem_set(p, EXIT_NO_IMAGE, 0, "the device is too small to hold an image", NULL, "Looking for an image on %s", d->path);
    int err = device_read(d, copies, sizeof copies, 0);
    if (err)
        return problem_set(p, EXIT_SYSTEM, err, NULL, "Check the kernel log (dmesg) for errors of this device.", "Reading the header on %s",
                           d->path);
    for (int i = 0; i < HEADER_COPIES; i++)
        if (check(&copies[i], d->bytes, &why) == STATE_GOOD && (!best || copies[i].sequence > best->sequence))
            best = &copies[i];
    if (best) {
        *h = *best;
        return 0;
    }
    if (why)
        return problem_set(p, EXIT_DAMAGED, 0, why,
                           why == unsupported ? "A newer pmem-state wrote it: restore with that one. The next save with this one replaces the image."
                                              : "Start the services cold; the next save replaces the image.",
                           "Reading the image on %s", d->path);
    return problem_set(p, EXIT_NO_IMAGE, 0, "the device does not hold an image", "There is nothing to restore: start the services cold.",
                       "Looking for an image on %s", d->path);
}

const char *header_content(struct device *d)
{
    static _Alignas(BLOCK) uint8_t block[MIB / 4];
    uint64_t end = PAYLOAD_START + MAX_CHUNK < d->bytes ? PAYLOAD_START + MAX_CHUNK : d->bytes / BLOCK * BLOCK;
    for (uint64_t off = 0; off < end;) {
        size_t len = off == 0 ? HEADER_COPIES * sizeof(struct header) : sizeof block;
        len = len < end - off ? len : end - off;
        if (device_read(d, block, len, off) != 0)
            return NULL;
        if (block[0] || memcmp(block, block + 1, len - 1) != 0)
            return "other";
        off = off == 0 ? PAYLOAD_START : off + len;
    }
    return "zeros";
}

static int write_copy(struct device *d, const struct header *h, int copy, struct problem *p)
{
    static _Alignas(BLOCK) struct header block;
    block = *h;
    int err = device_write(d, &block, sizeof block, (uint64_t)copy * sizeof block);
    if (!err)
        err = device_flush(d);
    return err ? problem_set(p, EXIT_SYSTEM, err, NULL, "Check the kernel log (dmesg) for errors of this device.",
                             "Writing header copy %d on %s", copy, d->path)
               : 0;
}

int header_invalidate(struct device *d, struct problem *p)
{
    static const struct header none;
    int rc = 0;
    for (int i = 0; i < HEADER_COPIES && rc == 0; i++)
        rc = write_copy(d, &none, i, p);
    return rc;
}

int header_store(struct device *d, struct header *h, struct problem *p)
{
    int rc = 0;
    h->sum = hash64(h, offsetof(struct header, sum));
    for (int i = 0; i < HEADER_COPIES && rc == 0; i++)
        rc = write_copy(d, h, i, p);
    return rc;
}

void header_init(struct header *h)
{
    memset(h, 0, sizeof *h);
    memcpy(h->magic, magic, sizeof magic);
    h->version = FORMAT_VERSION;
    h->header_bytes = sizeof *h;
}

int header_consumed(const struct header *h, int item)
{
    return (uint32_t)item < h->item_count && (h->consumed[item / 8] >> (item % 8) & 1);
}

int header_any_consumed(const struct header *h)
{
    static const uint8_t none[sizeof h->consumed];
    return (h->flags & HEADER_CONSUMED) || memcmp(h->consumed, none, sizeof none) != 0;
}

int header_set_mark(struct header *h, uint32_t id, uint64_t cycles)
{
    uint32_t i = 0;
    while (i < h->mark_count && i < MAX_MARKS && h->marks[i].id != id)
        i++;
    if (i >= MAX_MARKS)
        return 0;
    h->marks[i] = (struct mark){.id = id, .cycles = cycles};
    if (i == h->mark_count)
        h->mark_count++;
    return 1;
}

char *hex_id(char out[33], const uint8_t id[16])
{
    for (size_t i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
    return out;
}

char *hex_uuid(char out[37], const uint8_t id[16])
{
    char hex[33];
    hex_id(hex, id);
    snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
    return out;
}
