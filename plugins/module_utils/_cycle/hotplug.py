# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hot-remove and hot-add: turn System RAM into a device for the state image, and back.

Each either succeeds as a whole or is undone, as far as the kernel allows. The image can go to two kinds of device, called roads
(docs/decisions/0005-two-roads.md):

- raw: ndctl converts the namespace to raw, and later back to devdax. The image is on the block device.
- dax: the namespace stays devdax. The image is on the dax device, in memory that was RAM before and becomes RAM again.

A conversion zeroes the header of an image. On the dax road nothing is converted, so this module clears the header. One rule holds
in both directions: when the memory changes hands, the device holds no image, and this was checked by reading it.

The modules memblock_offline, dax_kmem and pmem_namespace offer the single steps. They use the same classes as this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from .._host.errors import HotpmemError
from .._image.state_copy import StateCopy
from .._memory.dax_device import Dax, DaxDevice
from .._memory.memory_blocks import RETRIES
from .._memory.namespace import LEAD, Namespace, Namespaces
from .._memory.namespace_conversion import Converter, Plan, refuse_lost_uuid
from .._memory.system_ram import SystemRam

ROADS = ("raw", "dax")
_MODE = {"raw": "raw", "dax": "devdax"}  # the mode of the namespace that holds an image
_POLICY = "movable"  # only blocks in ZONE_MOVABLE go offline again reliably


@dataclass
class Transition:
    """What a hot-remove or hot-add has to do, and its result.

    changes: one phrase for each step; empty when nothing has to be done. device: the device that can hold an image now, or the
    empty string. before, after: mode and online_bytes; a plan predicts after. blocks: numbers of the memory blocks. Sizes in bytes.
    """

    namespace: Namespace
    device: str
    before: Dict[str, Any]
    after: Dict[str, Any]
    changes: List[str] = field(default_factory=list)
    blocks: List[int] = field(default_factory=list)
    online_bytes: int = 0

    def to_dict(self) -> Dict[str, Any]:
        """As module results show it."""
        return {
            "changed": bool(self.changes),
            "changes": self.changes,
            "namespace": self.namespace.to_dict(),
            "device": self.device or None,
            "blocks": self.blocks,
            "online_bytes": self.online_bytes,
            "before": self.before,
            "after": self.after,
        }


