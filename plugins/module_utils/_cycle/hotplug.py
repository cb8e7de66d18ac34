# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hot-remove and hot-add of a namespace: from System RAM to a device for the state image, and back.

Each either succeeds or is undone, as far as the kernel allows. Two roads lead to the device
(docs/decisions/0005-two-roads.md):

- raw: the namespace is converted to mode raw, and back to devdax.
- dax: the namespace stays devdax. The image is on the dax device itself, in memory that is System
  RAM before and after.

A conversion zeroes the header of an image. On the dax road nothing does that, so this code has to.
Therefore, whenever memory leaves or enters System RAM on that road, this code makes sure that the
device holds no image, and reads it back to verify that.

The modules memblock_offline, dax_kmem and pmem_namespace offer the single steps. They use the same
lower classes as this file.
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
_MODE = {"raw": "raw", "dax": "devdax"}  # the mode of the namespace while it holds an image
_POLICY = "movable"  # only memory blocks in ZONE_MOVABLE are likely to go offline again


@dataclass
class Transition:
    """A planned or finished hot-remove or hot-add.

    ``changes`` lists the steps as verb phrases; it is empty when there is nothing to do. ``device``
    is the device that can hold an image now, or the empty string. ``before`` and ``after`` hold
    ``mode`` and ``online_bytes``; a plan predicts ``after``. ``blocks`` are numbers of memory
    blocks.
    """

    namespace: Namespace
    device: str
    before: Dict[str, Any]
    after: Dict[str, Any]
    changes: List[str] = field(default_factory=list)
    blocks: List[int] = field(default_factory=list)
    online_bytes: int = 0

    def to_dict(self) -> Dict[str, Any]:
        """The transition as module results."""
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
    """Hot-remove and hot-add of a namespace, on one road.

    The methods take a namespace that the caller has just read with Namespaces.find().
    """

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
        """The device on which an image of either road can be read now.

        The empty string when the namespace has no such device, for example because its memory is
        System RAM.
        """
        if found.mode == "raw" and found.blockdev:
            return f"/dev/{found.blockdev}"
        if found.chardev and self.dax.driver_of(found.chardev) == "device_dax":
            return f"/dev/{found.chardev}"
        return ""

    def capacity_of(self, found: Namespace) -> int:
        """The size in bytes of the device that would hold the image.

        On the dax road it does not include the info block.
        """
        if self.road == "raw":
            return found.size
        return self.dax.read(found.chardev).size if found.chardev else max(found.size - LEAD, 0)

    def check_name(self, found: Namespace) -> None:
        """Raise HotpmemError when the operator selected the namespace by a uuid that a cycle would replace.

        On the raw road each cycle converts the namespace. On the dax road only the first cycle may
        do so.
        """
        if self.road == "raw" or found.mode != _MODE[self.road]:
            refuse_lost_uuid(found, _MODE[self.road])

    def plan_remove(self, found: Namespace, force: bool = False) -> Transition:
        """What hot_remove() would do.

        It only reads. Raises HotpmemError when hot_remove() would refuse.
        """
        move = self._standing(found)
        driver = self._plan_kmem(move)
        self._plan_device(move, driver, force)
        if move.changes:
            move.after = {"mode": _MODE[self.road], "online_bytes": 0}
        return move

    def hot_remove(self, found: Namespace, timeout: float, force: bool = False) -> Transition:
        """Remove the memory from System RAM, and make the namespace a device that can hold an image.

        ``timeout`` is in seconds and applies to taking all memory blocks offline. ``force`` allows
        the loss of what a namespace holds that is not System RAM. Raises HotpmemError when a step
        fails, after undoing the steps before it.
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
                f"the namespace is in mode {move.namespace.mode}, but it has no device that can hold an image",
                f"Load the driver {driver}. If it is loaded, look in the output of dmesg why it refuses the namespace",
            )
        return move

    def plan_add(self, found: Namespace, force: bool) -> Transition:
        """What hot_add() would do. It only reads. Raises HotpmemError when hot_add() would refuse.

        ``force`` allows the loss of an image that was not restored, or of a file system signature.
        """
        return self._plan_add(found, force)[0]

    def _plan_add(self, found: Namespace, force: bool) -> Tuple[Transition, Plan]:
        """The transition, and the plan of the conversion that it starts with."""
        move = self._standing(found)
        plan = self.converter.plan(found, "devdax", "mem")
        self.converter.allow(plan, force)
        if plan.changes:
            move.changes += [
                f"convert {found.name} to devdax",
                "bind its dax device to kmem, and bring its memory blocks online (movable)",
            ]
            move.after = {"mode": "system-ram", "online_bytes": self.system_ram.gain_of(found)}
            return move, plan
        shape = self.system_ram.shape(found.chardev, found.size)
        self.system_ram.check_ram(shape)
        if shape.device.driver == "device_dax":
            self._refuse_image(shape.device, force)
        move.changes = self.system_ram.ram_changes(shape, _POLICY)
        if self.road == "dax" and shape.device.driver != "kmem":
            move.changes.insert(0, f"make sure that {found.chardev} holds no state image")
        move.blocks = [block.number for block in shape.blocks]
        move.online_bytes = shape.to_dict()["online_bytes"]
        if move.changes:
            move.after = {"mode": "system-ram", "online_bytes": shape.gained}
        return move, plan

    def hot_add(self, found: Namespace, timeout: float, force: bool) -> Transition:
        """Convert the namespace to devdax, and add its memory to System RAM as movable.

        ``timeout`` is in seconds and applies to bringing the memory blocks online. ``force`` is as
        for plan_add(). Raises HotpmemError.
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
        """The mode and online_bytes of a namespace, for ``before`` and ``after``."""
        if not found.chardev:
            return {"mode": found.mode, "online_bytes": 0}
        shape = self.system_ram.shape(found.chardev, found.size).to_dict()
        return {"mode": shape["mode"], "online_bytes": shape["online_bytes"]}

    def _conversion(self, found: Namespace) -> Plan:
        """The plan to convert the namespace to the mode in which this road saves.

        The dax device must not be bound to kmem, because ndctl would refuse the conversion.
        """
        return self.converter.plan(found, _MODE[self.road], "mem" if self.road == "dax" else "")

    def _plan_kmem(self, move: Transition) -> str:
        """Add the steps that unbind the dax device from kmem.

        Returns the name of the driver that it is bound to now.
        """
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
        """Add the steps that make the namespace a device for an image.

        Raises HotpmemError when they would destroy something.
        """
        found, was_ram = move.namespace, driver == "kmem"
        converts = found.mode != _MODE[self.road]
        if not was_ram:
            plan = self._conversion(found)
            self.converter.allow(plan, force)
            converts = bool(plan.changes)
        if converts:
            refuse_lost_uuid(found, _MODE[self.road])
            move.changes.append(f"convert {found.name} to {_MODE[self.road]}")
        elif self.road == "dax" and not driver:
            move.changes.append(f"bind {found.chardev} to device_dax")
        if self.road == "dax" and (was_ram or converts):
            move.changes.append("make sure that it holds no state image")

    def _take_from_kmem(self, found: Namespace, timeout: float) -> bool:
        """Take all memory blocks offline and bind the dax device to device_dax.

        Returns False when it is not bound to kmem.
        """
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
        """Make the namespace a device to which this road can save.

        ``was_ram`` means that its memory was System RAM until now, so nothing in it needs to be
        kept.
        """
        plan = self._conversion(found)
        self.converter.allow(plan, force or was_ram)
        found = self.converter.apply(plan)
        if self.road != "dax":
            return
        device = self.dax.read(found.chardev)
        if device.driver != "device_dax":
            self.dax.to_device_dax(device)
        if was_ram or plan.argv:
            # Old content of RAM, or of the namespace in another mode, could look like an image.
            self.copy.clear(f"/dev/{device.name}")
        else:
            self._refuse_image(device, force)

    def _refuse_image(self, device: DaxDevice, force: bool) -> str:
        """Describe the image that would be lost, in a few words.

        Empty when the device holds no such image. Raises HotpmemError when the device holds an
        image and ``force`` is False.
        """
        image = self.converter.image_of(f"/dev/{device.name}")
        if image and not force:
            lost = f"the state image on /dev/{device.name} ({image}), which has not been restored"
            raise HotpmemError(f"Cannot use {device.name}", f"it would destroy: {lost}", "To discard it, set force: true", destroys=[lost])
        return image

    def _let_go_of_image(self, device: DaxDevice, force: bool, converted: bool) -> None:
        """Make sure that the device holds no image before it is bound to kmem.

        Raises HotpmemError when it must not be bound. The header may be outside of all whole memory
        blocks. Then the use as RAM does not overwrite it, and a later boot would find an image
        whose state is out of date.
        """
        if converted and self.road != "dax":
            return
        if device.driver != "device_dax":
            # A dax device that is not bound to a driver can't be read.
            self.dax.to_device_dax(device)
        # After a conversion nobody needs the image: the plan was checked for one before.
        image = self._refuse_image(device, force or converted)
        if image or self.road == "dax":
            self.copy.clear(f"/dev/{device.name}")

    def _online_again(self, error: HotpmemError, before: List[Any]) -> HotpmemError:
        """Bring the memory blocks back to their former state after to_device_dax() failed.

        Returns the error to raise.
        """
        done, stuck = self.dax.blocks.put_back(before)
        outcome = f"{len(done)} memory blocks were put back to their former state"
        if stuck:
            outcome += f"; these were NOT put back: {', '.join(str(one['block']) for one in stuck)}"
        said = f"{error.said.rstrip('.')}; {outcome}"
        return HotpmemError(error.what, said, error.todo, **dict(error.details, rolled_back=done, not_rolled_back=stuck))

    def _added_again(self, error: HotpmemError, found: Namespace, timeout: float) -> HotpmemError:
        """Make the memory System RAM again after _make_device() failed.

        Returns the error to raise, with the result of that.
        """
        try:
            self.hot_add(self.namespaces.reread(found), timeout, force=True)
            outcome, back = "the memory is System RAM again", True
        except HotpmemError as second:
            outcome, back = f"the memory could NOT be made System RAM again ({second.said})", False
        said = f"{error.said.rstrip('.')}; {outcome}"
        return HotpmemError(error.what, said, error.todo, **dict(error.details, memory_back=back))
