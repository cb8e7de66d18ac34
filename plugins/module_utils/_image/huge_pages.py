# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves the items into huge pages while their units run, so that a save reads them faster.

Without the mount option huge=, the files of a tmpfs have small pages. pmem-state prepare asks the kernel to collapse them into huge
pages (MADV_COLLAPSE of madvise(2), Linux 6.1 and later). Everything here may fail: then the save only takes longer.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Sequence

from .._host.errors import HotpmemError
from .._host.size import format_size
from .._host.sysfs import SHMEM_ENABLED, Sysfs, mount_of, mounted
from .._memory.memory_map import meminfo
from .state_copy import DONE, Helper, Item, failure

_GRACE = 60.0  # seconds beyond its own limit that the helper may take: one huge page, and the list of the files
_STOPPED = {"time": "the time was over", "memory": "no free memory was left in pieces of that size"}


def reason_against(sysfs: Sysfs, items: Sequence[Item], reserve: int, seconds: float, removed: int = 0) -> str:
    """Why the items are left as they are; the empty string when they can be prepared.

    reserve: bytes that must stay available. As much again must be there: to find pieces for huge pages, the kernel may take memory from
    others. seconds: 0 means that it is switched off. removed: bytes that a hot-remove will take away first.
    """
    if not seconds:
        return "hotpmem_prepare_seconds is 0"
    mounts = mounted(sysfs)
    if not any(mount_of(sysfs.real(item.path), mounts).get("type") == "tmpfs" for item in items):
        return "no item is on a tmpfs"
    chosen = re.search(r"\[(\w+)\]", sysfs.get(SHMEM_ENABLED))
    if not chosen or chosen[1] == "deny":
        return f"the kernel does not give a tmpfs huge pages ({SHMEM_ENABLED} {'is deny' if chosen else 'does not exist'})"
    available = meminfo(sysfs.get("/proc/meminfo")).get("MemAvailable", 0) - removed
    if available < 2 * reserve:
        return f"memory is short: {format_size(max(available, 0))} are available, and twice the reserve is {format_size(2 * reserve)}"
    return ""


def prepare(sysfs: Sysfs, helper: Helper, items: Sequence[Item], reserve: int, seconds: float) -> Dict[str, Any]:
    """Move the large files of the items into huge pages, for at most so many seconds. It does not raise HotpmemError.

    Returns ``bytes``, ``huge_bytes``, ``seconds``, ``stopped`` and ``skipped``. bytes: what could be in huge pages. huge_bytes: what is.
    stopped: why it ended early, or None. skipped: why nothing was done, or None.
    """
    found: Dict[str, Any] = {"bytes": 0, "huge_bytes": 0, "seconds": 0.0, "stopped": None, "skipped": None}
    reason = reason_against(sysfs, items, reserve, seconds)
    if not reason:
        try:
            result = helper.call("prepare", items=items, seconds=seconds, timeout=seconds + _GRACE)
            if result["exit"] != DONE:
                raise failure("Cannot move the items into huge pages", result)
            found.update({key: result.get(key) for key in ("bytes", "huge_bytes", "seconds", "stopped")})
        except HotpmemError as error:
            reason = error.said
    return dict(found, skipped=reason or None)


def words(prepared: Mapping[str, Any]) -> str:
    """What prepare() returned, as a sentence for an operator."""
    if prepared["skipped"]:
        return f"the items were not moved into huge pages: {prepared['skipped']}"
    said = f"{format_size(prepared['huge_bytes'])} of {format_size(prepared['bytes'])} lie in huge pages, after {prepared['seconds']:.1f} s"
    return said + (f"; {_STOPPED.get(prepared['stopped'], prepared['stopped'])}" if prepared["stopped"] else "")
