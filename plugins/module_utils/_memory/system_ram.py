# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hot-adds the memory of a dax device to System RAM. When a step fails, the steps before it are undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from .._host.errors import HotpmemError
from .dax_device import Dax, DaxDevice
from .memory_blocks import RETRIES, Block, summary, whole_blocks
from .namespace import LEAD, Namespace

POLICIES = {"movable": "online_movable", "kernel": "online_kernel", "none": ""}


@dataclass(frozen=True)
class Shape:
    """The present use of a dax device.

    blocks: its memory blocks, when kmem is bound. gained: bytes that the device adds to System RAM.
    lost: reserved bytes that cannot become System RAM, because they lie outside whole memory blocks.
    """

    device: DaxDevice
    blocks: List[Block]
    gained: int
    lost: int

    def to_dict(self) -> Dict[str, Any]:
        """Return the mode and the blocks as a dict, for ``before`` and ``after`` in a module result."""
        return {"mode": self.device.to_dict()["mode"], **summary(self.blocks)}


class SystemRam:
    """Hot-adds dax devices, and predicts the result for check mode."""

    def __init__(self, dax: Dax) -> None:
        self.dax = dax

    def shape(self, name: str, reserved: Optional[int] = None) -> Shape:
        """Read the device with this name. Raises HotpmemError.

        reserved: the size of its namespace in bytes. ``lost`` is computed from it, or from the size of
        the device when it is not given.
        """
        device = self.dax.read(name)
        blocks = self.dax.present(device) if device.driver == "kmem" else []
        gained = len(self.dax.whole(device)) * self.dax.blocks.block_size()
        return Shape(device, blocks, gained, max(reserved or 0, device.size) - gained)

    def gain_of(self, namespace: Namespace) -> int:
        """Return the bytes that a namespace would add to System RAM if it were converted to devdax.

        The info block of devdax (map=mem) occupies the start of the namespace: see LEAD.
        """
        if namespace.start is None:
            return 0
        size = self.dax.blocks.block_size()
        return len(whole_blocks(namespace.start + LEAD, max(namespace.size - LEAD, 0), size)) * size

    def ram_changes(self, shape: Shape, policy: str) -> List[str]:
        """Describe the steps of to_ram(). The list is empty when there is nothing to do."""
        changes = []
        if not shape.device.is_ram:
            changes.append(f"bind {shape.device.name} to kmem")
            if POLICIES[policy]:
                changes.append(f"bring {len(self.dax.whole(shape.device))} memory blocks online ({POLICIES[policy]})")
        elif POLICIES[policy]:
            wrong = self.dax.blocks.to_change(shape.blocks, POLICIES[policy])
            if wrong:
                changes.append(f"bring memory blocks {', '.join(str(block.number) for block in wrong)} to {POLICIES[policy]}")
        return changes

    def as_ram(self, shape: Shape, policy: str) -> Dict[str, Any]:
        """Predict the result of to_dict() after to_ram()."""
        if not POLICIES[policy]:
            if shape.device.is_ram:
                return shape.to_dict()
            return {"mode": "system-ram", "online_bytes": 0, "blocks": {"offline": len(self.dax.whole(shape.device))}}
        return {"mode": "system-ram", "online_bytes": shape.gained, "blocks": {POLICIES[policy]: len(self.dax.whole(shape.device))}}

    def check_ram(self, shape: Shape) -> None:
        """Raise HotpmemError when to_ram() would refuse the device. Changes nothing."""
        if shape.device.is_ram:
            return
        what = f"Cannot turn {shape.device.name} into System RAM"
        self.dax.refuse_leaked(what, shape.device)
        reason = self.dax.why_not_kmem(shape.device)
        if reason is not None:
            raise HotpmemError(what, reason[0], reason[1], device=shape.device.name)

    def to_ram(self, shape: Shape, policy: str, timeout: float) -> None:
        """Hot-add a device: bind kmem and bring the memory blocks online.

        policy: a key of POLICIES. timeout: seconds for the blocks. Raises HotpmemError after the steps
        that succeeded are undone.
        """
        device, fresh = shape.device, not shape.device.is_ram
        if fresh:
            self.dax.to_kmem(device, POLICIES[policy] or "offline", timeout)
        if not POLICIES[policy]:
            return
        try:
            self.dax.blocks.set_state(self.dax.present(device), POLICIES[policy], timeout, RETRIES)
        except HotpmemError as error:
            if not fresh:
                raise
            raise self.dax.undone(error, device, timeout) from error
