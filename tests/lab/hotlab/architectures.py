# SPDX-License-Identifier: GPL-3.0-or-later
"""The architectures of the lab's machines, and everything in which they differ. The computer that runs the lab is amd64."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LabError


@dataclass(frozen=True)
class Architecture:
    """One row.

    debian: Debian's name. program, emulator: QEMU's program, and the packages it comes from. firmware: the folders of that QEMU's files.
    installed: whether a QEMU that is installed here may run it. machine, cpu, bios: QEMU's options; an empty bios is QEMU's own. console,
    journal: the two serial ports, as the kernel calls them. packages: what an image holds beside kernels.PACKAGES. pmem, boots: what a
    machine may have of these. patience: by how much longer than an amd64 machine's its deadlines are. binfmt: how binfmt_misc(5) tells
    its programs, when this computer can't run them; magic and mask.
    """

    debian: str
    program: str
    emulator: tuple[str, ...]
    firmware: tuple[str, ...]
    installed: bool
    machine: str
    cpu: str
    bios: str
    console: str
    journal: str
    packages: tuple[str, ...]
    pmem: tuple[str, ...]
    boots: tuple[str, ...]
    patience: int
    binfmt: tuple[str, str, str] | None = None


ARCHITECTURES = {
    "amd64": Architecture(
        debian="amd64",
        program="qemu-system-x86_64",
        emulator=("qemu-system-x86",),
        firmware=("usr/share/qemu", "usr/share/seabios"),
        installed=True,
        machine="q35,nvdimm=on",
        # Five-level page tables cost an emulated boot a tenth of its time. (svm=off looks as harmless and isn't: with it,
        # QEMU 7.2 machines failed in mount namespaces with EBUSY, four boots of four.)
        # Without "fast" string instructions the kernel copies and clears with rep movsq and stosq: eight bytes at a step of the
        # emulator instead of one, so that copying is 10 to 20 times as fast.
        cpu="max,la57=off,erms=off,fsrm=off",
        bios="",
        console="ttyS0",
        journal="ttyS1",
        packages=("grub-pc-bin", "grub2-common"),
        pmem=("e820", "nfit", "labels", "none"),
        boots=("snapshot", "grub"),
        patience=1,
    ),
    "arm64": Architecture(
        debian="arm64",
        program="qemu-system-aarch64",
        emulator=("qemu-system-arm", "qemu-efi-aarch64", "device-tree-compiler"),
        firmware=("usr/share/qemu", "usr/share/qemu-efi-aarch64"),
        # The second serial port of this machine is there from QEMU 9.1 on, and its firmware comes as another package.
        installed=False,
        machine="virt,nvdimm=on,gic-version=3",
        # A server's CPU without what emulation pays dearly for: pointer authentication, scalable vectors.
        cpu="neoverse-n1",
        # Found in the firmware's folder. ACPI, and with it NFIT, comes from this firmware.
        bios="QEMU_EFI.fd",
        console="ttyAMA0",
        journal="ttyAMA1",
        packages=(),
        # memmap=SIZE!START is x86's, and the image holds no boot loader.
        pmem=("nfit", "labels", "devicetree", "none"),
        boots=("snapshot",),
        # Always emulated. On a busy computer a boot took 267 s, and one of amd64 some 60 s.
        patience=4,
        binfmt=(
            "qemu-aarch64",
            r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
        ),
    ),
}


def find(name: str) -> Architecture:
    """The row of that name; an error lists the names there are."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise LabError(f"Architecture {name} is not in the lab's table", "", f"Use one of: {', '.join(ARCHITECTURES)}.") from None
