/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages of the /init of a jump, which go to the kernel's log. */
#ifndef KMSG_H
#define KMSG_H

/* Writes a line to the kernel's log, and so to the console. */
void kmsg(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
