/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Seeded damage to valid images: the helper must detect it, or it must be harmless.
 * Usage: mutate COUNT [FIRST_SEED [DIRECTORY]]
 * Prints how many images of each kind left how many items restored. A failure aborts and names the
 * seed; `mutate 1 SEED` repeats it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/le.h"
#include "harness.h"

enum kind { FLIP, FLIP_HEADER, FLIP_USED, TRUNCATE, SWAP, ZERO, OLD_HEADER, ONE_OLD_HEADER, MIXED, OLD_PAYLOAD, EDIT_HEADER,
            EDIT_TABLE, EDIT_RECORDS, KINDS };
static const char *const kind_names[KINDS] = {"flip anywhere", "flip in header", "flip in what is used", "truncate", "swap blocks",
    "zero a range", "old header", "one old header", "blocks of both", "old payload", "edit header, fix sums", "edit table, fix sums",
    "edit records, fix sums"};

static uint64_t state;

static uint64_t rnd(void) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t below(uint64_t n) { return rnd() % n; }

static uint64_t interesting(void)
{
    static const uint64_t values[] = {0, 1, 7, 8, 63, 64, 255, 256, 4095, 4096, 65535, 65536, 1 << 18, 2 << 20, IMAGE_BYTES,
        INT32_MAX, 1ull << 31, UINT32_MAX, 1ull << 32, INT64_MAX, 1ull << 63, UINT64_MAX, UINT64_MAX - 4095};
    uint64_t v = values[below(sizeof values / sizeof *values)];
    return below(4) == 0 ? rnd() : below(3) == 0 ? v + below(17) - 8 : v;
}

static void edit(uint8_t *at, uint64_t n)
{
    uint8_t *p = at + below(n);
    size_t left = (size_t)(at + n - p);
    uint64_t v = interesting();
    size_t width = (size_t)1 << below(4);
    if (below(3) == 0)
        v = get16(p) + (below(2) ? 1 : (uint64_t)-1) * (1 + below(8)); /* a little more or less */
    memcpy(p, &v, width < left ? width : left);
}

static void sign(struct header *h) { h->sum = hash64(h, offsetof(struct header, sum)); }

/* Signs table and headers again, as somebody would who crafts an image. */
static void sign_all(uint8_t *image)
{
    struct header *h = (struct header *)image;
    if (h->table_offset < IMAGE_BYTES && h->table_bytes <= IMAGE_BYTES - h->table_offset && h->table_bytes > 240)
        h->table_sum = hash64(image + h->table_offset, h->table_bytes);
    sign(h);
    memcpy(image + sizeof *h, h, sizeof *h);
}

/* Offset of the chunk entries of a good image: behind the item entries. */
static uint64_t chunk_entries(const uint8_t *image)
{
    const struct header *h = (const struct header *)image;
    uint64_t at = h->table_offset;
    for (uint32_t i = 0; i < h->item_count; i++)
        at += get32(image + at);
    return at;
}

static size_t damage(enum kind kind, uint8_t *image, const uint8_t *old)
{
    struct header *h = (struct header *)image;
    uint64_t used = h->table_offset + h->table_bytes, entries = chunk_entries(image);
    size_t size = IMAGE_BYTES;
    switch (kind) {
    case FLIP:
        for (uint64_t n = 1 + below(8); n; n--)
            image[below(IMAGE_BYTES)] ^= (uint8_t)(1 << below(8));
        break;
    case FLIP_HEADER:
        for (uint64_t n = 1 + below(3); n; n--)
            image[below(2 * sizeof *h)] ^= (uint8_t)(1 << below(8));
        break;
    case FLIP_USED:
        image[PAYLOAD_START + below(used - PAYLOAD_START)] ^= (uint8_t)(1 << below(8));
        break;
    case TRUNCATE:
        size = below(2) ? below(IMAGE_BYTES) : PAYLOAD_START + below(used - PAYLOAD_START + 8192);
        break;
    case SWAP: {
        uint8_t block[BLOCK];
        uint8_t *a = image + PAYLOAD_START + below((used - PAYLOAD_START) / BLOCK) * BLOCK;
        uint8_t *b = image + PAYLOAD_START + below((used - PAYLOAD_START) / BLOCK) * BLOCK;
        memcpy(block, a, BLOCK);
        memcpy(a, b, BLOCK);
        memcpy(b, block, BLOCK);
        break;
    }
    case ZERO: {
        uint64_t at = below(used), n = 1 + below(used - at < 65536 ? used - at : 65536);
        memset(image + at, below(2) ? 0 : 0xff, n);
        break;
    }
    case OLD_HEADER:
        memcpy(image, old, 2 * sizeof *h);
        break;
    case ONE_OLD_HEADER: /* and the other one gone */
        memcpy(image + (below(2) ? sizeof *h : 0), old, sizeof *h);
        if (below(2))
            image[below(2 * sizeof *h)] ^= (uint8_t)(1 + below(255));
        break;
    case MIXED:
        for (uint64_t n = 1 + below(300); n; n--) {
            uint64_t at = below(used / BLOCK) * BLOCK;
            memcpy(image + at, old + at, BLOCK);
        }
        break;
    case OLD_PAYLOAD:
        memcpy(image + PAYLOAD_START, old + PAYLOAD_START, below(used - PAYLOAD_START));
        break;
    case EDIT_HEADER:
        for (uint64_t n = 1 + below(3); n; n--)
            edit(image, offsetof(struct header, marks) + 64);
        sign(h);
        memcpy(image + sizeof *h, h, sizeof *h);
        break;
    case EDIT_TABLE:
        for (uint64_t n = 1 + below(3); n; n--)
            edit(image + h->table_offset, entries + h->meta_chunks * 16 - h->table_offset + 64);
        sign_all(image);
        break;
    case EDIT_RECORDS: {
        /* Each item has one chunk of records; that of the first item takes more than one block. */
        uint64_t item = below(h->item_count), entry = entries + item * 16, at = get64(image + entry), table = h->table_offset;
        for (uint64_t i = 0; i < item; i++)
            table += get32(image + table);
        uint64_t bytes = get64(image + table + 16);
        for (uint64_t n = 1 + below(4); n; n--)
            edit(image + at, bytes);
        put64(image + entry + 8, hash64(image + at, round_up(bytes, BLOCK)));
        sign_all(image);
        break;
    }
    case KINDS:
        break;
    }
    return size;
}

