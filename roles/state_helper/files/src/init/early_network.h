/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The network of a jump, started beside the init of the root file system. */
#ifndef EARLY_NETWORK_H
#define EARLY_NETWORK_H

#include "init/early_plan.h"

/* Loads the drivers of the interfaces in its own process, and names the interfaces. Returns at
 * once. It is called with the root file system at /, before anything of it runs. It logs what it
 * can't do, and leaves that to systemd. */
void early_network(const struct early *e);

#endif
