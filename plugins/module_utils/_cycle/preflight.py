# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether a host is ready for a cycle, before anything is changed. It reports every reason at once, with numbers."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from .._host.errors import HotpmemError
from .._host.host_lock import HostLock
from .._host.size import format_range, format_size
from .._host.sysfs import Sysfs, mounted
from .._image.state_copy import DONE, REFUSED, Helper, Item
from .._kernel.kexec_load import Kexec, Target
from .._memory.dax_device import LEAK_TODO, Dax
from .._memory.memory_blocks import Block
from .._memory.memory_map import meminfo
from .._memory.namespace import Namespace, Namespaces

_VERSION = "pmem-state"


def memory_reasons(available: int, removed: int, reserve: int, swap: int = 0) -> List[str]:
    """The reason when too little memory would stay available. All arguments are in bytes.

    MemAvailable does not include tmpfs, so only the removed bytes have to be subtracted. Free swap is reported but not counted:
    writing memory out to it may take longer than the deadline, and the services would have to read it back.
    """
    left = available - removed
    if left >= reserve:
        return []
    said = f"; the {format_size(swap)} of swap that is free does not count" if swap else ""
    return [
        f"only {format_size(max(left, 0))} of memory would stay available after removing {format_size(removed)}: "
        f"{format_size(available)} are available now, and {format_size(reserve)} must stay (short by {format_size(reserve - left)}{said})"
    ]


def huge_warnings(numbers: Mapping[str, int]) -> List[str]:
    """The warnings when huge pages have to move and have too little room of their size. numbers: as MigrationRoom.foreseen() returns.

    They are not reasons: the kernel may compact memory or split huge pages, and programs may give back pages of the hugetlb pool.
    """
    warnings = []
    if numbers["huge_bytes"] > numbers["huge_room_bytes"]:
        warnings.append(
            f"the memory blocks hold {format_size(numbers['huge_bytes'])} of huge pages, and the other zones have only "
            f"{format_size(numbers['huge_room_bytes'])} of free memory in pieces of that size. The hot-remove may take long or fail. "
            "If it does, free memory: stop a service, or remove files from a tmpfs"
        )
    if numbers["hugetlb_bytes"] > numbers["hugetlb_room_bytes"]:
        warnings.append(
            f"the memory blocks hold {format_size(numbers['hugetlb_bytes'])} of the hugetlb pool, and only "
            f"{format_size(numbers['hugetlb_room_bytes'])} of the pool are free. The hot-remove will probably fail. Stop the program that "
            "uses the pool, or raise vm.nr_hugepages while memory is free"
        )
    return warnings


def zone_reasons(blocks: Sequence[Block]) -> List[str]:
    """The reason when some blocks are not in ZONE_MOVABLE: a hot-remove would most likely fail on them."""
    stuck = [block for block in blocks if block.online and block.zone != "Movable"]
    if not stuck:
        return []
    listed = ", ".join(f"{block.number} ({format_range(block.start, block.size)}, zone {block.zone or 'unknown'})" for block in stuck)
    return [
        f"{len(stuck)} of {len(blocks)} memory blocks are not in zone Movable, so they may not go offline: {listed}. "
        "Reboot the host, then run the playbook post_boot. See docs/troubleshooting.md#normal-zone"
    ]


def fit_reasons(plan: Dict[str, Any], capacity: int) -> List[str]:
    """The reasons when the state cannot be saved, or does not fit: one for each item that cannot be saved.

    plan: the result of pmem-state plan. capacity: bytes of the device.
    """
    if plan["exit"] == DONE:
        return []
    reasons = [
        f"pmem-state can't save the item {entry.get('name')} ({entry.get('path')}): {entry['error']}"
        for entry in plan.get("items") or []
        if entry.get("error")
    ]
    if plan["exit"] == REFUSED and plan.get("refused") in (None, "does_not_fit"):
        needed = int(plan.get("needed_bytes") or 0)
        space = int(plan.get("capacity_bytes") or capacity)
        short = format_size(max(needed - space, 0))
        return [
            *reasons,
            f"the state does not fit: it may need {format_size(needed)}, and the region holds {format_size(space)} (short by {short})",
        ]
    if reasons:
        return reasons
    error = plan.get("error") or {}
    said = error.get("said") or plan.get("refused") or "exit code " + str(plan["exit"])
    return [f"pmem-state can't plan the save: {error['what'] + ': ' if error.get('what') else ''}{said}"]


def _reason_of(error: HotpmemError) -> str:
    """An error as one of several reasons."""
    return f"{error.what}: {error.said}. {error.todo}"


class Readiness(NamedTuple):
    """The reasons against a cycle, and the numbers. Under ``warnings`` the numbers have sentences about what may go wrong."""

    reasons: List[str]
    numbers: Dict[str, Any]

    def require(self) -> Dict[str, Any]:
        """Return the numbers. Raises HotpmemError with all reasons when there are any."""
        if self.reasons:
            raise HotpmemError(
                "This host is not ready",
                "; ".join(self.reasons),
                "Nothing was changed. Fix each of these, then try again",
                ok=False,
                reasons=self.reasons,
                numbers=self.numbers,
            )
        return self.numbers


