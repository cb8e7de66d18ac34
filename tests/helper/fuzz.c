/* SPDX-License-Identifier: GPL-3.0-or-later */
/* libFuzzer over header, table, records and restore. The input is a header, then the content from
 * PAYLOAD_START on. FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION makes every checksum match, so that
 * the fuzzer reaches the code behind the checksums.
 * FUZZ_SEEDS=DIR writes two images to start from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct harness h;
static uint8_t image[IMAGE_BYTES];

static void end(void)
{
    command_free(&h.command);
    harness_end(&h);
}

static void write_seed(const char *dir, int generation)
{
    char path[4096];
    const struct header *header = (const struct header *)image;
    harness_sources(&h, generation, 100);
    harness_save(&h, image);
    snprintf(path, sizeof path, "%s/seed%d", dir, generation);
    FILE *f = fopen(path, "w");
    size_t payload = header->table_offset + header->table_bytes - PAYLOAD_START;
    if (!f || fwrite(image, 1, sizeof *header, f) != sizeof *header || fwrite(image + PAYLOAD_START, 1, payload, f) != payload || fclose(f))
        harness_die("writing %s: %m", path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    const char *seeds = getenv("FUZZ_SEEDS");
    harness_start(&h, NULL);
    umask(0);
    if (seeds) {
        harness_device(&h, image, 0, IMAGE_BYTES);
        write_seed(seeds, 1);
        write_seed(seeds, 2);
        end();
        exit(0);
    }
    atexit(end);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t payload = size > sizeof(struct header) ? size - sizeof(struct header) : 0;
    if (payload > IMAGE_BYTES - PAYLOAD_START)
        return -1;
    memcpy(image, data, size < sizeof(struct header) ? size : sizeof(struct header));
    memcpy(image + PAYLOAD_START, data + size - payload, payload);
    harness_device(&h, image, PAYLOAD_START + payload, IMAGE_BYTES);
    (void)harness_verify(&h);
    (void)harness_restore(&h);
    harness_clean(&h);
    return 0;
}
