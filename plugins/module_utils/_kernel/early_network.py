# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the network interfaces that the jump's initrd prepares while systemd starts.

The initrd loads their drivers and gives them their names.

A link needs time to come up, and a service is back only when its clients can reach it. udev names
each interface in a separate event, which waits behind the events of all other devices. An interface
that already has its name does not need that event.
"""

from __future__ import annotations

import posixpath
from typing import List

from .._host.sysfs import Sysfs

NET = "/sys/class/net"
MAX_INTERFACES = 16  # init/early_plan.h
_NAME_BYTES = 15  # IFNAMSIZ, without the NUL


def interfaces(sysfs: Sysfs) -> List[str]:
    """Lines of the plan for /init: ``interface DRIVER NAME DEVICE``. DEVICE is a path below /sys/devices.

    Interfaces that share a device are left to udev.
    """
    found = []
    for name in sysfs.list(NET):
        driver = sysfs.link_name(f"{NET}/{name}/device/driver/module")
        if not driver or len(name.encode()) > _NAME_BYTES or len(sysfs.list(f"{NET}/{name}/device/net")) != 1:
            continue
        device = posixpath.relpath(sysfs.real(f"{NET}/{name}/device"), "/sys/devices")
        if not device.startswith("..") and " " not in device:
            found.append(f"interface {driver} {name} {device}")
    return found[:MAX_INTERFACES]