class Preflight:
    """Gathers the numbers, and the reasons of each part of the engine. Changes nothing.

    capacity_of: returns the bytes that a namespace has for the image. check_name: raises HotpmemError when a cycle would replace the
    uuid by which the operator names the namespace.
    """

    def __init__(
        self,
        sysfs: Sysfs,
        namespaces: Namespaces,
        dax: Dax,
        kexec: Kexec,
        helper: Helper,
        *,
        capacity_of: Callable[[Namespace], int] = lambda found: found.size,
        check_name: Callable[[Namespace], None] = lambda found: None,
    ) -> None:
        self.sysfs = sysfs
        self.namespaces = namespaces
        self.dax = dax
        self.kexec = kexec
        self.helper = helper
        self.capacity_of = capacity_of
        self.check_name = check_name

    def check(
        self,
        wanted: str,
        items: Sequence[Item],
        reserve: int,
        with_kexec: bool,
        target: Optional[Target] = None,
        *,
        of_units: Callable[[], List[str]] = list,
    ) -> Readiness:
        """Look at everything that a cycle needs.

        wanted: the namespace, as Namespaces.find() takes it. reserve: bytes that must stay available. with_kexec: also check that the
        kernel can be loaded. target: what to jump to; None means the running kernel. of_units: returns the reasons against stopping the
        units of the items (StateUnits.problems).
        """
        owner = HostLock(self.sysfs).holder()
        # The handoff checks as well, and is itself the owner.
        reasons: List[str] = [owner.words] if owner and owner.pid != os.getpid() else []
        memory = meminfo(self.sysfs.get("/proc/meminfo"))
        available = memory.get("MemAvailable", 0)
        numbers: Dict[str, Any] = {
            "available_bytes": available,
            "total_bytes": memory.get("MemTotal", 0),
            "swap_free_bytes": memory.get("SwapFree", 0),
            "reserve_bytes": reserve,
            "online_bytes": 0,
            "left_bytes": available,
            "region_bytes": None,
            "needed_bytes": None,
            "capacity_bytes": None,
            "huge_bytes": 0,
            "huge_room_bytes": 0,
            "hugetlb_bytes": 0,
            "hugetlb_room_bytes": 0,
            "warnings": [],
        }
        capacity = 0
        try:
            namespace = self.namespaces.find(wanted)
            numbers["region_bytes"] = namespace.size
            capacity = self.capacity_of(namespace)
            reasons += self._memory(namespace, reserve, numbers)
            self.check_name(namespace)
        except HotpmemError as error:
            reasons.append(_reason_of(error))
        reasons += [f"{leak.sentence}. {LEAK_TODO}" for leak in self.dax.leaks()]
        bad = self._items(items)
        reasons += bad.values()
        reasons += self._helper([item for item in items if item.name not in bad], capacity, numbers, not bad)
        if with_kexec:
            reasons += self.kexec.problems(target or self.kexec.target(None, None, None))
        try:
            reasons += of_units()
        except HotpmemError as error:
            reasons.append(_reason_of(error))
        return Readiness(reasons, numbers)

    def _memory(self, namespace: Namespace, reserve: int, numbers: Dict[str, Any]) -> List[str]:
        if not namespace.chardev:
            return []
        device = self.dax.read(namespace.chardev)
        blocks = self.dax.present(device) if device.driver == "kmem" else []
        removed = sum(block.size for block in blocks if block.online)
        numbers["online_bytes"] = removed
        numbers["left_bytes"] = numbers["available_bytes"] - removed
        numbers.update(self.dax.blocks.room.foreseen([(block.start, block.size) for block in blocks if block.online]))
        numbers["warnings"] += huge_warnings(numbers)
        return memory_reasons(numbers["available_bytes"], removed, reserve, numbers["swap_free_bytes"]) + zone_reasons(blocks)

    def _items(self, items: Sequence[Item]) -> Dict[str, str]:
        """The reason against each item that cannot be saved: name -> reason."""
        mounts = {mount["target"] for mount in mounted(self.sysfs)}
        reasons = {}
        for item in items:
            path = self.sysfs.path(item.path)
            if not os.path.lexists(path):
                reasons[item.name] = f"the item {item.name} is missing: {item.path} does not exist"
            elif not os.access(path, os.R_OK):
                reasons[item.name] = f"the item {item.name} can't be read: access to {item.path} is denied"
            elif os.path.normpath(item.path) in mounts:
                reasons[item.name] = (
                    f"the item {item.name} is a mount point ({item.path}). A mount point can't be replaced by a "
                    "restored item: use a directory inside it as the item"
                )
        return reasons

    def _helper(self, items: Sequence[Item], capacity: int, numbers: Dict[str, Any], whole: bool) -> List[str]:
        """The reasons that pmem-state has. whole: these are all items, so its numbers are those of the save."""
        try:
            version = self.helper.version()
        except HotpmemError as error:
            return [f"pmem-state can't be used: {error.said}. Install it with the role state_helper"]
        if not version.startswith(_VERSION):
            return [f"{self.helper.path} is not pmem-state: it calls itself {version!r}"]
        if not items or not capacity:
            return []
        try:
            plan = self.helper.call("plan", items=items, capacity=capacity, timeout=600)
        except HotpmemError as error:
            return [f"pmem-state can't plan the save: {error.said}"]
        if whole:
            numbers["needed_bytes"] = plan.get("needed_bytes")
            numbers["capacity_bytes"] = plan.get("capacity_bytes") or capacity
        return fit_reasons(plan, capacity)
