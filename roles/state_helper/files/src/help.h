/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef HELP_H
#define HELP_H

/* Prints what --help says. */
void help_print(void);

#endif
