# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading the next kernel, and knowing which one is loaded.

With ``kexec -s``: kexec_file_load places its segments in System RAM only. The other system call works from the firmware's
map, where the reserved memory is ordinary RAM, and may put the next kernel on top of the saved image; kexec falls back to it
silently unless -s is given. The firmware's map is passed on, so the next command line has to repeat ``memmap=``.

What kexec_file_load loads is hashed again at the jump, byte by byte by the purgatory (arch/x86/purgatory/purgatory.c), and only the other
call can leave that out (``kexec -c -i``: kexec(8), --no-checks). Where that is asked for, it is kept below all persistent memory, and what
it says it has loaded must lie in System RAM, or it is unloaded again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.sysfs import Sysfs
from .._memory.memory_map import Range, physical_map, without
from .command_line import lost_memmaps, next_command_line

LOADED = "/sys/kernel/kexec_loaded"
DISABLED = "/proc/sys/kernel/kexec_load_disabled"
RECORD = "/run/hotpmem/kexec.json"
KERNELS = ("/boot/vmlinuz-{0}", "/usr/lib/modules/{0}/vmlinuz", "/boot/vmlinux-{0}", "/boot/Image-{0}")
INITRDS = ("/boot/initrd.img-{0}", "/boot/initramfs-{0}.img", "/boot/initrd-{0}")
_SEGMENTS = re.compile(r"^nr_segments = (\d+)$", re.MULTILINE)
_SEGMENT = re.compile(r"^segment\[\d+\]\.mem\s*= 0x([0-9a-f]+)\nsegment\[\d+\]\.memsz\s*= 0x([0-9a-f]+)$", re.MULTILINE)


def segments(said: str) -> List[Range]:
    """Where the parts lie that were loaded, from what ``kexec -d`` says (kexec/kexec.c, print_segments); empty unless all are there."""
    found = [(int(start, 16), int(start, 16) + int(size, 16)) for start, size in _SEGMENT.findall(said)]
    count = _SEGMENTS.findall(said)
    return found if count and int(count[-1]) == len(found) else []


@dataclass(frozen=True)
class Target:
    """What is to be loaded. initrd is empty for none. check: whether the purgatory is to hash it at the jump."""

    kernel: str
    initrd: str
    command_line: str
    check: bool = True

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

    def load(self, target: Target) -> str:
        """Load it. Returns why it is checked at the jump although that is not asked for, else nothing. Raises HotpmemError."""
        # Before the attempt: a failed load leaves the old kernel loaded, and the record must not outlive a change.
        self._forget()
        said = "" if target.check else self._load_unchecked(target)
        if said or target.check:
            self._load(target, ["-s"], "kexec -c is no way out: it may overwrite the saved image")
        path = self.sysfs.path(RECORD)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self._describe(target), file)
        os.replace(path + ".new", path)
        return f"what kexec carries is checked at the jump: {said}" if said else ""

    def _load(self, target: Target, options: List[str], todo: str) -> str:
        """Run kexec; what it said. Raises HotpmemError."""
        argv = ["kexec", *options, "-l", target.kernel]
        if target.initrd:
            argv.append(f"--initrd={target.initrd}")
        argv.append(f"--command-line={target.command_line}")
        done = self.runner.run(argv, timeout=120)
        if done.rc != 0 or not self.loaded:
            said = done.words if done.rc else f"kexec answered success, but {LOADED} is {self.sysfs.get(LOADED)}"
            what = f"Cannot load the kernel {target.kernel}"
            todo = f"With secure boot or lockdown the kernel must be signed; dmesg says more. {todo}"
            raise HotpmemError(what, said, todo, argv=argv, rc=done.rc)
        return f"{done.stdout}\n{done.stderr}"

    def _load_unchecked(self, target: Target) -> str:
        """Load it by the other system call; why it is not loaded, or nothing."""
        places = physical_map(self.sysfs.get("/proc/iomem"))
        ram = [(one["start"], one["start"] + one["size"]) for one in places if one["kind"] == "ram"]
        kept = [one["start"] for one in places if one["kind"] != "ram"]
        if not ram or not kept:
            return "/proc/iomem does not tell where persistent memory is"
        try:
            # -d: it says where it puts what.
            said = self._load(target, ["-c", "-i", "-d", f"--mem-max={min(kept) - 1:#x}"], "")
        except HotpmemError as error:
            return error.said.splitlines()[-1]
        loaded = segments(said)
        outside = without(loaded, ram)
        if loaded and not outside:
            return ""
        self.unload()
        where = ", ".join(f"{start:#x}-{end - 1:#x}" for start, end in outside)
        return f"kexec -c put it outside of System RAM ({where})" if loaded else "kexec -c -d does not say where it put it"

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
            "check": target.check,
        }

    def identity(self, name: str) -> Optional[Dict[str, Any]]:
        """What tells a file from what it was before it was written anew: path, size, mtime_ns. None when it is not there."""
        try:
            info = os.stat(self.sysfs.path(name))
        except OSError:
            return None
        return {"path": name, "size": info.st_size, "mtime_ns": info.st_mtime_ns}
