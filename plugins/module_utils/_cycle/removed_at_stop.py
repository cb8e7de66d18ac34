# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out whether systemd removes an item when a unit stops. Such an item would be gone before the save.

Sources: systemd.exec(5), ``RuntimeDirectory=``, ``RuntimeDirectoryPreserve=`` and ``RemoveIPC=``; systemd.mount(5), ``Where=``;
user-runtime-dir@.service(5); logind.conf(5), ``RemoveIPC=``.
"""

from __future__ import annotations

import re
from typing import Mapping

from .._host.sysfs import is_below

PROPERTIES = ("RuntimeDirectory", "RuntimeDirectoryPreserve", "RemoveIPC", "User", "DynamicUser", "Where")
_USER_MANAGER = re.compile(r"user@(\d+)\.service")


def removed_by(unit: str, properties: Mapping[str, str], path: str) -> str:
    """Why a path is removed when the unit stops, and what to do about it, as words. Empty when it is not removed.

    properties: those of the unit that PROPERTIES names. path: systemd may remove what it names, or what symbolic links on its way lead to.
    """
    if unit.endswith(".mount"):
        where = properties.get("Where", "")
        if not where or not is_below(path, where):
            return ""
        return f"it is on {where}. {unit} must not stop with a unit of the items: remove its PartOf=, BindsTo= or Requires="
    if properties.get("RuntimeDirectoryPreserve", "no") != "yes":
        for name in properties.get("RuntimeDirectory", "").split():
            if is_below(path, f"/run/{name}"):
                return f"it has RuntimeDirectory={name}. Set RuntimeDirectoryPreserve=yes, or keep the state in another directory"
    of_user = properties.get("DynamicUser") == "yes" or properties.get("User", "") not in ("", "root", "0")
    if of_user and properties.get("RemoveIPC") == "yes" and is_below(path, "/dev/shm"):  # noqa: S108
        return "it has RemoveIPC=yes. Set RemoveIPC=no"
    manager = _USER_MANAGER.fullmatch(unit)
    if manager and is_below(path, f"/run/user/{manager.group(1)}"):
        return f"/run/user/{manager.group(1)} ends with the user's last unit. Keep the state on another tmpfs"
    if manager and is_below(path, "/dev/shm"):  # noqa: S108
        # By default, for users with a UID from 1000 on.
        return "systemd-logind removes the shared memory of a user who is gone. Keep the state on another tmpfs"
    return ""
