# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""DAX devices: which driver holds one, what range it covers, and moving it between device_dax and kmem.

Facts from drivers/dax/{bus,kmem}.c: kmem takes only devices named in its ``new_id``, and only with target_node >= 0; it
trims the range to whole memory blocks; unbinding it while a block is online *succeeds* and leaks the memory until reboot.
An id stays after unbinding, and would make kmem grab the next device of that name. From 7.3 a device that kmem holds has a
``state``: ``unplugged`` takes its memory away whole or not at all, and it reads so when kmem holds the device without its memory.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import Callable, List, Optional, Tuple

from .._host.errors import HotpmemError
from .._host.programs import Runner, ToolMissing
from .._host.size import format_range, format_size
from .._host.sysfs import Sysfs
from .memory_blocks import RETRIES, Block, MemoryBlocks, whole_blocks

BUS = "/sys/bus/dax"
DEVICE_NAME = re.compile(r"^dax\d+\.\d+$")
_MODULES = {"kmem": "kmem", "device_dax": "device_dax"}
_UNPLUG = 30.0  # seconds; the blocks are offline already, so it has work only for what somebody brought online meanwhile
LEAK_TODO = "Only a reboot gives it back; before unbinding, blocks have to be taken offline. See docs/troubleshooting.md#leak"


@dataclass(frozen=True)
class DaxDevice:
    """A device on the dax bus. start and size in bytes; driver is ``kmem``, ``device_dax`` or empty (unbound)."""

    name: str
    driver: str
    start: int
    size: int
    align: int
    target_node: int
    state: str

    @property
    def is_ram(self) -> bool:
        """Whether kmem holds it with its memory."""
        return self.driver == "kmem" and self.state != "unplugged"

    def to_dict(self) -> dict:
        """For module results."""
        return {
            "device": self.name,
            "driver": self.driver or None,
            "mode": "system-ram" if self.is_ram else "devdax" if self.driver == "device_dax" else "disabled",
            "start": self.start,
            "size": self.size,
            "range": format_range(self.start, self.size),
            "align": self.align,
            "target_node": self.target_node,
        }


@dataclass(frozen=True)
class Leak:
    """Memory that kmem could not give back: until the next reboot no driver can use its range."""

    device: str
    start: int
    size: int

    @property
    def sentence(self) -> str:
        """For errors and reports."""
        where = f"{format_range(self.start, self.size)}, {format_size(self.size)}" if self.size > 1 else "range hidden without root"
        return f"the memory of {self.device} ({where}) leaked: kmem was unbound while a memory block was online"


def find_leaks(iomem: str, held: List[str]) -> List[Leak]:
    """Leaks in the text of /proc/iomem. held: names of the devices that kmem holds now (their System RAM is in order)."""
    leaks: List[Leak] = []
    owners: List[Tuple[int, str]] = []
    for line in iomem.splitlines():
        match = re.match(r"^( *)([0-9a-f]+)-([0-9a-f]+) : (.*)$", line)
        if not match:
            continue
        depth, name = len(match.group(1)), match.group(4).strip()
        owners = [owner for owner in owners if owner[0] < depth]
        device = next((owner[1] for owner in reversed(owners) if DEVICE_NAME.match(owner[1])), None)
        if name == "System RAM (kmem)" and device is not None and device not in held:
            start, end = int(match.group(2), 16), int(match.group(3), 16)
            leaks.append(Leak(device, start, end - start + 1))
        owners.append((depth, name))
    return leaks


