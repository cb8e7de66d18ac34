# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels the lab can run and the Debian suites they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import LabError

PACKAGES = [
    *["systemd", "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "lz4", "zstd", "procps", "iproute2"],
    *["openssh-server", "python3", "rsync", "acl", "attr", "libcap2-bin", "util-linux-extra", "memcached"],
    *["ndctl", "daxctl", "kexec-tools"],
]
"""What every image holds beside the essential packages, its kernel, and the packages of its architecture."""


@dataclass(frozen=True)
class Kernel:
    """One row: the suite of the system, further suites the kernel needs, and the oldest QEMU that emulates it.

    release: the suite of the kernel's package, when it is not that of the system. refused: architecture -> why the lab does not run it.
    """

    suite: str
    extra_suites: tuple[str, ...] = ()
    release: str = ""
    qemu: int = 7
    refused: Mapping[str, str] = field(default_factory=dict)

    def package(self, architecture: str) -> str:
        """The kernel's package, as apt takes it."""
        return f"linux-image-cloud-{architecture}" + (f"/{self.release}" if self.release else "")


KERNELS = {
    "6.1": Kernel(
        "bookworm",
        # Read from the package's config: ZONE_DEVICE is not set, and with it there is no NVDIMM_DAX, DEV_DAX_PMEM or DEV_DAX_KMEM.
        refused={"arm64": "Debian 12's cloud kernel for arm64 is built without CONFIG_ZONE_DEVICE, so it has no devdax and no kmem"},
    ),
    # QEMU 7.2 crashed 6.12 in seven boots of seven (tests/lab/measurements.md).
    "6.12": Kernel("trixie", qemu=10),
    "7.3": Kernel("trixie", ("trixie-backports",), "trixie-backports", qemu=10),
}


def find(name: str, architecture: str) -> Kernel:
    """The row of that name; an error lists the names there are for the architecture, or says why this one is not."""
    usable = [other for other, row in KERNELS.items() if architecture not in row.refused]
    if name in usable:
        return KERNELS[name]
    said = KERNELS[name].refused[architecture] if name in KERNELS else "It is not in the lab's table"
    raise LabError(f"Kernel {name} can't be used for {architecture}", f"{said}.", f"Use one of: {', '.join(usable)}.")
