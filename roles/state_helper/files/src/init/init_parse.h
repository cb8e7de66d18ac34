/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the /init of a jump reads: the kernel's command line, the options of a mount, and
 * superblocks. */
#ifndef INIT_PARSE_H
#define INIT_PARSE_H

struct init_options {
    unsigned long flags;   /* of mount(2) */
    char data[1024];       /* the other options, for the file system */
    char init[256];        /* init=, or /sbin/init */
};
/* Reads a kernel command line ("ro", "rw", "rootflags=" and "init=" in kernel-parameters.txt).
 * Returns 0, or -1 if a value is too long. */
int init_parse(struct init_options *o, const char *command_line);
/* Adds the options of a mount unit or of fstab to o->flags and o->data. Returns 0, or -1 if they
 * are too long. */
int init_parse_mount(struct init_options *o, const char *options);

/* Returns whether a device holds a file system of this type (ext2, ext3, ext4, xfs) with this UUID.
 * bytes: the first INIT_PROBE_BYTES of the device. */
enum { INIT_PROBE_BYTES = 2048 };
int init_is_root(const unsigned char *bytes, const char *type, const unsigned char uuid[16]);

#endif
