# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods to reach the next boot, and what to undo when that fails.

With the method systemd, systemd stops all other units in order before the jump. The method fast
skips that. It stops only the units in its list, syncs, remounts all file systems read-only and
jumps. The method firmware is an ordinary reboot: no kernel is loaded, and the firmware must keep memory.

The remount is the emergency remount of sysrq (s and u, Documentation/admin-guide/sysrq.rst). Unlike
mount -o remount,ro it does not refuse a busy file system.
"""

from __future__ import annotations

import contextlib
import time
from typing import Callable, List, Optional, Sequence

from .._host.errors import HotpmemError
from .._host.programs import Runner, TimedOut
from .._host.sysfs import Sysfs, unescape_mount
from .._host.systemd import Services

TRIGGER = "/proc/sysrq-trigger"
_SETTLE = 30.0  # seconds until systemd must say that the system is shutting down
_SILENCE = 300.0  # seconds to wait for any answer of systemd: a machine on its way down is slow to answer
_READ_ONLY = 0.5  # seconds to wait for the emergency remount, which the kernel does in the background


def writable(mounts: str) -> List[str]:
    """Mount points of the block devices that are mounted read-write.

    ``mounts`` is the text of /proc/mounts.
    """
    found = []
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) >= 4 and fields[0].startswith("/dev/") and "rw" in fields[3].split(","):
            found.append(unescape_mount(fields[1]))
    return found


class Jump:
    """One jump. ``method`` is systemd, fast or firmware.

    ``fast_stop`` lists the units that the method fast stops, one after another, before the state
    units. ``clock`` and ``pause`` count in seconds.
    """

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
        self.fast_stop = list(fast_stop)
        self.clock = clock
        self.pause = pause
        self.mark: Callable[[], None] = lambda: None  # called just before kexec -e; with systemd, shutdown.sh does that
        self.note: Callable[[List[str]], None] = lambda targets: None  # called before file systems become read-only
        self.going = False  # True once the machine is on its way down; only undo() takes that back
        self.remounted: List[str] = []  # mount points that undo() makes writable again

    @property
    def stops(self) -> List[str]:
        """The units that the jump needs stopped before the state units."""
        return self.fast_stop if self.method == "fast" else []

    @property
    def words(self) -> str:
        """The step in words, for a plan."""
        return f"run {' '.join(self._command)}" if self.by_systemd else "sync and remount the file systems read-only, then run kexec -e"

    @property
    def by_systemd(self) -> bool:
        """True when systemd shuts the machine down in order."""
        return self.method != "fast"

    @property
    def needs_kernel(self) -> bool:
        """True when a kernel has to be loaded for kexec."""
        return self.method != "firmware"

    @property
    def _command(self) -> List[str]:
        return ["systemctl", "kexec" if self.needs_kernel else "reboot"]

    def go(self) -> None:
        """Jump. Raises HotpmemError when the jump did not happen."""
        if self.by_systemd:
            self._systemd()
        else:
            self._fast()

    def undo(self) -> None:
        """Make the file systems writable again that the emergency remount left read-only.

        Tries each of them. Raises HotpmemError that names those that stay read-only; ``remounted`` holds them then.
        """
        self.going = False
        refused, left = [], []
        for target in self.remounted:
            try:
                self.runner.check(["mount", "-o", "remount,rw", target], f"Cannot make {target} writable", "See dmesg", timeout=60)
            except HotpmemError as error:
                refused.append(f"{target}: {error.said}")
                left.append(target)
        self.remounted = left
        if refused:
            raise HotpmemError("Cannot make the file systems writable again", "; ".join(refused), "See dmesg for the reason", left=left)

    def _systemd(self) -> None:
        what, todo = "Cannot jump through systemd", "Run systemctl list-jobs and journalctl -b to see what delays the shutdown"
        # After a time-out systemd may still have started the shutdown; its answer below decides.
        with contextlib.suppress(TimedOut):
            self.runner.check(self._command, what, "See journalctl -b for the reason", timeout=120)
        self.going = True
        began = self.clock()
        while True:
            # A systemctl that fails or is slow says nothing about the shutdown. To take it for a "no" would start services on a
            # machine that is going down.
            stopping: Optional[bool] = None
            with contextlib.suppress(HotpmemError, OSError):
                stopping = self.services.stopping()
            waited = self.clock() - began
            # systemd has accepted the jump. To undo it while it happens would cost the state that was saved.
            if stopping or (stopping is None and waited >= _SILENCE):
                return
            if stopping is False and waited >= _SETTLE:
                raise HotpmemError(what, f"{_SETTLE:g} s after {' '.join(self._command)}, systemd does not shut the system down", todo)
            self.pause(0.2)

    def _fast(self) -> None:
        self.runner.run(["sync"], timeout=60)
        self.remounted = writable(self.sysfs.get("/proc/mounts"))
        self.note(self.remounted)
        self.going = True
        self.sysfs.write(TRIGGER, "s")
        self.sysfs.write(TRIGGER, "u")
        deadline = self.clock() + _READ_ONLY
        while writable(self.sysfs.get("/proc/mounts")) and self.clock() < deadline:
            self.pause(0.02)
        self.mark()
        done = self.runner.run(["kexec", "-e"], timeout=60)
        said = f"kexec -e returned instead of starting the loaded kernel ({done.words})"
        raise HotpmemError("Cannot jump", said, "Look for the reason in the output of dmesg")
