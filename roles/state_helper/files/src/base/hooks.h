/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Hooks for the tests. The shipped binary has none of them: they exist only when built with -DTEST_HOOKS. */
#ifndef HOOKS_H
#define HOOKS_H

#ifdef TEST_HOOKS
/* Counts the places that matter to a sudden death. At number $PMEM_STATE_KILL_AT (from 1) it dies by SIGKILL, at number
 * $PMEM_STATE_STOP_AT it stops (SIGSTOP) so that a test can change the world before it goes on. */
void kill_point(const char *where);
/* $name, or NULL. */
const char *test_override(const char *name);
#else
static inline void kill_point(const char *where) { (void)where; }
static inline const char *test_override(const char *name) { (void)name; return 0; }
#endif

#endif
