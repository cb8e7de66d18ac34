/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the /init of a jump reads: the kernel's command line, the options of a mount, and superblocks. */
#ifndef INIT_PARSE_H
#define INIT_PARSE_H

struct init_options {
    unsigned long flags;   /* of mount(2) */
    char data[1024];       /* what else rootflags= has, for the file system */
    char init[256];        /* init=, or /sbin/init */
};
/* From a kernel command line (docs: kernel-parameters.txt, "ro", "rw", "rootflags=", "init="). 0, or -1 when a value is too long. */
int init_parse(struct init_options *o, const char *command_line);
/* From the options of a mount unit or of fstab, adding to o->flags and o->data. 0, or -1 when they are too long. */
int init_parse_mount(struct init_options *o, const char *options);

/* Whether the first bytes of a device are those of a file system of this type (ext2, ext3, ext4, xfs) with this UUID. Needs
 * INIT_PROBE_BYTES of them. */
enum { INIT_PROBE_BYTES = 2048 };
int init_is_root(const unsigned char *bytes, const char *type, const unsigned char uuid[16]);

#endif
