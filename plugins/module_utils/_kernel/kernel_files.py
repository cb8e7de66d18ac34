# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the file of the running kernel, and the initrd that belongs to a kernel.

An initrd holds the modules of one kernel release. With the initrd of another release, the next
kernel would not find its root file system. So an initrd is never taken from the running kernel when
another kernel was named.

Sources: installkernel(8) and the packages of the distributions for the names below /boot,
kernel-install(8) for MACHINE-ID/VERSION/linux, and Documentation/arch/x86/boot.rst for the release
in an image (kernel_version).
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import List, Tuple

from .._host.sysfs import Sysfs
from . import boot_entries
from .boot_entries import ROOTS
from .command_line import kernel_words

# {0} is the release. Debian, RHEL, Fedora and SUSE (vmlinuz), other architectures (vmlinux, Image), Gentoo (kernel).
BOOT = ("/boot/vmlinuz-{0}", "/boot/vmlinux-{0}", "/boot/Image-{0}", "/boot/kernel-{0}")
MODULES = "/usr/lib/modules/{0}/vmlinuz"  # Fedora, Arch, ostree and bootc
# Debian and Ubuntu; RHEL, Fedora and Arch; SUSE; genkernel.
INITRDS = ("initrd.img-{0}", "initramfs-{0}.img", "initrd-{0}", "initramfs-{0}")
_MODULE_INITRDS = ("initramfs.img", "initrd")  # beside MODULES, on ostree and bootc
_BARE_INITRDS = ("initrd.img", "initramfs.img", "initrd")  # beside a kernel without a version in its name
_NAME = re.compile(r"^(?:vmlinuz|vmlinux|Image|bzImage|zImage|kernel)(?:-(.+))?$")
_MICROCODE = re.compile(r"(^|/)[\w-]*ucode[\w-]*(\.img|\.cpio)?$")
RELEASE = re.compile(r"^\d+\.\d[^/\s]*$")
# What package managers and make install leave beside a kernel: the file before, or the next one before it is renamed.
_NOT_INSTALLED = re.compile(r"(\.(dpkg-\w+|rpm(new|save|orig)|old|bak|orig|new|tmp|sig|hmac)|~|;[0-9a-f]+)$")
_LINKS = 8  # symbolic links to follow


