/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which CPUs to work on: those of the device's NUMA node that this process may use. */
#ifndef CPUS_H
#define CPUS_H

#include <sched.h>

/* Fills in *set with the CPUs near NUMA node `node` (-1: any) and returns how many; 0 when it can't be found out. */
int cpus_near(int node, cpu_set_t *set);

/* Threads to use: `wanted`, or when that is 0 the smaller of 4 and the CPUs there are. */
int cpus_threads(int wanted, int near);

#endif
