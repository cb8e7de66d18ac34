# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which boot loader started a machine, from its EFI variables and files."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import booted_by

VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
SYSTEMD_BOOT = "systemd-boot 257.9-1~deb13u1"
ENTRY = ("boot/loader/entries/00ff-6.1.conf", "title x\nlinux /vmlinuz\noptions ro\n")
UKI = ("efi/EFI/Linux/arch-linux.efi", "x")
GRUB = ("etc/default/grub", "")
PROXMOX = ("etc/kernel/proxmox-boot-uuids", "1234-ABCD\n")


class Programs:
    """The programs of a machine."""

    def __init__(self, names):
        self.names = names

    def which(self, name):
        return f"/usr/sbin/{name}" if name in self.names else None


@pytest.mark.parametrize(
    "variables, files, programs, answer",
    [
        # The variable decides, and what else lies on the disk does not.
        ({"LoaderInfo": SYSTEMD_BOOT}, [ENTRY, GRUB], ["update-grub"], ("systemd-boot", "")),
        ({"LoaderInfo": SYSTEMD_BOOT}, [ENTRY], ["grubby"], ("systemd-boot", "")),
        ({"LoaderInfo": "GRUB 2.12-9+deb13u1"}, [ENTRY, GRUB], ["update-grub"], ("grub", "")),
        ({"LoaderInfo": "GRUB 2.12"}, [ENTRY, GRUB], ["grubby", "grub2-mkconfig"], ("grubby", "")),
        ({"LoaderInfo": "GRUB 2.12"}, [ENTRY], [], ("external", "GRUB 2.12 started this machine, but grubby does not exist")),
        ({"LoaderInfo": "rEFInd 0.14.2"}, [ENTRY, GRUB], ["update-grub"], ("external", "rEFInd 0.14.2 started this machine")),
        ({"LoaderInfo": SYSTEMD_BOOT}, [GRUB], ["update-grub"], ("external", "no entry of this installation was found in /efi/loader")),
        # A unified kernel image.
        ({"LoaderInfo": SYSTEMD_BOOT}, [UKI], [], ("external", "unified kernel image (UKI) /efi/EFI/Linux/arch-linux.efi")),
        ({"StubInfo": "systemd-stub 257", "LoaderEntrySelected": "x.efi"}, [ENTRY], [], ("external", "(UKI) x.efi")),
        ({"StubInfo": "systemd-stub 257"}, [GRUB], ["update-grub"], ("external", "built into the unified kernel image (UKI)")),
        # Proxmox fills several partitions with its program.
        ({"LoaderInfo": SYSTEMD_BOOT}, [PROXMOX, GRUB], ["update-grub"], ("external", "proxmox-boot-tool keeps the boot loader")),
        (None, [PROXMOX, GRUB], ["update-grub"], ("external", "proxmox-boot-tool keeps the boot loader")),
        # GRUB before 2.12 sets no variable, and systemd-boot always does.
        ({"BootOrder": ""}, [ENTRY, GRUB], ["update-grub"], ("grub", "")),
        ({"BootOrder": ""}, [ENTRY], [], ("external", "systemd-boot did not start this machine")),
        # The variables can't be read: without efivarfs, or with a kernel that does not call the firmware.
        ({}, [ENTRY, GRUB], ["update-grub"], ("external", "it is not clear which boot loader started this machine")),
        ({}, [UKI, GRUB], ["update-grub"], ("external", "it has /etc/default/grub and /efi/EFI/Linux/arch-linux.efi")),
        ({}, [GRUB], ["update-grub"], ("grub", "")),
        ({}, [ENTRY], [], ("systemd-boot", "")),
        ({}, [ENTRY, GRUB], ["grubby"], ("grubby", "")),
        # Without EFI.
        (None, [ENTRY, GRUB], ["update-grub"], ("grub", "")),
        (None, [GRUB], ["grub2-mkconfig"], ("grub", "")),
        (None, [GRUB], ["grub-mkconfig"], ("grub", "")),
        (None, [], ["grubby"], ("grubby", "")),
        (None, [GRUB], [], ("external", "no boot loader that can be edited")),
        (None, [], ["update-grub"], ("external", "no boot loader that can be edited")),
    ],
)
def test_what_started_it(tmp_path, variables, files, programs, answer):
    if variables is not None:
        (tmp_path / "sys/firmware/efi/efivars").mkdir(parents=True)
        for name, text in variables.items():
            path = tmp_path / f"sys/firmware/efi/efivars/{name}-{VENDOR}"
            path.write_bytes(b"\x06\0\0\0" + f"{text}\0".encode("utf-16-le"))
    for name, text in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    booted = booted_by.detect(Sysfs(str(tmp_path)), Programs(programs))
    assert booted.loader == answer[0]
    assert answer[1] in booted.said and bool(booted.said) == (booted.loader == "external")
    assert booted.todo.format("memmap=1G!4G")


@pytest.mark.parametrize(
    "raw, text",
    [
        (b"\x06\0\0\0" + "systemd-boot 252\0".encode("utf-16-le"), "systemd-boot 252"),
        (b"\x06\0\0\0s\0", "s"),
        (b"\x06\0\0\0s\0x", "s\ufffd"),
        (b"\x06\0", ""),
        (b"", ""),
    ],
)
def test_efi_variable(tmp_path, raw, text):
    path = tmp_path / f"sys/firmware/efi/efivars/LoaderInfo-{VENDOR}"
    path.parent.mkdir(parents=True)
    path.write_bytes(raw)
    assert booted_by.efi_variable(Sysfs(str(tmp_path)), "LoaderInfo") == text
    assert booted_by.efi_variable(Sysfs(str(tmp_path)), "StubInfo") == ""


def test_the_partition_with_the_entries_is_not_mounted(tmp_path):
    for name, text in (("etc/fstab", "UUID=x /efi vfat\n# UUID=y /boot\n"), ("etc/machine-id", "00ff")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    path = tmp_path / f"sys/firmware/efi/efivars/LoaderInfo-{VENDOR}"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x06\0\0\0" + SYSTEMD_BOOT.encode("utf-16-le"))
    assert booted_by.detect(Sysfs(str(tmp_path)), Programs([])).todo == "Mount /efi, then run this again"
