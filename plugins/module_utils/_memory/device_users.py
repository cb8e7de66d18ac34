# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the users of a block or character device (mounts, swap, device-mapper, processes), and the
signature on it.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Callable, List, Set

from .._host.programs import Runner, ToolMissing
from .._host.sysfs import Sysfs, mounted

_BLOCK = "/sys/class/block"
_SETTLE = 5.0  # seconds that udev workers may keep a new device open


class DeviceUsers:
    """Finds the users of devices below a root. It opens real devices only when the root is ``/``."""

    def __init__(
        self, sysfs: Sysfs, runner: Runner, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.clock = clock
        self.pause = pause

    def stack(self, device: str) -> List[str]:
        """Return the names of the device, its partitions, and all devices on top of them (dm, md, loop)."""
        found: List[str] = []
        todo = [device]
        while todo:
            name = todo.pop(0)
            if name in found:
                continue
            found.append(name)
            base = f"{_BLOCK}/{name}"
            todo += [entry for entry in self.sysfs.list(base) if self.sysfs.exists(f"{base}/{entry}/partition")]
            todo += self.sysfs.list(f"{base}/holders")
        return found

    def held(self, device: str) -> List[str]:
        """Return the reasons why a block device is in use: mounted, swap, or claimed by a driver.

        The reasons are sentences. The list is empty when the device is free.
        """
        names = self.stack(device)
        numbers = {self.sysfs.get(f"{_BLOCK}/{name}/dev"): name for name in names}
        reasons = []
        for mount in mounted(self.sysfs):
            # btrfs and some other file systems report their own device number. Then the mount
            # source names the device.
            name = numbers.get(mount["device"]) or (os.path.basename(mount["source"]) if mount["source"].startswith("/dev/") else "")
            if name in names:
                reasons.append(f"/dev/{name} is mounted on {mount['target']} ({mount['type']})")
        for line in self.sysfs.get("/proc/swaps").splitlines()[1:]:
            name = os.path.basename(line.split()[0]) if line.split() else ""
            if name in names:
                reasons.append(f"/dev/{name} is swap space")
        holders = [name for name in names[1:] if not self.sysfs.exists(f"{_BLOCK}/{name}/partition")]
        if holders:
            reasons.append(f"{', '.join(holders)} {'is' if len(holders) == 1 else 'are'} built on /dev/{device}")
        return sorted(set(reasons)) or self._claimed(device)

    def _claimed(self, device: str) -> List[str]:
        """Open the device with O_EXCL (open(2)).

        This also finds users in another mount namespace and in the kernel.
        """
        if self.sysfs.root != "/" or not os.path.exists(f"/dev/{device}"):
            return []
        try:
            os.close(os.open(f"/dev/{device}", os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            users = "it may be mounted in another mount namespace, or a kernel driver may use it"
            return [f"/dev/{device} cannot be opened exclusively ({error.strerror}): {users}"]
        return []

    def openers(self, devices: List[str]) -> List[str]:
        """Return sentences that name the processes which have one of the devices open or mapped.

        Only root sees them all.

        devices: names of device nodes (``pmem0``, ``dax0.0``). udev reads every new device, so this waits
        some seconds before it reports a udev worker.
        """
        deadline = self.clock() + _SETTLE
        while True:
            found = self._openers(devices)
            if not found or any("udev" not in sentence for sentence in found) or self.clock() >= deadline:
                return found
            self.pause(0.1)

    def _openers(self, devices: List[str]) -> List[str]:
        nodes: Set[int] = set()
        for device in devices:
            try:
                info = os.stat(self.sysfs.path(f"/dev/{device}"))
            except OSError:
                continue
            if stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode):
                nodes.add(info.st_rdev)
        if not nodes:
            return []
        paths = [f"/dev/{device}" for device in devices]
        found = []
        for pid in self.sysfs.list("/proc"):
            if pid.isdigit() and int(pid) != os.getpid() and self._uses(pid, nodes, paths):
                found.append(f"process {pid} ({self.sysfs.get(f'/proc/{pid}/comm', '?')}) has {' or '.join(paths)} open")
        return found

    def _uses(self, pid: str, nodes: Set[int], paths: List[str]) -> bool:
        base = self.sysfs.path(f"/proc/{pid}/fd")
        for descriptor in self.sysfs.list(f"/proc/{pid}/fd"):
            try:
                info = os.stat(os.path.join(base, descriptor))
            except OSError:
                continue
            if info.st_rdev in nodes and not stat.S_ISREG(info.st_mode):
                return True
        # A mapping stays after the process has closed the file descriptor (mmap(2)).
        return any(line.endswith(tuple(f" {path}" for path in paths)) for line in self.sysfs.get(f"/proc/{pid}/maps").splitlines())

    def signature(self, device: str) -> str:
        """Return the signature that blkid(8) finds on a device (``ext4 "data"``, ``crypto_LUKS``),
        or the empty string.
        """
        try:
            done = self.runner.run(["blkid", "-p", "-o", "export", f"/dev/{device}"], timeout=30)
        except ToolMissing:
            return ""
        tags = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)
        kind = tags.get("TYPE") or (f"{tags['PTTYPE']} partition table" if "PTTYPE" in tags else "")
        label = tags.get("LABEL", "")
        return f'{kind} "{label}"' if kind and label else kind
