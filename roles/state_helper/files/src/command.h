/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One run of the program from its command line, without printing, so that tests can run it many
 * times in one process. */
#ifndef COMMAND_H
#define COMMAND_H

#include "image/run.h"

struct command {
    struct options options;
    struct run run;
};

/* Runs the verb of the command line. Returns the exit code; c->run.report has the result. Does
 * nothing for help and version. */
int command_run(struct command *c, int argc, char **argv);
void command_free(struct command *c);

#endif
