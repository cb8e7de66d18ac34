/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which CPUs to work on: those of the device's NUMA node that this process may use. */
#ifndef CPUS_H
#define CPUS_H

#include <sched.h>

/* Fills in *set with the CPUs near NUMA node `node` (-1: any) and returns how many; 0 when it can't
 * be found out. */
int cpus_near(int node, cpu_set_t *set);

/* Returns the number of threads to use: `wanted`, or if that is 0, the number of CPUs but at most
 * 4. */
int cpus_threads(int wanted, int near);

#endif
