/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SIGTERM, SIGINT and SIGHUP: they end the program at once, except where it has something to finish
 * and to report. */
#ifndef STOP_H
#define STOP_H

/* Installs the handler. A signal that was ignored when the program started stays ignored. */
void stop_install(void);

/* From now on these signals are only remembered, so that the result is printed whatever comes. */
void stop_defer(void);

/* Returns the name of the signal that came since stop_defer(), or NULL. Any thread may call it. */
const char *stop_signal(void);

#endif
