# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads the next kernel with kexec, and tells which kernel is loaded.

It runs ``kexec -s``, because the system call kexec_file_load places its segments only in System
RAM. With the older call, kexec_load, the program kexec chooses the addresses, on x86 from the
firmware's memory map, in which the reserved memory is ordinary RAM. It may put the next kernel on
top of the saved image, and the kernel would not object. Without -s, kexec falls back to that call
silently. The next kernel gets the firmware's map too, so its command line must repeat ``memmap=``.

So kexec_load is used only with a guard: kexec is told to load below all persistent memory. Then the
addresses that it prints are compared with System RAM, and a kernel that lies outside is unloaded.
There are two reasons to use it:

- The running kernel has no kexec_file_load, as Debian's kernels for arm64.
- The settings omit the check at the jump, in which the purgatory hashes everything that was loaded
  (arch/x86/purgatory/purgatory.c). Only kexec_load can omit it (``-i``; kexec(8), --no-checks).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.records import Records
from .._host.sysfs import Sysfs
from .._memory.memory_map import Range, read_physical_map, without
from .command_line import kexec_limit, lost_reservations, too_long
from .jump_command_line import next_command_line, with_jump_arguments
from .kernel_choice import check_input, choose
from .kernel_files import KernelFiles
from .kexec_hints import UNAVAILABLE, hint, reason

LOADED = "/sys/kernel/kexec_loaded"
DISABLED = "/proc/sys/kernel/kexec_load_disabled"
RECORD = "/run/hotpmem/kexec.json"
UNLOAD = ("kexec", "-a", "-u")
# GICv3: a CPU gets the address of its tables once after a reset (its_cpu_init_lpis in drivers/irqchip/irq-gic-v3-its.c). Only EFI's list
# of persistent reservations tells the next kernel to keep off them (efi_mem_reserve_persistent in drivers/firmware/efi/efi.c).
_ITS = (
    "the interrupt controller (GICv3 with ITS) uses tables in memory that stay where they are over a kexec, and without EFI the next "
    "kernel does not know where; boot the host through EFI, which U-Boot offers too"
)
_BY_HAND = "Don't use kexec -c by hand, because it may overwrite the saved image"
_SEGMENTS = re.compile(r"^nr_segments = (\d+)$", re.MULTILINE)
_SEGMENT = re.compile(r"^segment\[\d+\]\.mem\s*= 0x([0-9a-f]+)\nsegment\[\d+\]\.memsz\s*= 0x([0-9a-f]+)$", re.MULTILINE)


def segments(said: str) -> List[Range]:
    """The address ranges of the loaded segments, from the output of ``kexec -d``.

    Source: kexec-tools, kexec/kexec.c, print_segments. Empty unless the output lists all of them.
    """
    found = [(int(start, 16), int(start, 16) + int(size, 16)) for start, size in _SEGMENT.findall(said)]
    count = _SEGMENTS.findall(said)
    return found if count and int(count[-1]) == len(found) else []


@dataclass(frozen=True)
class Target:
    """What to load. An empty initrd means that the kernel starts without one.

    ``check`` tells whether the purgatory hashes the loaded kernel and initrd at the jump. ``chosen`` says
    which kernel was chosen, when the setting did not name its file. ``refusal`` is the reason why none
    could be chosen; then ``kernel`` is empty.
    """

    kernel: str
    initrd: str
    command_line: str
    check: bool = True
    chosen: str = ""
    refusal: str = ""

    @property
    def words(self) -> str:
        """The kernel and the initrd, for messages."""
        return f"{self.kernel}{f' ({self.chosen})' if self.chosen else ''} with {self.initrd or 'no initrd'}"

    def to_dict(self) -> Dict[str, Any]:
        """The target as module results."""
        return {"kernel": self.kernel, "initrd": self.initrd or None, "command_line": self.command_line}


