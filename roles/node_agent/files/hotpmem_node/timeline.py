# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb timeline: how long each phase of a cycle took."""

from __future__ import annotations

import argparse

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.after_boot import CYCLES
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import Records
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import boot_id
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.timeline import lines, systemd_times

from .answer import USAGE, Answer, VerbError
from .boot import boot_of


def timeline(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """The last cycles, the newest last."""
    if args.last < 1:
        raise VerbError(USAGE, "Cannot read the command line", f"--last is {args.last}", "Give a number of 1 or more")
    records = Records(engine.sysfs)
    names = [name for name in engine.sysfs.list(CYCLES) if name.endswith(".json")][-args.last :]
    cycles = [cycle for cycle in (records.read_json(f"{CYCLES}/{name}") for name in names) if cycle]
    # The record is written before systemd reports that the boot has finished.
    for cycle in cycles:
        if cycle.get("timeline") and cycle.get("boot_id") == boot_id(engine.sysfs):
            cycle["timeline"]["systemd"] = systemd_times(boot_of(engine, settings).manager())
    text = [line for cycle in cycles for line in lines(cycle)] or ["no cycle is recorded yet; the first record is written after a restore"]
    return Answer(text, {"cycles": cycles})
