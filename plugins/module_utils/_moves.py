# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two moves of a cycle, whole: System RAM -> raw namespace, and back. Each is all or nothing where the kernel lets it be.

The modules offer the steps one by one (memblock_offline, dax_kmem, pmem_namespace); both use the same classes below this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List

from ._conversion import Converter
from ._dax import Dax
from ._errors import HotpmemError
from ._hotplug import HotPlug
from ._namespace import Namespace, Namespaces

_RETRIES = 10  # further passes over memory blocks that answered EBUSY and the like
_POLICY = "movable"  # only blocks in ZONE_MOVABLE can be counted on to go offline again


@dataclass
class Move:
    """What a move takes, and what became of it. changes: sentences; empty when there is nothing to do."""

    namespace: Namespace
    changes: List[str] = field(default_factory=list)
    blocks: List[int] = field(default_factory=list)
    online_bytes: int = 0

    @property
    def device(self) -> str:
        """/dev/pmemN while the namespace is raw, else the empty string."""
        return f"/dev/{self.namespace.blockdev}" if self.namespace.mode == "raw" and self.namespace.blockdev else ""

    def to_dict(self) -> Dict[str, Any]:
        """For results."""
        return {
            "changed": bool(self.changes),
            "changes": self.changes,
            "namespace": self.namespace.to_dict(),
            "device": self.device or None,
            "blocks": self.blocks,
            "online_bytes": self.online_bytes,
        }


class Moves:
    """Hot-remove and hot-add of one namespace. wanted: as Namespaces.find takes it."""

    def __init__(self, namespaces: Namespaces, dax: Dax, hotplug: HotPlug, converter: Converter) -> None:
        self.namespaces = namespaces
        self.dax = dax
        self.hotplug = hotplug
        self.converter = converter

    def plan_remove(self, wanted: str) -> Move:
        """What hot_remove would do. Reads only; raises HotpmemError when it would be refused."""
        found = self.namespaces.find(wanted)
        move = Move(found)
        if found.mode == "raw" and found.enabled:
            return move
        if found.chardev:
            shape = self.hotplug.shape(found.chardev, found.size)
            self.dax.refuse_leaked(f"Cannot hot-remove {found.chardev}", shape.device)
            if shape.device.driver == "kmem":
                todo = self.dax.blocks.to_change(shape.blocks, "offline")
                move.blocks = [block.number for block in todo]
                move.online_bytes = sum(block.size for block in todo)
                if todo:
                    move.changes.append(f"take the memory blocks {', '.join(map(str, move.blocks))} offline")
                move.changes.append(f"take {found.chardev} away from kmem")
        move.changes.append(f"make {found.name} raw")
        return move

    def hot_remove(self, wanted: str, timeout: float) -> Move:
        """Take the memory out of System RAM and make the namespace raw. timeout: seconds for taking all blocks offline.

        When a step fails, those before it are undone. Raises HotpmemError.
        """
        move = self.plan_remove(wanted)
        name = move.namespace.chardev
        if name:
            shape = self.hotplug.shape(name, move.namespace.size)
            if shape.device.driver == "kmem":
                before = self.dax.blocks.set_state(shape.blocks, "offline", timeout, _RETRIES)
                try:
                    self.dax.to_device_dax(shape.device)
                except HotpmemError as error:
                    raise self._online_again(error, before) from error
        if move.changes:
            try:
                # Its content was RAM until a moment ago: there is nothing to keep in it.
                plan = self.converter.plan(wanted, "", "raw")
                self.converter.allow(plan, force=True)
                move.namespace = self.converter.apply(plan)
            except HotpmemError as error:
                raise self._added_again(error, wanted, timeout) from error
        if not move.device:
            raise HotpmemError(
                f"Cannot hot-remove {move.namespace.name}",
                "the namespace is raw, but it has no block device",
                "Load the driver nd_pmem; dmesg says why it refuses the namespace",
            )
        return move

    def plan_add(self, wanted: str, force: bool) -> Move:
        """What hot_add would do. force: an image that was not restored, or a signature, may be lost. Raises HotpmemError."""
        found = self.namespaces.find(wanted)
        move = Move(found)
        plan = self.converter.plan(wanted, "", "devdax", "mem")
        self.converter.allow(plan, force)
        if plan.changes:
            move.changes += [f"make {found.name} devdax", "hand its dax device to kmem and bring its memory blocks online (movable)"]
            return move
        shape = self.hotplug.shape(found.chardev, found.size)
        self.hotplug.check_ram(shape)
        move.changes = self.hotplug.ram_changes(shape, _POLICY)
        move.blocks = [block.number for block in shape.blocks]
        move.online_bytes = shape.to_dict()["online_bytes"]
        return move

    def hot_add(self, wanted: str, timeout: float, force: bool) -> Move:
        """Make the namespace devdax and its memory System RAM, movable. timeout: seconds for the blocks. Raises HotpmemError."""
        move = self.plan_add(wanted, force)
        if not move.changes:
            return move
        plan = self.converter.plan(wanted, "", "devdax", "mem")
        self.converter.allow(plan, force)
        move.namespace = self.converter.apply(plan)
        shape = self.hotplug.shape(move.namespace.chardev, move.namespace.size)
        self.hotplug.check_ram(shape)
        self.hotplug.to_ram(shape, _POLICY, timeout)
        shape = self.hotplug.shape(move.namespace.chardev, move.namespace.size)
        move.blocks = [block.number for block in shape.blocks]
        move.online_bytes = sum(block.size for block in shape.blocks if block.online)
        return move

    def _online_again(self, error: HotpmemError, before: List[Any]) -> HotpmemError:
        """to_device_dax refused: the blocks go back to what they were. Returns the error that says so."""
        done, stuck = self.dax.blocks.put_back(before)
        outcome = f"put back {len(done)} memory blocks"
        if stuck:
            outcome += f"; NOT put back: {', '.join(str(one['block']) for one in stuck)}"
        return HotpmemError(
            error.what, f"{error.said}; {outcome}", error.todo, **dict(error.details, rolled_back=done, not_rolled_back=stuck)
        )

    def _added_again(self, error: HotpmemError, wanted: str, timeout: float) -> HotpmemError:
        """The conversion to raw failed: System RAM again. Returns the error that says what became of it."""
        try:
            self.hot_add(wanted, timeout, force=True)
            outcome, back = "the memory is System RAM again", True
        except HotpmemError as second:
            outcome, back = f"the memory could NOT be made System RAM again ({second.said})", False
        return HotpmemError(error.what, f"{error.said}; {outcome}", error.todo, **dict(error.details, memory_back=back))
