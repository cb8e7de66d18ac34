# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""DAX devices: reads the driver and the range of a device, and moves a device between device_dax and kmem.

Facts from drivers/dax/bus.c and drivers/dax/kmem.c:
- kmem binds only to devices that are named in its ``new_id``, and only when target_node >= 0.
- kmem adds only the whole memory blocks in the range.
- Unbinding kmem while a memory block is online *succeeds*, and leaks the memory until reboot.
- An ID stays in kmem's list after unbinding. kmem would then bind to the next device of that name.
- From kernel 7.3, a device that is bound to kmem has the attribute ``state``. Writing ``unplugged``
  removes all of its memory or nothing. The attribute reads ``unplugged`` while kmem holds the device
  without its memory.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

from .._host.errors import HotpmemError
from .._host.programs import Runner, ToolMissing
from .._host.size import format_range, format_size
from .._host.sysfs import Sysfs
from .memory_blocks import RETRIES, Block, MemoryBlocks, whole_blocks

BUS = "/sys/bus/dax"
DEVICE_NAME = re.compile(r"^dax\d+\.\d+$")
_MODULES = {"kmem": "kmem", "device_dax": "device_dax"}
# Seconds. The blocks are offline by then. The kernel has to move pages only if a block came online
# in the meantime.
_UNPLUG = 30.0
LEAK_TODO = "Only a reboot recovers this memory. Take all memory blocks offline before you unbind kmem. See docs/troubleshooting.md#leak"


@dataclass(frozen=True)
class DaxDevice:
    """A device on the dax bus.

    driver: ``kmem``, ``device_dax``, or empty when no driver is bound. start, size, align: bytes.
    target_node: the NUMA node that the memory would get, or -1. state: the attribute of kernel 7.3
    and later, or empty.
    """

    name: str
    driver: str
    start: int
    size: int
    align: int
    target_node: int
    state: str

    @property
    def is_ram(self) -> bool:
        """True when the memory of the device is System RAM: kmem is bound, and the memory is not unplugged."""
        return self.driver == "kmem" and self.state != "unplugged"

    def to_dict(self) -> Dict[str, Any]:
        """Return the device as a dict for a module result."""
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
    """Memory that kmem lost when it was unbound.

    No driver can use its range until the next reboot. start, size: bytes.
    """

    device: str
    start: int
    size: int

    @property
    def sentence(self) -> str:
        """Describe the leak in an error or a report."""
        where = (
            f"{format_range(self.start, self.size)}, {format_size(self.size)}" if self.size > 1 else "range hidden: only root can read it"
        )
        return f"the memory of {self.device} ({where}) leaked: kmem was unbound while a memory block was online"


