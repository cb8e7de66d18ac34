# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interfaces that the initrd of a jump has the drivers loaded for, and gives their names, beside the start of systemd.

A link takes its time to come up, and a service is back when its clients reach it. udev gives an interface its name by an event of its own,
which waits behind those of all other devices; one that has its name already needs none.
"""

from __future__ import annotations

import os
import posixpath
from typing import List

from .._host.sysfs import Sysfs

NET = "/sys/class/net"
MAX_INTERFACES = 16  # init/early_plan.h
_NAME_BYTES = 15  # IFNAMSIZ, without the NUL


def interfaces(sysfs: Sysfs) -> List[str]:
    """Lines for /init: ``interface DRIVER NAME DEVICE``, the last below /sys/devices. Those that share a device are left to udev."""
    found = []
    devices = os.path.realpath(sysfs.path("/sys/devices"))
    for name in sysfs.list(NET):
        driver = sysfs.link_name(f"{NET}/{name}/device/driver/module")
        if not driver or len(name.encode()) > _NAME_BYTES or len(sysfs.list(f"{NET}/{name}/device/net")) != 1:
            continue
        device = posixpath.relpath(os.path.realpath(sysfs.path(f"{NET}/{name}/device")), devices)
        if not device.startswith("..") and " " not in device:
            found.append(f"interface {driver} {name} {device}")
    return found[:MAX_INTERFACES]
