/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Measures the best that this machine can do, beside the tools. Prints seconds, and
 * the CPU seconds of the copy.
 *   limit copy THREADS DEVICE SOURCE...
 *       copies the sources to DEVICE with non-temporal stores; both are mapped and touched before
 *   limit pwrite THREADS DEVICE TARGET...
 *       writes new files from DEVICE by parallel pwrite; a target is PATH:BYTES
 *   limit map THREADS DEVICE TARGET...
 *       writes new files by parallel fallocate, mmap and memcpy
 *   limit warm BYTES
 *       touches this much memory and frees it, or a virtual machine whose host reclaims free memory
 *       would measure the host
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"

enum { PIECE = 1 << 20 };

struct piece {
    int fd;
    uint8_t *source, *to;
    size_t at, length;
};

static struct piece *pieces;
static size_t count, room;
static _Atomic size_t next;
static char mode;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void must(int ok, const char *what)
{
    if (!ok)
        die(what);
}

static double between(const struct timespec *a, const struct timespec *b)
{
    return (double)(b->tv_sec - a->tv_sec) + (double)(b->tv_nsec - a->tv_nsec) / 1e9;
}

static void *work(void *unused)
{
    for (size_t i; (i = atomic_fetch_add(&next, 1)) < count;) {
        struct piece *p = &pieces[i];
        if (mode == 'c') {
            nt_copy(p->to, p->source, p->length / 64 * 64);
        } else if (mode == 'p') {
            must(pwrite(p->fd, p->source, p->length, (off_t)p->at) == (ssize_t)p->length, "pwrite");
        } else {
            must(fallocate(p->fd, 0, (off_t)p->at, (off_t)p->length) == 0, "fallocate");
            void *m = mmap(NULL, p->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, p->fd, (off_t)p->at);
            must(m != MAP_FAILED, "mmap");
            memcpy(m, p->source, p->length);
            munmap(m, p->length);
        }
    }
    return unused;
}

static void add(int fd, uint8_t *source, uint8_t *to, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PIECE) {
        if (count == room) {
            pieces = realloc(pieces, (room = room ? room * 2 : 4096) * sizeof *pieces);
            must(pieces != NULL, "realloc");
        }
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        pieces[count++] = (struct piece){fd, source + at, to ? to + at : NULL, at, n};
    }
}

int main(int argc, char **argv)
{
    struct stat st;
    struct timespec a, b, used_a, used_b;
    pthread_t thread[64];
    if (argc == 3 && strcmp(argv[1], "warm") == 0) {
        size_t n = (size_t)atoll(argv[2]);
        void *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(m != MAP_FAILED && madvise(m, n, MADV_HUGEPAGE) == 0, "mapping memory to warm it");
        memset(m, 1, n);
        return 0;
    }
    must(argc > 4, "usage: limit copy|pwrite|map THREADS DEVICE FILE...");
    mode = argv[1][0];
    int threads = atoi(argv[2]), device = open(argv[3], mode == 'c' ? O_RDWR : O_RDONLY);
    must(device >= 0 && fstat(device, &st) == 0, argv[3]);
    uint8_t *map = mmap(NULL, (size_t)st.st_size, mode == 'c' ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_POPULATE, device, 0);
    must(map != MAP_FAILED, "mapping the device");
    for (int i = 4; i < argc; i++) {
        if (mode == 'c') {
            int fd = open(argv[i], O_RDONLY);
            must(fd >= 0 && fstat(fd, &st) == 0, argv[i]);
            uint8_t *source = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
            must(source != MAP_FAILED, "mapping a source");
            close(fd);
            add(-1, source, map, (size_t)st.st_size);
            map += ((size_t)st.st_size + 4095) / 4096 * 4096;
        } else {
            char *colon = strrchr(argv[i], ':');
            must(colon != NULL, "TARGET:BYTES");
            *colon = 0;
            int fd = open(argv[i], O_RDWR | O_CREAT | O_EXCL, 0600);
            must(fd >= 0 && ftruncate(fd, atoll(colon + 1)) == 0, argv[i]);
            add(fd, map, NULL, (size_t)atoll(colon + 1));
            map += (size_t)atoll(colon + 1);
        }
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used_a);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 1; i < threads; i++)
        must(pthread_create(&thread[i], NULL, work, NULL) == 0, "pthread_create");
    work(NULL);
    for (int i = 1; i < threads; i++)
        pthread_join(thread[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used_b);
    printf("%.6f %.6f\n", between(&a, &b), between(&used_a, &used_b));
    return 0;
}
