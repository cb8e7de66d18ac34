# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels the lab can run and the Debian suites they come from."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LabError

PACKAGES = [
    *["systemd", "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "lz4", "zstd", "procps", "iproute2"],
    *["openssh-server", "python3", "rsync", "acl", "attr", "libcap2-bin", "util-linux-extra", "memcached"],
    *["ndctl", "daxctl", "kexec-tools", "grub-pc-bin", "grub2-common"],
]
"""What every image holds beside the essential packages and its kernel."""


@dataclass(frozen=True)
class Kernel:
    """One row: the suite of the system, further suites the kernel needs, the kernel's package, and the oldest QEMU that emulates it."""

    suite: str
    extra_suites: tuple[str, ...] = ()
    package: str = "linux-image-cloud-amd64"
    qemu: int = 7


KERNELS = {
    "6.1": Kernel("bookworm"),
    # QEMU 7.2 crashed 6.12 in seven boots of seven (tests/lab/measurements.md).
    "6.12": Kernel("trixie", qemu=10),
    "7.3": Kernel("trixie", ("trixie-backports",), "linux-image-cloud-amd64/trixie-backports", qemu=10),
}


def find(name: str) -> Kernel:
    """The row of that name; an error lists the names there are."""
    try:
        return KERNELS[name]
    except KeyError:
        raise LabError(f"Kernel {name} is not in the lab's table", "", f"Use one of: {', '.join(KERNELS)}.") from None
