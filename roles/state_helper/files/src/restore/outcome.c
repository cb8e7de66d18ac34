/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore/outcome.h"

#include "restore/selection.h"

/* Counts of the items that were asked for, by what became of them. */
struct tally {
    int wanted, good, damaged, failed, unsaved;
};

static struct tally count(const struct run *run, enum item_status good)
{
    const struct report *r = &run->report;
    struct tally t = {0};
    for (int i = 0; i < r->item_count; i++) {
        int s = r->items[i].status;
        if (s == ITEM_SKIPPED && !(run->options->item_count && is_selected(run, &r->items[i])))
            continue;
        t.wanted++;
        t.good += s == (int)good;
        t.damaged += s == ITEM_DAMAGED;
        t.failed += s == ITEM_FAILED && r->items[i].err;
        t.unsaved += s == ITEM_CHANGED || (s == ITEM_FAILED && !r->items[i].err);
    }
    return t;
}

static const char *first_error(const struct report *r)
{
    for (int i = 0; i < r->item_count; i++)
        if (r->items[i].error[0])
            return r->items[i].error;
    return NULL;
}

int outcome(struct run *run, enum item_status good, const char *verb)
{
    struct report *r = &run->report;
    struct tally t = count(run, good);
    if (t.good == t.wanted)
        return EXIT_DONE;
    if (t.good)
        return problem_set(&r->problem, EXIT_PARTIAL, 0, "the other items are complete",
                           "See the error of each item, and start the services of those items cold.",
                           "%d of %d items could not be %s", t.wanted - t.good, t.wanted, verb);
    if (t.failed)
        return problem_set(&r->problem, EXIT_SYSTEM, 0, first_error(r), "See the error of each item.", "No item could be %s", verb);
    if (t.damaged)
        return problem_set(&r->problem, EXIT_DAMAGED, 0, first_error(r), "Start the services cold; the next save replaces the image.",
                           "No item could be %s", verb);
    return problem_refuse(&r->problem, t.unsaved ? "changed" : "consumed", first_error(r), "Start the services cold.",
                          "No item could be %s", verb);
}
