/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "init/init_parse.h"

#include <stdint.h>
#include <string.h>
#include <sys/mount.h>

#include "base/le.h"

/* Options of mount(8) that are flags of mount(2) instead of options of the file system. */
static const struct { const char *name; unsigned long set, clear; } flags[] = {
    {"ro", MS_RDONLY, 0},          {"rw", 0, MS_RDONLY},           {"noatime", MS_NOATIME, 0},  {"relatime", MS_RELATIME, 0},
    {"nodiratime", MS_NODIRATIME, 0}, {"strictatime", MS_STRICTATIME, 0}, {"lazytime", MS_LAZYTIME, 0}, {"sync", MS_SYNCHRONOUS, 0},
    {"dirsync", MS_DIRSYNC, 0},    {"nodev", MS_NODEV, 0},         {"nosuid", MS_NOSUID, 0},    {"noexec", MS_NOEXEC, 0},
    {"defaults", 0, 0},
};

static int is(const char *word, size_t n, const char *name) { return strlen(name) == n && memcmp(word, name, n) == 0; }

/* Takes one option. Options that are not flags go to the file system. */
static int take_option(struct init_options *o, const char *word, size_t n)
{
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (is(word, n, flags[i].name)) {
            o->flags = (o->flags & ~flags[i].clear) | flags[i].set;
            return 0;
        }
    size_t used = strlen(o->data);
    if (used + n + 2 > sizeof o->data)
        return -1;
    if (used)
        o->data[used++] = ',';
    memcpy(o->data + used, word, n);
    o->data[used + n] = 0;
    return 0;
}

/* Takes options separated by commas. */
static int take_options(struct init_options *o, const char *p, const char *end)
{
    for (const char *comma; p < end; p = comma + 1) {
        comma = memchr(p, ',', (size_t)(end - p));
        comma = comma ? comma : end;
        if (comma > p && take_option(o, p, (size_t)(comma - p)) != 0)
            return -1;
    }
    return 0;
}

int init_parse_mount(struct init_options *o, const char *options) { return take_options(o, options, options + strlen(options)); }

static int take_word(struct init_options *o, const char *word, size_t n)
{
    static const char rootflags[] = "rootflags=", init[] = "init=";
    if (is(word, n, "ro") || is(word, n, "rw"))
        return take_option(o, word, n);
    if (n > strlen(rootflags) && memcmp(word, rootflags, strlen(rootflags)) == 0)
        return take_options(o, word + strlen(rootflags), word + n);
    if (n > strlen(init) && memcmp(word, init, strlen(init)) == 0) {
        n -= strlen(init);
        if (n >= sizeof o->init)
            return -1;
        memcpy(o->init, word + strlen(init), n);
        o->init[n] = 0;
    }
    return 0;
}

int init_parse(struct init_options *o, const char *command_line)
{
    *o = (struct init_options){.flags = MS_RDONLY, .init = "/sbin/init"};
    for (const char *p = command_line; *p;) {
        size_t n = strcspn(p, " \t\n");
        if (is(p, n, "--")) /* the words that follow are for init */
            break;
        if (n && take_word(o, p, n) != 0)
            return -1;
        p += n;
        p += strspn(p, " \t\n");
    }
    return 0;
}

/* Places: Documentation/filesystems/ext4/super.rst (superblock at 1024), fs/xfs/libxfs/xfs_format.h
 * (at 0). */
int init_is_root(const unsigned char *bytes, const char *type, const unsigned char uuid[16])
{
    const unsigned char *ext = bytes + 1024;
    if (strncmp(type, "ext", 3) == 0)
        return get16(ext + 0x38) == 0xef53 && memcmp(ext + 0x68, uuid, 16) == 0;
    return strcmp(type, "xfs") == 0 && memcmp(bytes, "XFSB", 4) == 0 && memcmp(bytes + 32, uuid, 16) == 0;
}
