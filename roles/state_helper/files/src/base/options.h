/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The command line and the item list. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdint.h>

#include "base/problem.h"
#include "base/status.h"

enum verb {
    VERB_SAVE, VERB_RESTORE, VERB_PLAN, VERB_COMPARE, VERB_VERIFY, VERB_INFO, VERB_INVALIDATE, VERB_MARK, VERB_CYCLES, VERB_PREPARE,
    VERB_HELP, VERB_VERSION,
};

enum { MAX_OPTION_MARKS = 16 };

struct option_item {
    char name[MAX_ITEM_NAME + 1];
    char *path; /* NULL: use the path in the image */
};

struct option_mark {
    uint32_t id;
    uint64_t cycles;
};

struct options {
    enum verb verb;
    const char *verb_name;
    const char *device;
    uint64_t capacity; /* bytes; 0: ask the device */
    struct option_item items[MAX_ITEMS];
    int item_count;
    struct option_mark marks[MAX_OPTION_MARKS]; /* stored with a save */
    int mark_count;
    uint64_t cycles_per_second; /* of those marks */
    const char *mark;           /* the NAME of the verb mark */
    double seconds; /* that prepare may take; 0: no limit */
    int threads; /* 0: choose */
    int force, json, progress;
};

/* Returns 0 or EXIT_USAGE (or EXIT_SYSTEM when the item list can't be read). */
int options_parse(struct options *o, int argc, char **argv, struct problem *p);
void options_free(struct options *o);

#endif
