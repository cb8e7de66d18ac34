# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading the next kernel with kexec_file_load, and knowing which one is loaded.

Always ``kexec -s``: kexec_file_load places its segments in System RAM only. The other system call works from the firmware's
map, where the reserved memory is ordinary RAM, and may put the next kernel on top of the saved image; kexec falls back to it
silently unless -s is given. The firmware's map is passed on, so the next command line has to repeat ``memmap=``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from ._errors import HotpmemError
from ._run import Runner
from ._sysfs import Sysfs

LOADED = "/sys/kernel/kexec_loaded"
DISABLED = "/proc/sys/kernel/kexec_load_disabled"
RECORD = "/run/hotpmem/kexec.json"
KERNELS = ("/boot/vmlinuz-{0}", "/usr/lib/modules/{0}/vmlinuz", "/boot/vmlinux-{0}", "/boot/Image-{0}")
INITRDS = ("/boot/initrd.img-{0}", "/boot/initramfs-{0}.img", "/boot/initrd-{0}")
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')


def words(command_line: str) -> List[str]:
    """Words of a kernel command line; double quotes keep white space inside a word."""
    return _WORD.findall(command_line)


def next_command_line(running: str) -> str:
    """The running command line without what the boot loader added for itself."""
    return " ".join(word for word in words(running) if not word.startswith(("BOOT_IMAGE=", "initrd=")))


def lost_memmaps(running: str, command_line: str) -> List[str]:
    """memmap= values of the running command line that the next one lacks."""
    kept = words(command_line)
    return [word for word in words(running) if word.startswith("memmap=") and word not in kept]


@dataclass(frozen=True)
class Target:
    """What is to be loaded. initrd is empty for none."""

    kernel: str
    initrd: str
    command_line: str

    def to_dict(self) -> Dict[str, Any]:
        """For results."""
        return {"kernel": self.kernel, "initrd": self.initrd or None, "command_line": self.command_line}


class Kexec:
    """kexec below a root (its files) and on this machine (its command)."""

    def __init__(self, sysfs: Sysfs, runner: Runner) -> None:
        self.sysfs = sysfs
        self.runner = runner

    @property
    def loaded(self) -> bool:
        """True when a kernel is loaded."""
        return self.sysfs.get(LOADED) == "1"

    def default(self, patterns: tuple) -> str:
        """The first file of the running release that exists, or the empty string."""
        release = self.sysfs.get("/proc/sys/kernel/osrelease")
        return next((name for name in (pattern.format(release) for pattern in patterns) if release and self.sysfs.exists(name)), "")

    def target(self, kernel: Optional[str], initrd: Optional[str], command_line: Optional[str]) -> Target:
        """Fill in what was left out (None): the running kernel's release, its initrd, the running command line."""
        return Target(
            self.default(KERNELS) if kernel is None else kernel,
            self.default(INITRDS) if initrd is None else initrd,
            next_command_line(self.sysfs.get("/proc/cmdline")) if command_line is None else command_line.strip(),
        )

    def problems(self, target: Target, without_initrd: bool = False, may_lose_memmap: bool = False) -> List[str]:
        """Why the target can't be loaded, as sentences; empty when nothing is known against it."""
        found = []
        release = self.sysfs.get("/proc/sys/kernel/osrelease") or "?"
        if not self.sysfs.exists(LOADED):
            found.append(f"the kernel has no kexec ({LOADED} is not there: CONFIG_KEXEC_FILE)")
        if self.sysfs.get(DISABLED) == "1":
            found.append("loading kernels is disabled until the next reboot (kernel.kexec_load_disabled is 1)")
        if self.runner.which("kexec") is None:
            found.append("the program kexec is not installed (package kexec-tools)")
        if not target.kernel:
            found.append(
                f"no kernel of the running release {release} is in /boot (looked for {', '.join(one.format(release) for one in KERNELS)})"
            )
        elif not self.sysfs.exists(target.kernel):
            found.append(f"the kernel {target.kernel} is not there")
        if target.initrd and not self.sysfs.exists(target.initrd):
            found.append(f"the initrd {target.initrd} is not there")
        if not target.initrd and not without_initrd:
            found.append(
                f"no initrd of the running release {release} is in /boot (looked for {', '.join(one.format(release) for one in INITRDS)})"
            )
        lost = lost_memmaps(self.sysfs.get("/proc/cmdline"), target.command_line)
        if lost and not may_lose_memmap:
            found.append(
                f"the next command line lacks {' '.join(lost)}, so the next kernel would use the reserved memory and "
                "overwrite what is in it"
            )
        return found

    def is_loaded(self, target: Target) -> bool:
        """True when exactly this is loaded: the same files, unchanged since, and the same command line."""
        return self.loaded and self.record() == self._describe(target)

    def record(self) -> Optional[Dict[str, Any]]:
        """What this collection loaded last in this boot, or None."""
        try:
            value = json.loads(self.sysfs.get(RECORD) or "null")
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def load(self, target: Target) -> None:
        """Load it. Raises HotpmemError."""
        argv = ["kexec", "-s", "-l", target.kernel]
        if target.initrd:
            argv.append(f"--initrd={target.initrd}")
        argv.append(f"--command-line={target.command_line}")
        what = f"Cannot load the kernel {target.kernel}"
        # Before the attempt: a failed load leaves the old kernel loaded, and the record must not outlive a change.
        self._forget()
        done = self.runner.run(argv, timeout=120)
        if done.rc != 0 or not self.loaded:
            said = done.words if done.rc else f"kexec answered success, but {LOADED} is {self.sysfs.get(LOADED)}"
            raise HotpmemError(
                what,
                said,
                "With secure boot or lockdown the kernel must be signed; dmesg says more. kexec -c is no way out: it may "
                "overwrite the saved image",
                argv=argv,
                rc=done.rc,
            )
        path = self.sysfs.path(RECORD)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self._describe(target), file)
        os.replace(path + ".new", path)

    def unload(self) -> None:
        """Unload what is loaded. Raises HotpmemError."""
        self._forget()
        self.runner.check(["kexec", "-s", "-u"], "Cannot unload the kernel loaded for kexec", "dmesg says more", timeout=60)
        if self.loaded:
            raise HotpmemError(
                "Cannot unload the kernel loaded for kexec", f"kexec answered success, but {LOADED} is still 1", "dmesg says more"
            )

    def _forget(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.sysfs.path(RECORD))

    def _describe(self, target: Target) -> Dict[str, Any]:
        return {
            "kernel": self.identity(target.kernel),
            "initrd": self.identity(target.initrd) if target.initrd else None,
            "command_line": target.command_line,
        }

    def identity(self, name: str) -> Optional[Dict[str, Any]]:
        """What tells a file from what it was before it was written anew: path, size, mtime_ns. None when it is not there."""
        try:
            info = os.stat(self.sysfs.path(name))
        except OSError:
            return None
        return {"path": name, "size": info.st_size, "mtime_ns": info.st_mtime_ns}