class HotPlug:
    """Hot-remove and hot-add of a namespace, by a road. The caller has just read the namespace (Namespaces.find)."""

    def __init__(
        self, namespaces: Namespaces, dax: Dax, system_ram: SystemRam, converter: Converter, *, copy: StateCopy, road: str = ROADS[0]
    ) -> None:
        self.namespaces = namespaces
        self.dax = dax
        self.system_ram = system_ram
        self.converter = converter
        self.copy = copy
        self.road = road

    def device_of(self, found: Namespace) -> str:
        """The device from which an image can be read now, on either road. The empty string while the memory is System RAM."""
        if found.mode == "raw" and found.blockdev:
            return f"/dev/{found.blockdev}"
        if found.chardev and self.dax.driver_of(found.chardev) == "device_dax":
            return f"/dev/{found.chardev}"
        return ""

    def capacity_of(self, found: Namespace) -> int:
        """Bytes of the device that an image would be saved to. On the dax road the info block does not count."""
        if self.road == "raw":
            return found.size
        return self.dax.read(found.chardev).size if found.chardev else max(found.size - LEAD, 0)

    def check_name(self, found: Namespace) -> None:
        """Raise when a cycle would replace the uuid that the operator asked for it by.

        On the raw road each cycle converts the namespace, on the dax road only the first one may.
        """
        if self.road == "raw" or found.mode != _MODE[self.road]:
            refuse_lost_uuid(found, _MODE[self.road])

    def plan_remove(self, found: Namespace, force: bool = False) -> Transition:
        """What hot_remove() would do. Changes nothing. Raises HotpmemError when hot_remove() would refuse."""
        move = self._standing(found)
        driver = self._plan_kmem(move)
        self._plan_device(move, driver, force)
        if move.changes:
            move.after = {"mode": _MODE[self.road], "online_bytes": 0}
        return move

    def hot_remove(self, found: Namespace, timeout: float, force: bool = False) -> Transition:
        """Take the memory out of System RAM and turn it into a device for an image.

        timeout: seconds until all memory blocks must be offline. force: allow the loss of what the namespace holds; it matters only
        when the memory was not System RAM. When a step fails, the steps before it are undone. Raises HotpmemError.
        """
        move = self.plan_remove(found, force)
        if move.changes:
            was_ram = self._take_from_kmem(found, timeout)
            try:
                self._make_device(self.namespaces.reread(found), was_ram, force)
            except HotpmemError as error:
                if not was_ram:
                    raise
                raise self._added_again(error, found, timeout) from error
            move.namespace = self.namespaces.reread(found)
            move.device, move.after = self.device_of(move.namespace), self._outline(move.namespace)
        if not move.device:
            driver = "nd_pmem" if self.road == "raw" else "device_dax"
            raise HotpmemError(
                f"Cannot hot-remove {move.namespace.name}",
                f"the namespace is in mode {move.namespace.mode}, but has no device to save to",
                f"Load the driver {driver}, then try again. dmesg shows why a driver refuses the namespace",
            )
        return move

    def plan_add(self, found: Namespace, force: bool) -> Transition:
        """What hot_add() would do. Changes nothing. Raises HotpmemError when hot_add() would refuse.

        force: allow the loss of an image that was not restored, or of a file system signature.
        """
        return self._plan_add(found, force)[0]

    def _plan_add(self, found: Namespace, force: bool) -> Tuple[Transition, Plan]:
        """The plan, and the plan of the conversion that it starts with."""
        move = self._standing(found)
        plan = self.converter.plan(found, "devdax", "mem")
        self.converter.allow(plan, force)
        if plan.changes:
            move.changes += [f"make {found.name} devdax", "bind its dax device to kmem and bring its memory blocks online (movable)"]
            move.after = {"mode": "system-ram", "online_bytes": self.system_ram.gain_of(found)}
            return move, plan
        shape = self.system_ram.shape(found.chardev, found.size)
        self.system_ram.check_ram(shape)
        if shape.device.driver == "device_dax":
            self._refuse_image(shape.device, force)
        move.changes = self.system_ram.ram_changes(shape, _POLICY)
        if self.road == "dax" and shape.device.driver != "kmem":
            move.changes.insert(0, f"make sure that {found.chardev} holds no image")
        move.blocks = [block.number for block in shape.blocks]
        move.online_bytes = shape.to_dict()["online_bytes"]
        if move.changes:
            move.after = {"mode": "system-ram", "online_bytes": shape.gained}
        return move, plan

    def hot_add(self, found: Namespace, timeout: float, force: bool) -> Transition:
        """Make the namespace devdax and add its memory to System RAM, in ZONE_MOVABLE.

        timeout: seconds until all memory blocks must be online. force: as for plan_add(). Raises HotpmemError.
        """
        move, plan = self._plan_add(found, force)
        if not move.changes:
            return move
        move.namespace = self.converter.apply(plan)
        shape = self.system_ram.shape(move.namespace.chardev, move.namespace.size)
        self.system_ram.check_ram(shape)
        if shape.device.driver != "kmem":
            self._let_go_of_image(shape.device, force, converted=bool(plan.argv))
            shape = self.system_ram.shape(move.namespace.chardev, move.namespace.size)
        self.system_ram.to_ram(shape, _POLICY, timeout)
        shape = self.system_ram.shape(move.namespace.chardev, move.namespace.size)
        move.blocks = [block.number for block in shape.blocks]
        move.online_bytes = sum(block.size for block in shape.blocks if block.online)
        move.device, move.after = "", self._outline(move.namespace)
        return move

    def _standing(self, found: Namespace) -> Transition:
        now = self._outline(found)
        return Transition(found, self.device_of(found), now, now)

    def _outline(self, found: Namespace) -> Dict[str, Any]:
        """The mode and the online bytes: what before and after compare."""
        if not found.chardev:
            return {"mode": found.mode, "online_bytes": 0}
        shape = self.system_ram.shape(found.chardev, found.size).to_dict()
        return {"mode": shape["mode"], "online_bytes": shape["online_bytes"]}

    def _conversion(self, found: Namespace) -> Plan:
        """The conversion to the mode that this road saves on. kmem must not hold the device, or ndctl refuses."""
        return self.converter.plan(found, _MODE[self.road], "mem" if self.road == "dax" else "")

    def _plan_kmem(self, move: Transition) -> str:
        """Plan how to take the dax device from kmem. Returns the driver that the device is bound to now."""
        found = move.namespace
        if not found.chardev:
            return ""
        shape = self.system_ram.shape(found.chardev, found.size)
        self.dax.refuse_leaked(f"Cannot hot-remove {found.chardev}", shape.device)
        if shape.device.driver == "kmem":
            todo = self.dax.blocks.to_change(shape.blocks, "offline")
            move.blocks = [block.number for block in todo]
            move.online_bytes = sum(block.size for block in todo)
            if todo:
                move.changes.append(f"take the memory blocks {', '.join(map(str, move.blocks))} offline")
            move.changes.append(f"unbind {found.chardev} from kmem")
        return shape.device.driver

    def _plan_device(self, move: Transition, driver: str, force: bool) -> None:
        """Plan how the namespace becomes a device for an image. Raises HotpmemError when data would be lost without force."""
        found, was_ram = move.namespace, driver == "kmem"
        converts = found.mode != _MODE[self.road]
        if not was_ram:
            plan = self._conversion(found)
            self.converter.allow(plan, force)
            converts = bool(plan.changes)
        if converts:
            refuse_lost_uuid(found, _MODE[self.road])
            move.changes.append(f"make {found.name} {_MODE[self.road]}")
        elif self.road == "dax" and not driver:
            move.changes.append(f"bind {found.chardev} to device_dax")
        if self.road == "dax" and (was_ram or converts):
            move.changes.append("make sure that it holds no image")

    def _take_from_kmem(self, found: Namespace, timeout: float) -> bool:
        """Take all memory blocks offline and bind the device to device_dax. Returns False when kmem does not hold it."""
        if not found.chardev or self.dax.driver_of(found.chardev) != "kmem":
            return False
        shape = self.system_ram.shape(found.chardev, found.size)
        before = self.dax.blocks.set_state(shape.blocks, "offline", timeout, RETRIES)
        try:
            self.dax.to_device_dax(shape.device)
        except HotpmemError as error:
            raise self._online_again(error, before) from error
        return True

    def _make_device(self, found: Namespace, was_ram: bool, force: bool) -> None:
        """Bring the namespace into the mode that this road saves on. was_ram: its content was RAM, so nothing in it has to be kept."""
        plan = self._conversion(found)
        self.converter.allow(plan, force or was_ram)
        found = self.converter.apply(plan)
        if self.road != "dax":
            return
        device = self.dax.read(found.chardev)
        if device.driver != "device_dax":
            self.dax.to_device_dax(device)
        if was_ram or plan.argv:
            # Old content of RAM, or of another mode, could look like an image.
            self.copy.clear(f"/dev/{device.name}")
        else:
            self._refuse_image(device, force)

    def _refuse_image(self, device: DaxDevice, force: bool) -> str:
        """Return the image that would be lost, in a few words, or the empty string. Raises HotpmemError when force does not allow it."""
        image = self.converter.image_of(f"/dev/{device.name}")
        if image and not force:
            lost = f"the state image on /dev/{device.name} ({image}), which was not restored"
            raise HotpmemError(
                f"Cannot use {device.name}",
                f"this would destroy {lost}",
                "Restore the image first. To discard it, set force: true (playbook post_boot: -e hotpmem_force=true)",
                destroys=[lost],
            )
        return image

    def _let_go_of_image(self, device: DaxDevice, force: bool, converted: bool) -> None:
        """Clear the image before kmem gets the device. Raises HotpmemError when kmem must not get it.

        kmem uses whole memory blocks only. RAM users do not overwrite a header outside of these blocks, and a later boot would find
        it and restore an old state.
        """
        if converted and self.road != "dax":
            return
        if device.driver != "device_dax":
            # A device that no driver holds can't be read.
            self.dax.to_device_dax(device)
        # The conversion has already checked for an image.
        image = self._refuse_image(device, force or converted)
        if image or self.road == "dax":
            self.copy.clear(f"/dev/{device.name}")

    def _online_again(self, error: HotpmemError, before: List[Any]) -> HotpmemError:
        """Bring the blocks online again after to_device_dax() refused. Returns the error that also says so."""
        done, stuck = self.dax.blocks.put_back(before)
        outcome = f"{len(done)} memory blocks are as before"
        if stuck:
            outcome += f"; these blocks could NOT be put back: {', '.join(str(one['block']) for one in stuck)}"
        return HotpmemError(
            error.what, f"{error.said}; {outcome}", error.todo, **dict(error.details, rolled_back=done, not_rolled_back=stuck)
        )

    def _added_again(self, error: HotpmemError, found: Namespace, timeout: float) -> HotpmemError:
        """Make the memory System RAM again after a failed conversion. Returns the error that also says how that went."""
        try:
            self.hot_add(self.namespaces.reread(found), timeout, force=True)
            outcome, back = "the memory is System RAM again", True
        except HotpmemError as second:
            outcome, back = f"the memory could NOT be made System RAM again ({second.said})", False
        return HotpmemError(error.what, f"{error.said}; {outcome}", error.todo, **dict(error.details, memory_back=back))
