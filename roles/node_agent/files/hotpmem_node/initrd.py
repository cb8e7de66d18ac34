# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb jump-initrd: build the initrd for the jump before a handoff needs it."""

from __future__ import annotations

import argparse

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.host_lock import HostLock

from .answer import Answer


def jump_initrd(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Build the initrd, even if the settings do not use it. A failed build is not an error, because the stock initrd remains."""
    with HostLock(engine.sysfs).acting("building the initrd", wait=60):
        made = engine.jump_initrd.build(args.again)
    return Answer([made["said"]], made)
