/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/hash.h"
#include "restore/place.h"

const char *const item_names[ITEMS] = {"a", "b", "c"};

void harness_die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

static void must(int ok, const char *what)
{
    if (!ok)
        harness_die("%s: %m", what);
}

static void path_of(char out[192], const struct harness *h, const char *where, const char *name)
{
    snprintf(out, 192, "%s/%s/%s", h->dir, where, name);
}

void harness_start(struct harness *h, const char *parent)
{
    char path[192];
    h->whole = parent != NULL;
    snprintf(h->dir, sizeof h->dir, "%s/hotpmem-harness-XXXXXX", parent ? parent : "/dev/shm");
    must(mkdtemp(h->dir) != NULL, "making the directory");
    snprintf(h->device, sizeof h->device, "%s/device", h->dir);
    path_of(path, h, "src", "");
    must(mkdir(path, 0700) == 0, "making src");
    path_of(path, h, "out", "");
    must(mkdir(path, 0700) == 0, "making out");
    setenv("PMEM_STATE_MACHINE_ID", "0123456789abcdef0123456789abcdef", 1);
    setenv("PMEM_STATE_BOOT_ID", "00000000-0000-0000-0000-000000000001", 1);
    guard_install();
}

/* Removes `name` below the directory `where` of the harness. */
static void remove_below(struct harness *h, const char *where, const char *name)
{
    char path[192];
    path_of(path, h, where, "");
    int fd = open(path, O_RDONLY | O_DIRECTORY), err = fd < 0 ? errno : remove_tree(fd, name);
    if (err)
        harness_die("removing %s from %s: %s", name, path, strerror(err));
    close(fd);
}

void harness_end(struct harness *h)
{
    char *name = strrchr(h->dir, '/');
    *name = 0;
    int fd = open(h->dir, O_RDONLY | O_DIRECTORY);
    must(fd >= 0 && remove_tree(fd, name + 1) == 0 && close(fd) == 0, "removing the directory");
}

static void put_file(const char *dir, const char *name, size_t bytes, unsigned seed)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    must(f != NULL, "making a source");
    srand(seed);
    for (size_t i = 0; i < bytes; i++)
        fputc(rand() >> 7, f);
    must(fclose(f) == 0, "writing a source");
    struct timespec times[2] = {{0, UTIME_OMIT}, {1000000 + (time_t)seed, (long)seed * 1001}};
    must(utimensat(AT_FDCWD, path, times, 0) == 0, "setting a time");
}

void harness_sources(struct harness *h, int generation, unsigned shrink)
{
    char a[192], path[256];
    unsigned g = (unsigned)generation * 100;
    path_of(a, h, "src", "a");
    remove_below(h, "src", "a");
    must(mkdir(a, 0750) == 0, "making a source");
    for (unsigned i = 0; i < 12; i++) {
        snprintf(path, sizeof path, "f%u", i);
        put_file(a, path, i * 1500 % 20001 / shrink, g + i);
    }
    put_file(a, "big", 300000 / shrink, g + 20); /* in two chunks */
    snprintf(path, sizeof path, "%s/big", a);
    must(setxattr(path, "user.x", &g, sizeof g, 0) == 0, "setting an attribute");
    char link[256];
    snprintf(link, sizeof link, "%s/link", a);
    must(symlink(generation == 1 ? "/etc/passwd" : "../../b", link) == 0, "making a link");
    snprintf(link, sizeof link, "%s/hard", a);
    must(linkat(AT_FDCWD, path, AT_FDCWD, link, 0) == 0, "making a hard link");
    snprintf(path, sizeof path, "%s/fifo", a);
    must(mkfifo(path, 0600) == 0, "making a fifo");
    snprintf(path, sizeof path, "%s/sub", a);
    must(mkdir(path, 0700) == 0, "making a directory");
    put_file(path, "inner", 77, g + 30);
    snprintf(path, sizeof path, "%s/sub/sparse", a);
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    must(fd >= 0 && pwrite(fd, "x", 1, 70000) == 1 && pwrite(fd, "y", 1, 200000 + generation) == 1 && close(fd) == 0, "making holes");
    path_of(a, h, "src", "");
    put_file(a, "b", (200000 + g) / shrink, g + 40);
    put_file(a, "c", 10 + g, g + 50);
}

/* Runs `verb` for the three items below `where`. */
static int run(struct harness *h, const char *verb, const char *where)
{
    char words[ITEMS][224];
    char *argv[16] = {"pmem-state", (char *)verb, "--device", h->device, "--threads", "2"};
    int argc = 6;
    for (int i = 0; i < ITEMS && where; i++) {
        snprintf(words[i], sizeof words[i], "%s=%s/%s/%s", item_names[i], h->dir, where, item_names[i]);
        argv[argc++] = "--item";
        argv[argc++] = words[i];
    }
    command_free(&h->command);
    return command_run(&h->command, argc, argv);
}