static void check_sources(struct harness *h, const uint64_t *digests, uint64_t seed)
{
    for (int i = 0; i < ITEMS; i++)
        if (harness_digest(h, "src", i) != digests[i])
            harness_die("seed %llu, or one of the 50 before: a file outside changed", (unsigned long long)seed);
}

int main(int argc, char **argv)
{
    static struct harness h;
    static uint8_t images[2][IMAGE_BYTES], image[IMAGE_BYTES];
    uint64_t digests[2][ITEMS], count = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000, first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    uint64_t runs[KINDS] = {0}, restored[KINDS] = {0}, codes[8] = {0};
    harness_start(&h, argc > 3 ? argv[3] : NULL);
    memset(image, 0, sizeof image);
    harness_device(&h, image, 0, IMAGE_BYTES);
    for (int g = 0; g < 2; g++) {
        harness_sources(&h, g + 1, 1);
        harness_save(&h, images[g]);
        for (int i = 0; i < ITEMS; i++)
            digests[g][i] = harness_digest(&h, "src", i);
        if (harness_restore(&h) != 0)
            harness_die("a good image is not restored");
        for (int i = 0; i < ITEMS; i++)
            if (harness_digest(&h, "out", i) != digests[g][i])
                harness_die("a good image is restored wrongly");
        harness_clean(&h);
    }
    umask(0);
    for (uint64_t seed = first; seed < first + count; seed++) {
        state = seed;
        enum kind kind = (enum kind)below(KINDS);
        memcpy(image, images[1], sizeof image);
        size_t size = damage(kind, image, images[0]);
        harness_device(&h, image, size, size);
        if (below(4) == 0)
            (void)harness_verify(&h);
        int code = harness_restore(&h);
        runs[kind]++;
        codes[code & 7]++;
        for (int i = 0; i < ITEMS; i++) {
            const struct report *r = &h.command.run.report;
            uint64_t got = harness_digest(&h, "out", i);
            restored[kind] += got != 0;
            if (kind == EDIT_HEADER || kind == EDIT_TABLE || kind == EDIT_RECORDS)
                continue; /* crafted: it may say anything, but nothing may break or get out */
            if (got && got != digests[0][i] && got != digests[1][i])
                harness_die("seed %llu (%s): a wrong byte in item %s", (unsigned long long)seed, kind_names[kind], item_names[i]);
            if (!got && i < r->item_count && r->items[i].status == ITEM_RESTORED)
                harness_die("seed %llu (%s): item %s does not exist", (unsigned long long)seed, kind_names[kind], item_names[i]);
        }
        harness_clean(&h);
        if (seed % 50 == 0 || seed == first + count - 1)
            check_sources(&h, digests[1], seed);
    }
    for (int k = 0; k < KINDS; k++)
        printf("%-24s %6llu damages, %6llu of %6llu items restored\n", kind_names[k], (unsigned long long)runs[k],
               (unsigned long long)restored[k], (unsigned long long)runs[k] * ITEMS);
    printf("%llu damages; exit codes: done %llu, system %llu, none %llu, damaged %llu, refused %llu, partial %llu\n",
           (unsigned long long)count, (unsigned long long)codes[0],
           (unsigned long long)codes[2], (unsigned long long)codes[3], (unsigned long long)codes[4], (unsigned long long)codes[5],
           (unsigned long long)codes[6]);
    command_free(&h.command);
    harness_end(&h);
    return 0;
}
