# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the newest installed kernel, and refuses one that is not completely installed.

Only kernels of the flavour of the running one count, so that a host that runs Debian's cloud kernel does
not change to the one for real time. The order of the versions is the distribution's.

An installation writes the kernel, its modules and its initrd one after the other. A jump to a kernel
without its modules or its initrd would end in a machine that does not find its root file system.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from typing import List, Tuple

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.sysfs import Sysfs
from . import boot_entries
from .kernel_files import KernelFiles
from .version_order import flavour, newest, orders_of

NEWEST = "newest"
OSTREE = "/run/ostree-booted"
# dpkg and rpm hold a write lock (fcntl) on these while they change the system.
LOCKS = ("/var/lib/dpkg/lock", "/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock")
_MODULES = ("/lib/modules/{0}/modules.dep", "/usr/lib/modules/{0}/modules.dep")
# Debian builds the initrds when it handles the triggers of these packages.
_BUILDERS = ("initramfs-tools", "dracut")
_COMPLETE = "installed"  # dpkg-query(1), db:Status-Status
_GONE = ("not-installed", "config-files")
_FLOCK = "hhqqiq"  # struct flock of fcntl(2): type, whence, start, length, pid, and room at its end


@dataclass(frozen=True)
class Installed:
    """A kernel that is completely installed: its release, its file, and its own initrd."""

    version: str
    path: str
    initrd: str


NOTHING = Installed("", "", "")


def locked(path: str) -> bool:
    """True when another process holds a write lock (fcntl) on the file."""
    try:
        with open(path, "rb") as file:
            asked = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0, 0)
            held: int = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))[0]
            return held != fcntl.F_UNLCK
    except OSError:
        return False


class NewestKernel:
    """The newest installed kernel of one host."""

    def __init__(self, sysfs: Sysfs, runner: Runner) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.files = KernelFiles(sysfs)

    def version(self) -> Tuple[str, str]:
        """The release of the newest installed kernel, or the empty string with the reason why it can't be told."""
        running = self.files.release
        if not running:
            return "", "/proc/sys/kernel/osrelease can't be read"
        if self.sysfs.exists(OSTREE):
            return "", f"ostree manages the kernels ({OSTREE} exists), and each has a root file system that only its boot entry names"
        missing = boot_entries.not_mounted(self.sysfs)
        if missing:
            return "", f"{', '.join(missing)} is in {boot_entries.FSTAB} but not mounted"
        installed = self.files.releases()
        same = [release for release in installed if flavour(release) == flavour(running)]
        if not same:
            return "", self._nothing(installed, running)
        found = newest(same, orders_of(self.sysfs.get("/etc/os-release") or self.sysfs.get("/usr/lib/os-release")))
        if len(found) > 1:
            return "", f"Debian's order of versions says {found[0]}, rpm's says {found[1]}, and /etc/os-release does not tell which counts"
        return found[0], ""

    def choose(self) -> Tuple[Installed, str]:
        """The newest kernel with its own initrd. When it can't be used: NOTHING, and the reason."""
        version, said = self.version()
        return self.complete(version) if version else (NOTHING, said)

    def complete(self, version: str) -> Tuple[Installed, str]:
        """The kernel of this release with its own initrd. When it is not completely installed: NOTHING, and the reason."""
        path, said = self.files.of_release(version)
        said = said or self.files.fault("the file", path)
        if said:
            return NOTHING, f"{version} is not completely installed: {said}"
        initrd, said = self.files.initrd_of(path)
        faults = [
            f"its initrd was not found ({said})" if not initrd else self.files.fault("its initrd", initrd),
            self._modules(version),
            self._packages(version),
            self._in_progress(),
        ]
        said = "; ".join(fault for fault in faults if fault)
        return (NOTHING, f"{version} is not completely installed: {said}") if said else (Installed(version, path, initrd), "")

    def _nothing(self, installed: List[str], running: str) -> str:
        if installed:
            words = "-".join(flavour(running)) or "without a name"
            return f"no installed kernel has the flavour of the running one ({words}); the installed ones are {', '.join(installed)}"
        images = boot_entries.unified(self.sysfs)
        if images:
            return f"the kernels are in unified kernel images (UKI), which kexec can't load: {', '.join(images)}"
        looked = f"looked in {', '.join(boot_entries.ROOTS)}, their loader/entries and /usr/lib/modules"
        return f"{looked}, and no kernel shows a release in its name"

    def _modules(self, version: str) -> str:
        paths = [one.format(version) for one in _MODULES]
        there = any(self.sysfs.get(path) for path in paths)
        return "" if there else f"its list of modules does not exist or is empty (looked for {', '.join(paths)})"

    def _packages(self, version: str) -> str:
        """What dpkg says about packages that are half done: that of the kernel, and those that build initrds."""
        if not self.runner.which("dpkg-query"):
            return ""
        argv = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", f"linux-image-*{version}", *_BUILDERS]
        try:
            # It exits with 1 when one of the patterns matches no package.
            listed = self.runner.run(argv, timeout=60).stdout
        except HotpmemError as error:
            return f"dpkg-query can't be asked: {error.said}"
        rows = [line.split() for line in listed.splitlines()]
        bad = [f"{row[0]} is {row[1]}" for row in rows if len(row) == 2 and row[1] not in (_COMPLETE, *_GONE)]
        return f"the package {', and '.join(bad)}; run dpkg --configure -a" if bad else ""

    def _in_progress(self) -> str:
        held = [path for path in LOCKS if locked(self.sysfs.path(path))]
        return f"a package manager is at work ({held[0]} is locked); wait until it has ended" if held else ""
