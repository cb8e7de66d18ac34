# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ways to jump to the kernel that is loaded, and what has to be undone when one comes back.

systemd shuts the other units down in order. fast does no such thing: it stops what it is told to, syncs, remounts read-only in
an emergency (sysrq s and u: Documentation/admin-guide/sysrq.rst; unlike mount -o remount,ro it does not refuse a busy file
system) and jumps.
"""

from __future__ import annotations

import time
from typing import Callable, List, Sequence

from ._errors import HotpmemError
from ._run import Runner
from ._services import Services
from ._sysfs import Sysfs

TRIGGER = "/proc/sysrq-trigger"
_SETTLE = 30.0  # seconds until the manager must say that it is stopping
_READ_ONLY = 0.5  # seconds that the emergency remount, which runs by itself in the kernel, may take


def writable(mounts: str) -> List[str]:
    """Mount points of block devices that may be written, from /proc/mounts."""
    found = []
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) >= 4 and fields[0].startswith("/dev/") and "rw" in fields[3].split(","):
            found.append(fields[1])
    return found


class Jump:
    """method: systemd or fast. stops: units that fast stops, one after another, before the state units."""

    def __init__(
        self,
        method: str,
        services: Services,
        sysfs: Sysfs,
        runner: Runner,
        *,
        fast_stop: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.method = method
        self.services = services
        self.sysfs = sysfs
        self.runner = runner
        self.stops = list(fast_stop) if method == "fast" else []
        self.clock = clock
        self.pause = pause
        self.mark: Callable[[], None] = lambda: None  # called at the last moment; systemd has a script of its own for that
        self.going = False  # from here on nothing is put back but by undo(): the machine is on its way
        self._remounted: List[str] = []

    @property
    def words(self) -> str:
        """For a plan."""
        return "systemctl kexec" if self.method == "systemd" else "sync, remount read-only, kexec -e"

    def go(self) -> None:
        """Jump. Raises HotpmemError when it did not happen."""
        if self.method == "systemd":
            self._systemd()
        else:
            self._fast()

    def undo(self) -> None:
        """File systems that the emergency remount left read-only are written to again."""
        self.going = False
        for target in self._remounted:
            self.runner.check(["mount", "-o", "remount,rw", target], f"Cannot make {target} writable", "dmesg says why", timeout=60)
        self._remounted = []

    def _systemd(self) -> None:
        self.runner.check(["systemctl", "kexec"], "Cannot jump through systemd", "journalctl -b says why", timeout=120)
        self.going = True
        deadline = self.clock() + _SETTLE
        while True:
            try:
                if self.services.stopping():
                    return
                answered = True
            except (HotpmemError, OSError):
                answered = False
            if self.clock() >= deadline:
                if not answered:
                    # systemd has accepted the jump. To undo it while it happens would cost the state that was saved.
                    return
                said = f"systemctl answered success, but {_SETTLE:g} s later the system is not on its way down"
                raise HotpmemError("Cannot jump through systemd", said, "systemctl list-jobs and journalctl -b say what holds it up")
            self.pause(0.2)

    def _fast(self) -> None:
        self.runner.run(["sync"], timeout=60)
        self._remounted = writable(self.sysfs.get("/proc/mounts"))
        self.going = True
        self.sysfs.write(TRIGGER, "s")
        self.sysfs.write(TRIGGER, "u")
        deadline = self.clock() + _READ_ONLY
        while writable(self.sysfs.get("/proc/mounts")) and self.clock() < deadline:
            self.pause(0.02)
        self.mark()
        done = self.runner.run(["kexec", "-e"], timeout=60)
        raise HotpmemError("Cannot jump", f"kexec -e came back: {done.words}", "dmesg says why")
