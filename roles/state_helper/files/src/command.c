/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "command.h"

#include <stdlib.h>
#include <string.h>

#include "image/header_verbs.h"
#include "restore/restore.h"
#include "restore/verify.h"
#include "save/prepare.h"
#include "save/save.h"

static int (*const verbs[])(struct run *) = {
    [VERB_SAVE] = verb_save,       [VERB_RESTORE] = verb_restore, [VERB_PLAN] = verb_plan,
    [VERB_COMPARE] = verb_compare, [VERB_VERIFY] = verb_verify,   [VERB_INFO] = verb_info,
    [VERB_INVALIDATE] = verb_invalidate, [VERB_MARK] = verb_mark, [VERB_CYCLES] = verb_cycles,
    [VERB_PREPARE] = verb_prepare,
};

int command_run(struct command *c, int argc, char **argv)
{
    struct run *run = &c->run;
    memset(c, 0, sizeof *c);
    report_init(&run->report, "none");
    run->device.fd = -1;
    run->options = &c->options;
    int code = options_parse(&c->options, argc, argv, &run->report.problem);
    run->report.verb = c->options.verb_name;
    if (code || c->options.verb == VERB_HELP || c->options.verb == VERB_VERSION)
        return code;
    code = identity_read(&run->identity, &run->report.problem);
    return code ? code : verbs[c->options.verb](run);
}

void command_free(struct command *c)
{
    device_close(&c->run.device);
    table_free(&c->run.table);
    for (int i = 0; i <= MAX_THREADS; i++)
        free(c->run.buffer[i]);
    report_free(&c->run.report);
    options_free(&c->options);
}
