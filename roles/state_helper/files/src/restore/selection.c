/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore/selection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct option_item *asked_for(const struct run *run, const struct item *it)
{
    for (int i = 0; i < run->options->item_count; i++)
        if (strcmp(run->options->items[i].name, it->name) == 0)
            return &run->options->items[i];
    return NULL;
}

int is_selected(const struct run *run, const struct item *it)
{
    return run->options->item_count == 0 || asked_for(run, it);
}

/* Adds an item that the command line names and the image does not contain. The other items are
 * restored anyway. */
static int add_missing(struct report *r, const struct option_item *o)
{
    struct item *it = &r->items[r->item_count];
    memcpy(it->name, o->name, sizeof it->name);
    it->path = strdup(o->path ? o->path : "");
    if (!it->path)
        return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the list of items");
    r->item_count++;
    item_mark(r, it, ITEM_FAILED, 0, "the image does not contain this item");
    return 0;
}

int select_items(struct run *run)
{
    struct report *r = &run->report;
    int in_image = r->item_count, rc = 0;
    for (int k = 0; k < in_image; k++) {
        const struct option_item *o = asked_for(run, &r->items[k]);
        if (!is_selected(run, &r->items[k]))
            item_mark(r, &r->items[k], ITEM_SKIPPED, 0, "%s", "");
        if (o && o->path) {
            free(r->items[k].path);
            r->items[k].path = strdup(o->path);
            if (!r->items[k].path)
                return problem_set(&r->problem, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading the list of items");
        }
    }
    for (int i = 0; i < run->options->item_count && rc == 0; i++) {
        int found = 0;
        for (int k = 0; k < in_image; k++)
            found |= strcmp(run->options->items[i].name, r->items[k].name) == 0;
        if (!found)
            rc = add_missing(r, &run->options->items[i]);
    }
    if (rc == 0 && run->options->item_count && r->item_count - in_image == run->options->item_count)
        return problem_refuse(&r->problem, "no_such_item", "the image does not contain it",
                              "`pmem-state info` lists the items of the image.", "Looking for item %s", run->options->items[0].name);
    return rc;
}