void harness_device(struct harness *h, const uint8_t *image, size_t used, size_t bytes)
{
    size_t front = used < 2 * BLOCK ? used : 2 * BLOCK;
    int fd = open(h->device, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0, "making the device");
    must(!h->whole || bytes == 0 || posix_fallocate(fd, 0, (off_t)bytes) == 0, "filling the device");
    must(pwrite(fd, image, front, 0) == (ssize_t)front, "writing the device");
    if (used > PAYLOAD_START)
        must(pwrite(fd, image + PAYLOAD_START, used - PAYLOAD_START, PAYLOAD_START) == (ssize_t)used - PAYLOAD_START, "writing the device");
    close(fd);
}

void harness_save(struct harness *h, uint8_t *image)
{
    int code = run(h, "save", "src");
    if (code)
        harness_die("save: exit %d: %s: %s", code, h->command.run.report.problem.what, h->command.run.report.problem.said);
    int fd = open(h->device, O_RDONLY);
    must(fd >= 0 && pread(fd, image, IMAGE_BYTES, 0) == IMAGE_BYTES && close(fd) == 0, "reading the device");
}

/* Only these names may be in a directory. */
static void check_names(const char *path, const char *const *names, int count)
{
    DIR *d = opendir(path);
    must(d != NULL, "opening a directory");
    for (struct dirent *e; (e = readdir(d));) {
        int known = e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2]));
        for (int i = 0; i < count; i++)
            known |= strcmp(e->d_name, names[i]) == 0;
        if (!known)
            harness_die("'%s' appeared in %s", e->d_name, path);
    }
    closedir(d);
}

static void check_outside(struct harness *h)
{
    static const char *const top[] = {"device", "src", "out"};
    char path[192];
    check_names(h->dir, top, 3);
    path_of(path, h, "out", "");
    check_names(path, item_names, ITEMS);
    path_of(path, h, "src", "");
    check_names(path, item_names, ITEMS);
}

int harness_restore(struct harness *h)
{
    int code = run(h, "restore", "out");
    check_outside(h);
    return code;
}

int harness_verify(struct harness *h) { return run(h, "verify", NULL); }

void harness_clean(struct harness *h)
{
    for (int i = 0; i < ITEMS; i++)
        remove_below(h, "out", item_names[i]);
}

static uint64_t mix(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t sum = n > 240 ? hash64(data, n) : 0;
    if (n > 240) { /* the same, in a hurry */
        p = (const uint8_t *)&sum;
        n = sizeof sum;
    }
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3; /* FNV-1a */
    return h;
}

/* Only bytes other than zero count: a crafted image makes files of 2^59 bytes that are one hole. */
static uint64_t digest_contents(uint64_t h, int fd)
{
    char buf[65536];
    static const char zeros[sizeof buf];
    for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; at += (off_t)sizeof buf) {
        at -= at % (off_t)sizeof buf; /* the same pieces wherever the holes are */
        ssize_t n = pread(fd, buf, sizeof buf, at);
        must(n >= 0, "reading a file");
        if (memcmp(buf, zeros, (size_t)n) != 0)
            h = mix(mix(h, &at, sizeof at), buf, (size_t)n);
    }
    return h;
}

static uint64_t digest_at(int dir, const char *name)
{
    struct stat st;
    char buf[65536];
    uint64_t h = 0xcbf29ce484222325;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    uint64_t facts[] = {st.st_mode, st.st_uid, st.st_gid, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec,
                        S_ISDIR(st.st_mode) ? 0 : st.st_nlink, S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size};
    h = mix(h, facts, sizeof facts);
    if (S_ISREG(st.st_mode)) {
        int fd = openat(dir, name, O_RDONLY);
        must(fd >= 0, "opening a file");
        h = digest_contents(h, fd);
        ssize_t n = fgetxattr(fd, "user.x", buf, sizeof buf);
        h = mix(h, buf, n > 0 ? (size_t)n : 0);
        close(fd);
    } else if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(dir, name, buf, sizeof buf);
        h = mix(h, buf, n > 0 ? (size_t)n : 0);
    } else if (S_ISDIR(st.st_mode)) {
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY);
        DIR *d = fdopendir(fd);
        must(d != NULL, "opening a directory");
        uint64_t sum = 0; /* the order of the entries does not count */
        for (struct dirent *e; (e = readdir(d));)
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
                uint64_t one = digest_at(fd, e->d_name);
                sum += mix(mix(0xcbf29ce484222325, e->d_name, strlen(e->d_name)), &one, sizeof one);
            }
        h = mix(h, &sum, sizeof sum);
        closedir(d);
    }
    return h;
}

uint64_t harness_digest(struct harness *h, const char *where, int item)
{
    char path[192];
    path_of(path, h, where, item_names[item]);
    return digest_at(AT_FDCWD, path);
}
