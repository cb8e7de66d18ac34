/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Phase marks of a cycle: names, and where they are kept in the header. */
#ifndef MARKS_H
#define MARKS_H

#include <stdint.h>

struct header;
struct run;

/* The number of a name, 0 when it is none; and back, NULL for a number that has no name here. */
uint32_t mark_id(const char *name);
const char *mark_name(uint32_t id);

/* Sets a mark, in the place of an earlier one of that number. Returns 0 when there is no room. */
int mark_set(struct header *h, uint32_t id, uint64_t cycles);

/* `mark NAME`: adds a mark, now, to the image of this boot. `cycles`: shows the counter. */
int verb_mark(struct run *run);
int verb_cycles(struct run *run);

#endif
