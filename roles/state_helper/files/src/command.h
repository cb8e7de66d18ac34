/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One run of the program from its command line, apart from printing: so that tests can run it many times in one process. */
#ifndef COMMAND_H
#define COMMAND_H

#include "image/run.h"

struct command {
    struct options options;
    struct run run;
};

/* Does what the command line says. Returns the exit code; c->run.report has the rest. Help and version do nothing here. */
int command_run(struct command *c, int argc, char **argv);
void command_free(struct command *c);

#endif
