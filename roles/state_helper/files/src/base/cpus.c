/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/cpus.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"

enum { ENOUGH = 4 }; /* more threads don't make memory faster: docs/measurements.md */

/* A list like 0-3,8,10-11. */
static void parse_list(const char *text, cpu_set_t *set)
{
    char *end;
    for (const char *p = text; *p >= '0' && *p <= '9'; p = *end == ',' ? end + 1 : end) {
        unsigned long first = strtoul(p, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        for (unsigned long i = first; i <= last && i < CPU_SETSIZE; i++)
            CPU_SET(i, set);
    }
}

int cpus_near(int node, cpu_set_t *set)
{
    char path[64], line[4096];
    cpu_set_t ours, there;
    CPU_ZERO(set);
    if (sched_getaffinity(0, sizeof ours, &ours) != 0)
        return 0;
    *set = ours;
    if (node < 0)
        return CPU_COUNT(set);
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
    FILE *f = fopen(path, "re");
    if (f) {
        CPU_ZERO(&there);
        if (fgets(line, sizeof line, f))
            parse_list(line, &there);
        CPU_AND(&there, &there, &ours);
        if (CPU_COUNT(&there) > 0) /* a NUMA node may consist of memory only */
            *set = there;
        fclose(f);
    }
    return CPU_COUNT(set);
}

int cpus_threads(int wanted, int near)
{
    if (wanted > 0)
        return wanted < MAX_THREADS ? wanted : MAX_THREADS;
    if (near < 1)
        return 1;
    return near < ENOUGH ? near : ENOUGH;
}
