/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Hooks for the tests. They exist only in a build with -DTEST_HOOKS, never in the shipped
 * binary. */
#ifndef HOOKS_H
#define HOOKS_H

#ifdef TEST_HOOKS
/* Counts the points at which a test can kill or stop the program. At point number
 * $PMEM_STATE_KILL_AT (from 1) the program kills itself (SIGKILL). At number $PMEM_STATE_STOP_AT it
 * stops (SIGSTOP), so that a test can change files or the device before it continues. */
void kill_point(const char *where);
/* $name, or NULL. */
const char *test_override(const char *name);
#else
static inline void kill_point(const char *where) { (void)where; }
static inline const char *test_override(const char *name) { (void)name; return 0; }
#endif

#endif