class Kexec:
    """kexec on one host.

    It reads files below the root of ``sysfs`` and runs the command ``kexec`` with ``runner``.
    ``architecture`` is written as ``uname -m`` prints it; when it is empty, that of this machine is
    used.
    """

    def __init__(self, sysfs: Sysfs, runner: Runner, architecture: str = "") -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.limit = kexec_limit(architecture or platform.machine())  # bytes of a command line, or None

    @property
    def files(self) -> KernelFiles:
        """The kernels and initrds of this host."""
        return KernelFiles(self.sysfs)

    @property
    def loaded(self) -> bool:
        """True when a kernel is loaded."""
        return self.sysfs.get(LOADED) == "1"

    def stock(self) -> Tuple[str, str]:
        """The files of the running kernel and of its initrd. Each is empty when it was not found."""
        kernel = self.files.running()[0]
        return kernel, self.files.initrd_of(kernel)[0]

    def target(self, kernel: Optional[str], initrd: Optional[str], command_line: Optional[str], arguments: Sequence[str] = ()) -> Target:
        """The target to load.

        A kernel or a command line that is left out (None) comes from the running kernel. ``arguments`` are
        added to the command line, if it has room for them. ``kernel`` may be a path, a release, or
        ``newest``, which kernel_choice.py explains. An initrd that is left out is the one that belongs to
        the kernel; it is empty when that does not exist. Raises HotpmemError for a kernel and an initrd
        that can't be meant.
        """
        check_input(kernel, initrd)
        found = choose(self.files, self.runner, kernel)
        if initrd is None:
            initrd = self.files.initrd_of(found.path)[0] if found.initrd is None else found.initrd
        line = next_command_line(self.sysfs.get("/proc/cmdline")) if command_line is None else command_line.strip()
        return Target(
            found.path,
            initrd,
            with_jump_arguments(line, arguments, self.limit),
            chosen=found.words,
            refusal=found.refusal,
        )

    def problems(self, target: Target, without_initrd: bool = False, may_lose_reservation: bool = False) -> List[str]:
        """The reasons why the target can't be loaded, as sentences; empty when there is no known reason.

        ``without_initrd`` allows a target that has no initrd. ``may_lose_reservation`` allows a command
        line without the memmap= and mem= arguments of the running one.
        """
        found = []
        release = self.sysfs.get("/proc/sys/kernel/osrelease") or "?"
        if not self.sysfs.exists(LOADED):
            found.append(f"the running kernel has no kexec support ({LOADED} does not exist; CONFIG_KEXEC or CONFIG_KEXEC_FILE is needed)")
        if self.sysfs.get(DISABLED) == "1":
            found.append("kexec can't load a kernel until the next reboot, because the sysctl kernel.kexec_load_disabled is 1")
        if self.runner.which("kexec") is None:
            found.append("the program kexec is not installed; install the package kexec-tools")
        if " ITS-" in self.sysfs.get("/proc/interrupts") and not self.sysfs.exists("/sys/firmware/efi"):
            found.append(_ITS)
        faults = (self._kernel_fault(target, release), self._initrd_fault(target, release, without_initrd))
        found += [target.refusal] if target.refusal else [one for one in faults if one]
        long = too_long(target.command_line, self.limit)
        if long:
            found.append(f"the command line for the next kernel is too long for kexec: {long}; remove arguments that are not needed")
        lost = lost_reservations(self.sysfs.get("/proc/cmdline"), target.command_line)
        if lost and not may_lose_reservation:
            found.append(
                f"the command line for the next kernel lacks {' '.join(lost)}, so that kernel would use the reserved memory as RAM and "
                "overwrite the saved state"
            )
        return found

    def _kernel_fault(self, target: Target, release: str) -> str:
        if target.kernel:
            return self.files.fault("the kernel", target.kernel)
        return f"the kernel of the running release {release} was not found ({self.files.running()[1]})"

    def _initrd_fault(self, target: Target, release: str, without_initrd: bool) -> str:
        if target.initrd:
            return self.files.fault("the initrd", target.initrd)
        if without_initrd:
            return ""
        owner = f"the kernel {target.kernel}" if target.kernel else f"the running release {release}"
        return f"the initrd of {owner} was not found ({self.files.initrd_of(target.kernel)[1]})"

    def is_loaded(self, target: Target) -> bool:
        """True when exactly this target is loaded.

        That means the same files, unchanged since then, and the same command line.
        """
        return self.loaded and self.record() == self._describe(target)

    def record(self) -> Optional[Dict[str, Any]]:
        """What this collection last loaded in this boot, or None."""
        try:
            value = json.loads(self.sysfs.get(RECORD) or "null")
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def load(self, target: Target) -> str:
        """Load the target. Raises HotpmemError when kexec fails.

        Returns the empty string, or the reason why the check at the jump stays although the target
        leaves it out.
        """
        if target.refusal:
            # The host has changed since its preflight.
            raise HotpmemError("Cannot load a kernel for kexec", target.refusal, "Nothing was loaded")
        # Remove the record before the attempt: a failed load leaves the old kernel loaded, and an
        # old record would be wrong.
        self._forget()
        said = "" if target.check else self._load_guarded(target, ["-i"])
        if said or target.check:
            self._load_checked(target)
        Records(self.sysfs).write_json(RECORD, self._describe(target))
        return f"the loaded kernel is checked at the jump, although jump_check is false: {said}" if said else ""

    def _load_checked(self, target: Target) -> None:
        """Load the target with the check at the jump. Raises HotpmemError."""
        try:
            self._load(target, ["-s"], _BY_HAND)
        except HotpmemError as error:
            # kexec says the same for some images that the kernel refuses. Such an image must not get in by another call.
            if UNAVAILABLE not in error.said or not self._has_only_the_older_call():
                raise
            said = self._load_guarded(target, [])
            if said:
                both = f"{error.said.rstrip('.')}. With the older system call: {said}"
                raise HotpmemError(error.what, both, f"{hint(both, self.sysfs)}. {_BY_HAND}") from error

    def _has_only_the_older_call(self) -> bool:
        """True when the running kernel was built without kexec_file_load. Distributions install this file with the kernel."""
        release = self.sysfs.get("/proc/sys/kernel/osrelease")
        return "# CONFIG_KEXEC_FILE is not set" in self.sysfs.get(f"/boot/config-{release}").splitlines()

    def _load(self, target: Target, options: List[str], todo: str) -> str:
        """Run kexec and return its output. Raises HotpmemError, whose last sentence is ``todo``."""
        argv = ["kexec", *options, "-l", target.kernel]
        if target.initrd:
            argv.append(f"--initrd={target.initrd}")
        argv.append(f"--command-line={target.command_line}")
        done = self.runner.run(argv, timeout=120)
        if done.rc != 0 or not self.loaded:
            said = done.words if done.rc else f"kexec reported success, but {LOADED} is {self.sysfs.get(LOADED)}"
            what = f"Cannot load the kernel {target.kernel} with kexec"
            raise HotpmemError(what, said, f"{hint(said, self.sysfs)}. {todo}", argv=argv, rc=done.rc)
        return f"{done.stdout}\n{done.stderr}"

    def _load_guarded(self, target: Target, options: List[str]) -> str:
        """Load the target with kexec_load, below persistent memory. ``options`` are further options of kexec.

        Returns the reason when that failed, else the empty string. After a failure nothing is loaded by this call.
        """
        places = read_physical_map(self.sysfs)
        ram = [(one["start"], one["start"] + one["size"]) for one in places if one["kind"] == "ram"]
        kept = [one["start"] for one in places if one["kind"] != "ram"]
        if not ram or not kept:
            return "neither /proc/iomem nor /sys/bus/nd/devices shows where persistent memory is"
        try:
            # With -d, kexec prints the address of each segment.
            said = self._load(target, ["-c", *options, "-d", f"--mem-max={min(kept) - 1:#x}"], "")
        except HotpmemError as error:
            return reason(error.said)
        loaded = segments(said)
        outside = without(loaded, ram)
        if loaded and not outside:
            return ""
        self.unload()
        where = ", ".join(f"{start:#x}-{end - 1:#x}" for start, end in outside)
        return f"kexec -c loaded it outside of System RAM ({where})" if loaded else "kexec -c -d did not print where it loaded it"

    def unload(self) -> None:
        """Unload the loaded kernel. Raises HotpmemError."""
        self._forget()
        what, todo = "Cannot unload the kernel that is loaded for kexec", "Look for the reason in the output of dmesg"
        # -a: with kexec_file_load, and with kexec_load where the running kernel lacks that. Unloading overwrites nothing.
        self.runner.check(UNLOAD, what, todo, timeout=60)
        if self.loaded:
            raise HotpmemError(what, f"kexec reported success, but {LOADED} is still 1", todo)

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
        """The path, size (bytes) and mtime_ns of a file, by which a rewritten file is noticed.

        None when it does not exist.
        """
        try:
            info = os.stat(self.sysfs.path(name))
        except OSError:
            return None
        return {"path": name, "size": info.st_size, "mtime_ns": info.st_mtime_ns}
