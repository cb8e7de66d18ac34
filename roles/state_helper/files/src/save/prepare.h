/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The verb prepare: moves large files on a tmpfs into huge pages, while programs use them. */
#ifndef PREPARE_H
#define PREPARE_H

#include "image/run.h"

int verb_prepare(struct run *run);

#endif
