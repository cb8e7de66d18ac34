# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the facts about the live machine that the planner of reservations needs."""

from __future__ import annotations

import platform

from .._host.errors import HotpmemError
from .._host.sysfs import Sysfs
from .._memory.memory_blocks import MemoryBlocks
from .._memory.memory_map import read_firmware_map, read_nodes, usable_ram
from .free_memory import Machine


def read_machine(sysfs: Sysfs, architecture: str = "") -> Machine:
    """Read the machine's RAM, block size, NUMA nodes and command line below the root of ``sysfs``.

    ``architecture`` is written as ``uname -m`` prints it; when it is empty, that of this machine is
    used. This never fails. When a fact can't be read, the planner refuses to plan.
    """
    try:
        size = MemoryBlocks(sysfs).block_size()
        nodes = read_nodes(sysfs)
    except HotpmemError:
        size, nodes = 0, {}
    return Machine(tuple(usable_ram(read_firmware_map(sysfs))), size, sysfs.get("/proc/cmdline"), nodes, architecture or platform.machine())