class Dax:
    """The dax bus below a root."""

    def __init__(
        self, sysfs: Sysfs, runner: Runner, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.blocks = MemoryBlocks(sysfs, clock, pause)
        self.clock = clock
        self.pause = pause

    def names(self) -> List[str]:
        """Names of all devices."""
        return [name for name in self.sysfs.list(f"{BUS}/devices") if DEVICE_NAME.match(name)]

    def driver_of(self, name: str) -> str:
        """``kmem``, ``device_dax``, or the empty string."""
        return self.sysfs.link_name(f"{BUS}/devices/{name}/driver")

    def read(self, name: str) -> DaxDevice:
        """One device. Raises HotpmemError when it isn't there, or its range can't be read (it takes root)."""
        base = f"{BUS}/devices/{name}"
        if not DEVICE_NAME.match(name) or not self.sysfs.exists(f"{base}/size"):
            raise HotpmemError(
                f"Cannot use the dax device {name}",
                f"there is no such device; there are: {', '.join(self.names()) or 'none'}",
                "A namespace in mode devdax has one: convert it with pmem_namespace (mode: devdax)",
                device=name,
            )
        # `resource` needs root; mapping0 carries the same on kernels from 5.10.
        start = self.sysfs.find_int(f"{base}/resource")
        if start is None:
            start = self.sysfs.find_int(f"{base}/mapping0/start")
        if start is None:
            raise HotpmemError(
                f"Cannot read the range of {name}", f"{base}/resource can't be read", "Run as root (become: true)", device=name
            )
        return DaxDevice(
            name,
            self.driver_of(name),
            start,
            self.sysfs.get_int(f"{base}/size", 0),
            self.sysfs.get_int(f"{base}/align", 0),
            # The kernel hides the attribute when there is no node.
            self.sysfs.get_int(f"{base}/target_node", -1),
            self.sysfs.get(f"{base}/state"),
        )

    def whole(self, device: DaxDevice) -> range:
        """Numbers of the memory blocks that kmem can make of the device."""
        return whole_blocks(device.start, device.size, self.blocks.block_size())

    def present(self, device: DaxDevice) -> List[Block]:
        """The device's memory blocks that exist now."""
        return self.blocks.present(self.whole(device))

    def leaks(self) -> List[Leak]:
        """Memory that was lost until the next reboot."""
        held = [name for name in self.names() if self.driver_of(name) == "kmem"]
        return find_leaks(self.sysfs.get("/proc/iomem"), held)

    def leak_of(self, name: str) -> Optional[Leak]:
        """The leak of one device, or None."""
        return next((leak for leak in self.leaks() if leak.device == name), None)

    def refuse_leaked(self, what: str, device: DaxDevice) -> None:
        """Raise when the device's memory leaked: whatever is tried next fails in ways that mislead."""
        leak = self.leak_of(device.name)
        if leak is not None:
            raise HotpmemError(what, leak.sentence, LEAK_TODO, leaked=True, device=device.name)

    def why_not_kmem(self, device: DaxDevice) -> Optional[Tuple[str, str]]:
        """(why kmem would refuse the device, what to do), or None."""
        size = self.blocks.block_size()
        if device.target_node < 0:
            return (
                "the firmware gives it no NUMA node (target_node is -1), and kmem refuses that",
                "Use a kernel from 5.10, or describe the memory in the SRAT",
            )
        if not self.whole(device):
            return (
                f"its {format_size(device.size)} ({format_range(device.start, device.size)}) hold no whole memory block of "
                f"{format_size(size)}",
                f"Reserve at least one block, starting 2 MiB below a multiple of {format_size(size)}: see the role reserve_memory",
            )
        return None

    def to_kmem(self, device: DaxDevice, state: str, timeout: float) -> None:
        """Hand the device to kmem and wait until its memory blocks are there.

        state: what the kernel is to bring them to (``online_movable``, ``online_kernel``, ``offline``); whoever calls looks at what
        became of it. timeout: seconds to wait for the blocks. On failure the device goes back to device_dax. Restores auto_online_blocks.
        """
        what = f"Cannot turn {device.name} into System RAM"
        self.refuse_leaked(what, device)
        reason = self.why_not_kmem(device)
        if reason is not None:
            raise HotpmemError(what, reason[0], reason[1], device=device.name)
        self.need_driver("kmem")
        policy = self.blocks.auto_online()
        try:
            # The kernel adds the blocks and brings them online under one lock. Were they offline in between, a udev rule (RHEL's and
            # SUSE's do) would bring them online first, in zone Normal, which they may never leave again.
            if policy not in ("", state):
                self.blocks.set_auto_online(state)
            if device.driver:
                self._driver_write(device.driver, "unbind", device.name)
            try:
                self._driver_write("kmem", "new_id", device.name)
            finally:
                self.forget_id(device.name)
            self._wait_for_blocks(what, device, timeout)
        except HotpmemError as error:
            raise self.undone(error, device, timeout) from error
        finally:
            if policy not in ("", state):
                self.blocks.set_auto_online(policy)

    def check_removable(self, device: DaxDevice) -> None:
        """Raise what to_device_dax would refuse."""
        what = f"Cannot hot-remove {device.name}"
        self.refuse_leaked(what, device)
        online = [block for block in self.present(device) if block.online]
        if online:
            listed = ", ".join(str(block.number) for block in online)
            raise HotpmemError(
                what,
                f"{len(online)} of its memory blocks are online ({listed}); "
                f"unbinding now would lose {format_size(sum(block.size for block in online))} until the next reboot",
                f"Take them offline first: memblock_offline with device: {device.name}",
                blocks=[block.to_dict() for block in online],
                device=device.name,
            )

    def to_device_dax(self, device: DaxDevice) -> None:
        """Take the device from kmem (or from no driver at all) and bind it to device_dax.

        Refuses while any block of its range is online: the kernel would unbind it all the same, and lose the memory.
        """
        what = f"Cannot hot-remove {device.name}"
        self.check_removable(device)
        self.need_driver("device_dax")
        self.forget_id(device.name)
        self._unplug(device)
        if device.driver:
            self._driver_write(device.driver, "unbind", device.name)
        if device.driver == "kmem":
            self.refuse_leaked(what, device)
        if self.read(device.name).driver != "device_dax":
            self._driver_write("device_dax", "bind", device.name)
        after = self.read(device.name)
        if after.driver != "device_dax":
            raise HotpmemError(
                what, f"the kernel answered success, but its driver is {after.driver or 'none'}", "dmesg says why", device=device.name
            )

    def forget_id(self, name: str) -> None:
        """Remove name from kmem's ids. An unknown id is no error."""
        if self.sysfs.exists(f"{BUS}/drivers/kmem/remove_id"):
            self._driver_write("kmem", "remove_id", name)

    def need_driver(self, driver: str) -> None:
        """Load a dax driver when it isn't there."""
        if self.sysfs.exists(f"{BUS}/drivers/{driver}"):
            return
        said = f"there is no {BUS}/drivers/{driver}"
        try:
            done = self.runner.run(["modprobe", _MODULES[driver]], timeout=60)
            said = done.words if done.rc else said
        except ToolMissing as error:
            said = error.said
        if not self.sysfs.exists(f"{BUS}/drivers/{driver}"):
            raise HotpmemError(
                f"Cannot use the driver {driver}",
                said,
                f"Install the kernel module {_MODULES[driver]} (CONFIG_DEV_DAX_KMEM, CONFIG_DEV_DAX)",
                missing=driver,
            )

    def _driver_write(self, driver: str, action: str, name: str) -> None:
        self.sysfs.write(f"{BUS}/drivers/{driver}/{action}", name)

    def _unplug(self, device: DaxDevice) -> None:
        """Have the kernel take the memory away before the unbinding, where it can (7.3).

        A block that somebody brought online after it was looked at goes offline again, or this fails; unbinding would leak it.
        """
        state = f"{BUS}/devices/{device.name}/state"
        if device.driver == "kmem" and self.sysfs.exists(state):
            self.sysfs.write_until(state, "unplugged", _UNPLUG)

    def _wait_for_blocks(self, what: str, device: DaxDevice, timeout: float) -> None:
        if self.read(device.name).driver != "kmem":
            raise HotpmemError(what, "kmem did not take it", "dmesg says why", device=device.name)
        deadline = self.clock() + timeout
        wanted = len(self.whole(device))
        while len(self.present(device)) < wanted:
            if self.clock() >= deadline:
                raise HotpmemError(
                    what,
                    f"{len(self.present(device))} of {wanted} memory blocks appeared within {timeout:g} s",
                    "dmesg says why the kernel did not add the memory",
                    device=device.name,
                )
            self.pause(0.02)

    def undone(self, error: HotpmemError, device: DaxDevice, timeout: float) -> HotpmemError:
        """After a failed hot-add: device_dax again, when that can be had without losing memory. Returns the error that says so.

        timeout: seconds for taking blocks offline again.
        """
        # When that fails, to_device_dax finds them online, refuses to unbind, and says so.
        with contextlib.suppress(HotpmemError):
            self.blocks.set_state(self.present(device), "offline", timeout, RETRIES)
        try:
            self.to_device_dax(self.read(device.name))
            outcome = f"{device.name} is back on device_dax, nothing was lost"
        except HotpmemError as second:
            outcome = f"{device.name} could NOT be put back on device_dax ({second.said})"
        driver = self.driver_of(device.name) or None
        details = dict(error.details, device=device.name, driver=driver)
        return HotpmemError(error.what, f"{error.said}; {outcome}", error.todo, **details)