def find_leaks(iomem: str, held: List[str]) -> List[Leak]:
    """Return the leaks that the text of /proc/iomem shows.

    A leak is a range ``System RAM (kmem)`` under a dax device to which kmem is not bound.
    held: names of the devices to which kmem is bound.
    """
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
    """Reads and moves the devices on the dax bus below a root.

    clock, pause: time in seconds, replaced in tests.
    """

    def __init__(
        self, sysfs: Sysfs, runner: Runner, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.blocks = MemoryBlocks(sysfs, clock, pause)
        self.clock = clock
        self.pause = pause

    def names(self) -> List[str]:
        """Return the names of all dax devices."""
        return [name for name in self.sysfs.list(f"{BUS}/devices") if DEVICE_NAME.match(name)]

    def driver_of(self, name: str) -> str:
        """Return ``kmem``, ``device_dax``, or the empty string when no driver is bound."""
        return self.sysfs.link_name(f"{BUS}/devices/{name}/driver")

    def read(self, name: str) -> DaxDevice:
        """Read a device.

        Raises HotpmemError when it does not exist, or when its range cannot be read (only root
        can).
        """
        base = f"{BUS}/devices/{name}"
        if not DEVICE_NAME.match(name) or not self.sysfs.exists(f"{base}/size"):
            names = self.names()
            existing = f"the existing dax devices are: {', '.join(names)}" if names else "this host has no dax devices"
            raise HotpmemError(
                f"Cannot use the dax device {name}",
                f"the device does not exist; {existing}",
                "To create a dax device, convert a namespace to devdax with the module pmem_namespace (mode: devdax)",
                device=name,
            )
        # Only root can read `resource`. From kernel 5.10, mapping0 holds the same address.
        start = self.sysfs.find_int(f"{base}/resource")
        if start is None:
            start = self.sysfs.find_int(f"{base}/mapping0/start")
        if start is None:
            said = f"the file {base}/resource is not readable"
            raise HotpmemError(f"Cannot read the range of {name}", said, "Run as root (become: true)", device=name)
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
        """Return the numbers of the memory blocks that lie completely in the device: kmem can add
        only these.
        """
        return whole_blocks(device.start, device.size, self.blocks.block_size())

    def present(self, device: DaxDevice) -> List[Block]:
        """Return the memory blocks of the device that exist now."""
        return self.blocks.present(self.whole(device))

    def leaks(self) -> List[Leak]:
        """Return all memory that leaked in this boot."""
        held = [name for name in self.names() if self.driver_of(name) == "kmem"]
        return find_leaks(self.sysfs.get("/proc/iomem"), held)

    def leak_of(self, name: str) -> Optional[Leak]:
        """Return the leak of a device, or None."""
        return next((leak for leak in self.leaks() if leak.device == name), None)

    def refuse_leaked(self, what: str, device: DaxDevice) -> None:
        """Raise HotpmemError when the memory of the device leaked.

        Any later step would fail with a misleading error.
        """
        leak = self.leak_of(device.name)
        if leak is not None:
            raise HotpmemError(what, leak.sentence, LEAK_TODO, leaked=True, device=device.name)

    def why_not_kmem(self, device: DaxDevice) -> Optional[Tuple[str, str]]:
        """Return (the reason why kmem would reject the device, what to do), or None when kmem would
        accept it.
        """
        size = self.blocks.block_size()
        if device.target_node < 0:
            return (
                "the firmware assigns it no NUMA node (target_node is -1), and kmem rejects such a device",
                "Use kernel 5.10 or later, or a firmware whose SRAT table describes the memory",
            )
        if not self.whole(device):
            return (
                f"its range of {format_size(device.size)} ({format_range(device.start, device.size)}) contains "
                f"no whole memory block of {format_size(size)}",
                f"Reserve at least one memory block, and start the reservation 2 MiB below a multiple of {format_size(size)}. "
                "See the role reserve_memory",
            )
        return None

    def to_kmem(self, device: DaxDevice, state: str, timeout: float) -> None:
        """Bind kmem to the device, and wait until its memory blocks exist.

        state: the state that the kernel gives to the new blocks: ``online_movable``, ``online_kernel`` or
        ``offline``. The caller must check the result. timeout: seconds to wait for the blocks.

        auto_online_blocks is set to state for this time, and set back at the end. Raises HotpmemError;
        the device is then bound to device_dax again, or the message says why this was not possible.
        """
        what = f"Cannot turn {device.name} into System RAM"
        self.refuse_leaked(what, device)
        reason = self.why_not_kmem(device)
        if reason is not None:
            raise HotpmemError(what, reason[0], reason[1], device=device.name)
        self.need_driver("kmem")
        policy = self.blocks.auto_online()
        try:
            # With this policy, the kernel adds the blocks and brings them online under one lock. If they
            # were offline in between, a udev rule (RHEL and SUSE have one) could bring them online first,
            # in zone Normal, and they might never leave it.
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
        """Raise HotpmemError when to_device_dax() would refuse the device. Changes nothing."""
        what = f"Cannot hot-remove {device.name}"
        self.refuse_leaked(what, device)
        online = [block for block in self.present(device) if block.online]
        if online:
            listed = ", ".join(str(block.number) for block in online)
            subject = f"memory block {listed} is" if len(online) == 1 else f"memory blocks {listed} are"
            raise HotpmemError(
                what,
                f"{subject} online, and unbinding kmem now "
                f"would lose {format_size(sum(block.size for block in online))} until the next reboot",
                f"First take the blocks offline with the module memblock_offline (device: {device.name})",
                blocks=[block.to_dict() for block in online],
                device=device.name,
            )

    def to_device_dax(self, device: DaxDevice) -> None:
        """Unbind kmem, if it is bound, and bind device_dax.

        Raises HotpmemError while a block of the device is online, because the kernel would unbind
        kmem in spite of this and lose the memory.
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
            bound = f"bound to {after.driver}" if after.driver else "not bound to a driver"
            said = f"the kernel reported success, but the device is {bound}"
            raise HotpmemError(what, said, "See dmesg for the reason", device=device.name)

    def forget_id(self, name: str) -> None:
        """Remove name from the list of device IDs of kmem.

        Does nothing when the list does not contain it.
        """
        if self.sysfs.exists(f"{BUS}/drivers/kmem/remove_id"):
            self._driver_write("kmem", "remove_id", name)

    def need_driver(self, driver: str) -> None:
        """Load a dax driver (``kmem`` or ``device_dax``) if it is not loaded.

        Raises HotpmemError when that fails.
        """
        if self.sysfs.exists(f"{BUS}/drivers/{driver}"):
            return
        said = f"{BUS}/drivers/{driver} does not exist"
        try:
            done = self.runner.run(["modprobe", _MODULES[driver]], timeout=60)
            said = done.words if done.rc else said
        except ToolMissing as error:
            said = error.said
        if not self.sysfs.exists(f"{BUS}/drivers/{driver}"):
            raise HotpmemError(
                f"Cannot use the driver {driver}",
                said,
                f"Install the kernel module {_MODULES[driver]} (kernel options CONFIG_DEV_DAX and CONFIG_DEV_DAX_KMEM)",
                missing=driver,
            )

    def _driver_write(self, driver: str, action: str, name: str) -> None:
        self.sysfs.write(f"{BUS}/drivers/{driver}/{action}", name)

    def _unplug(self, device: DaxDevice) -> None:
        """Make the kernel remove the memory before kmem is unbound. Only kernel 7.3 and later can do this.

        A block may have come online after check_removable(). The kernel then takes it offline again, or
        this raises SystemCallError. Without this step, unbinding would leak the block.
        """
        state = f"{BUS}/devices/{device.name}/state"
        if device.driver == "kmem" and self.sysfs.exists(state):
            self.sysfs.write_until(state, "unplugged", _UNPLUG)

    def _wait_for_blocks(self, what: str, device: DaxDevice, timeout: float) -> None:
        if self.read(device.name).driver != "kmem":
            raise HotpmemError(what, "kmem did not bind to it", "See dmesg for the reason", device=device.name)
        deadline = self.clock() + timeout
        wanted = len(self.whole(device))
        while len(self.present(device)) < wanted:
            if self.clock() >= deadline:
                raise HotpmemError(
                    what,
                    f"only {len(self.present(device))} of {wanted} memory blocks appeared within {timeout:g} s",
                    "See dmesg for the reason why the kernel did not add the memory",
                    device=device.name,
                )
            self.pause(0.02)

    def undone(self, error: HotpmemError, device: DaxDevice, timeout: float) -> HotpmemError:
        """Bind the device to device_dax again after a failed hot-add, unless that would lose memory.

        Returns an error to raise: the given error, with the outcome added. timeout: seconds for taking
        the blocks offline again.
        """
        # If a block stays online, to_device_dax() refuses to unbind kmem, and its message says so.
        with contextlib.suppress(HotpmemError):
            self.blocks.set_state(self.present(device), "offline", timeout, RETRIES)
        try:
            self.to_device_dax(self.read(device.name))
            outcome = f"{device.name} is bound to device_dax again, and no memory was lost"
        except HotpmemError as second:
            outcome = f"{device.name} could NOT be bound to device_dax again ({second.said})"
        driver = self.driver_of(device.name) or None
        details = dict(error.details, device=device.name, driver=driver)
        return HotpmemError(error.what, f"{error.said}; {outcome}", error.todo, **details)
