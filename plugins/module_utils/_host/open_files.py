# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes have files below a path open or mapped.

Sources: proc_pid_fd(5), proc_pid_maps(5), proc_pid_cgroup(5). Only root sees the files of other users' processes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from .sysfs import Sysfs, is_below

_UNIT = re.compile(r"/([^/]+\.(?:service|scope|socket|mount|slice))(?=/|$)")
_DELETED = " (deleted)"


@dataclass(frozen=True)
class FileUser:
    """A process that has a file open or mapped. unit is empty for a process outside every unit, such as a kernel thread.

    inner: its unit in the manager that runs inside unit, such as that of a user. Empty when no such manager started the process.
    """

    pid: int
    name: str
    unit: str
    path: str
    inner: str = ""

    @property
    def words(self) -> str:
        """For messages: ``process 812 (postgres) of postgresql@15-main.service has /srv/db/base/1 open``."""
        of_unit = "".join(f" of {unit}" for unit in (self.inner, self.unit) if unit)
        return f"process {self.pid} ({self.name}){of_unit} has {self.path} open"


def file_users(sysfs: Sysfs, paths: Sequence[str]) -> List[FileUser]:
    """One entry for each process that has a file at or below one of the paths open or mapped. Processes may end meanwhile.

    Paths are absolute and without symbolic links: the kernel shows the real path of a file.
    """
    found: List[FileUser] = []
    for entry in sysfs.list("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        path = _first_below(sysfs, entry, paths)
        if path:
            unit, inner = units_of(sysfs.get(f"/proc/{entry}/cgroup"))
            found.append(FileUser(int(entry), sysfs.get(f"/proc/{entry}/comm", "?"), unit, path, inner))
    return found


def units_of(cgroup: str) -> Tuple[str, str]:
    """The unit in the text of /proc/PID/cgroup, of either cgroup version, and the unit of a manager inside it. Both may be empty.

    The outermost unit is the one that systemd stops, as in cg_path_get_unit(). A user's manager, or a container, has units inside it.
    """
    units: Dict[str, None] = {}
    for line in cgroup.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and fields[1] in ("", "name=systemd"):
            units.update(dict.fromkeys(_UNIT.findall(fields[2])))
    names = [name for name in units if not name.endswith(".slice")]
    return (names[0], names[-1] if len(names) > 1 else "") if names else ("", "")


def manager_of(sysfs: Sysfs, unit: str) -> str:
    """The unit, such as user@1000.service, whose manager runs a unit of this name; the empty string when none does."""
    for entry in sysfs.list("/proc"):
        outer, inner = units_of(sysfs.get(f"/proc/{entry}/cgroup")) if entry.isdigit() else ("", "")
        if inner == unit:
            return outer
    return ""


def _first_below(sysfs: Sysfs, pid: str, wanted: Sequence[str]) -> str:
    """The first file of the process at or below a wanted path, or the empty string."""
    for descriptor in sysfs.list(f"/proc/{pid}/fd"):
        path = sysfs.link(f"/proc/{pid}/fd/{descriptor}")
        if _counts(path, wanted):
            return path
    # address perms offset dev inode path; anonymous memory has no path.
    for line in sysfs.get(f"/proc/{pid}/maps").splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and _counts(fields[5], wanted):
            return fields[5]
    return ""


def _counts(path: str, wanted: Sequence[str]) -> bool:
    # A deleted file is not saved. Whoever has it open does not change the item.
    return not path.endswith(_DELETED) and any(is_below(path, one) for one in wanted)