class KernelFiles:
    """The kernels and initrds of the system below a root directory."""

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs

    @property
    def release(self) -> str:
        """The release of the running kernel; empty when it can't be read."""
        return self.sysfs.get("/proc/sys/kernel/osrelease")

    def running(self) -> Tuple[str, str]:
        """The file of the running kernel, or the empty string with the reason."""
        release = self.release
        return self.of_release(release) if release else ("", "/proc/sys/kernel/osrelease can't be read")

    def of_release(self, release: str) -> Tuple[str, str]:
        """The file of the kernel with this release, or the empty string with the reason."""
        entries = [entry.linux for entry in boot_entries.entries(self.sysfs) if release in (entry.version, self.version(entry.linux))]
        named = [*(one.format(release) for one in BOOT), *entries, *self._folders(release, "linux"), MODULES.format(release)]
        found = next((path for path in named if self.sysfs.exists(path)), "")
        if found:
            return found, ""
        # Names without a version (Arch). After an upgrade such a file is another kernel than the running one.
        others = {path: self.image_release(path) for path in self._unversioned()}
        found = next((path for path, version in others.items() if version == release), "")
        if found:
            return found, ""
        looked = [*(one.format(release) for one in BOOT), MODULES.format(release), *self._folders(release, "linux")]
        looked += [f"{root}/loader/entries" for root in ROOTS]
        said = f"looked for {', '.join(looked)}"
        for path, version in others.items():
            said += f"; {path} is {version}" if version else f"; {path} does not show its release"
        return "", said + self.not_mounted()

    def releases(self) -> List[str]:
        """The releases of the installed kernels whose path or boot loader entry shows one, in no particular order."""
        found = [entry.version if RELEASE.match(entry.version) else self.version(entry.linux) for entry in boot_entries.entries(self.sysfs)]
        found += [self.version(f"{root}/{name}") for root in ROOTS for name in self.sysfs.list(root)]
        folders = [f"{root}/{token}" for root in ROOTS for token in self._tokens()]
        found += [name for folder in folders for name in self.sysfs.list(folder) if self.sysfs.exists(f"{folder}/{name}/linux")]
        found += [name for name in self.sysfs.list("/usr/lib/modules") if self.sysfs.exists(MODULES.format(name))]
        return [name for name in dict.fromkeys(found) if RELEASE.match(name) and not _NOT_INSTALLED.search(name)]

    def initrd_of(self, kernel: str) -> Tuple[str, str]:
        """The initrd that belongs to a kernel, or the empty string with the reason.

        The boot loader's entry of that kernel decides, then the kernel's name. ``kernel`` is a path;
        when it is empty, the names of the running release count.
        """
        real = self._resolved(kernel)
        for entry in boot_entries.entries(self.sysfs) if kernel else []:
            initrds = [path for path in entry.initrds if not _MICROCODE.search(path)]
            if entry.linux in (kernel, real) and len(initrds) > 1:
                return "", f"{entry.path} names several ({', '.join(initrds)}), and kexec loads one. Name one of them"
            if entry.linux in (kernel, real) and initrds:
                return initrds[0], ""
        names = self.initrd_names(real)
        found = next((name for name in names if self.sysfs.exists(name)), "")
        if found:
            return found, ""
        looked = f"looked for {', '.join(names)}" if names else f"the name {kernel} does not show which initrd belongs to it"
        return "", looked + self.not_mounted()

    def initrd_names(self, kernel: str) -> List[str]:
        """The paths that the initrd of a kernel may have, in the order in which they are tried."""
        folder, name = posixpath.split(kernel)
        version = self.version(kernel) if kernel else self.release
        with_version = [one.format(version) for one in INITRDS] if version else []
        if name == "linux":
            return [f"{folder}/{one}" for one in ("initrd", *with_version)]
        if not kernel or re.match(r"^(/usr)?/lib/modules/", kernel):
            beside = [f"{folder}/{one}" for one in _MODULE_INITRDS] if kernel else []
            return [*(f"/boot/{one}" for one in with_version), *self._folders(version, "initrd"), *beside]
        bare = _BARE_INITRDS if _NAME.match(name) else ()
        return [f"{folder.rstrip('/')}/{one}" for one in with_version or bare]

    @staticmethod
    def version(kernel: str) -> str:
        """The release that the path of a kernel shows; empty when it shows none."""
        folder, name = posixpath.split(kernel)
        if name == "linux" or re.match(r"^(/usr)?/lib/modules/", kernel):
            return posixpath.basename(folder)
        found = _NAME.match(name)
        return (found.group(1) or "") if found else ""

    def image_release(self, kernel: str) -> str:
        """The release that an x86 kernel image shows in its header; empty for any other file."""
        try:
            with open(self.sysfs.path(kernel), "rb") as file:
                head = file.read(0x210)
                if head[0x202:0x206] != b"HdrS":
                    return ""
                file.seek(int.from_bytes(head[0x20E:0x210], "little") + 0x200)
                text = file.read(128).partition(b"\0")[0].decode("ascii", "replace").split()
        except OSError:
            return ""
        return text[0] if text else ""

    def fault(self, what: str, path: str) -> str:
        """The reason why a file can't be loaded, as a sentence; empty when it exists and is not empty.

        ``what`` names the file: the kernel, or the initrd.
        """
        try:
            size = os.stat(self.sysfs.path(path)).st_size
        except OSError:
            return f"{what} {path} does not exist{self.not_mounted()}"
        return "" if size else f"{what} {path} is empty (0 bytes), as on a file system that was full; free space and install it again"

    def _folders(self, version: str, name: str) -> List[str]:
        """The paths of a file that kernel-install put into MACHINE-ID/VERSION."""
        return [f"{root}/{token}/{version}/{name}" for root in ROOTS for token in self._tokens() if version]

    def _tokens(self) -> List[str]:
        """The names that kernel-install may use for the directories of this installation."""
        tokens = (self.sysfs.get("/etc/kernel/entry-token"), self.sysfs.get("/etc/machine-id"))
        return [token for token in dict.fromkeys(tokens) if token]

    def _unversioned(self) -> List[str]:
        """Kernels whose path does not show a release: what the boot loader named, its entries, and files in its directories."""
        found = [entry.linux for entry in boot_entries.entries(self.sysfs)]
        for word in kernel_words(self.sysfs.get("/proc/cmdline")):
            if word.startswith("BOOT_IMAGE="):
                # GRUB writes the device before the path, which it counts from the top of that device.
                name = re.sub(r"^\([^)]*\)", "", word.partition("=")[2])
                found += [path for path in (f"/boot{name}", name) if name.startswith("/") and self.sysfs.exists(path)]
        found += [f"{root}/{name}" for root in ROOTS for name in self.sysfs.list(root) if _NAME.match(name)]
        return list(dict.fromkeys(found))

    def _resolved(self, path: str) -> str:
        """The path that a symbolic link leads to (Debian's /vmlinuz, SUSE's /boot/vmlinuz)."""
        for _step in range(_LINKS):
            target = self.sysfs.link(path) if path else ""
            if not target:
                break
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        return path

    def not_mounted(self) -> str:
        """The directories of boot loaders that are not mounted, as the end of a reason; empty when all are."""
        missing = boot_entries.not_mounted(self.sysfs)
        return f"; {', '.join(missing)} is in {boot_entries.FSTAB} but not mounted" if missing else ""
