# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out which boot loader started this machine.

Files alone do not tell. A machine that systemd-boot starts may still have the files of GRUB, and
the other way round. systemd-boot always sets the EFI variable LoaderInfo, and GRUB sets it from
2.12. The variables stay readable after kexec.

Source: the Boot Loader Interface (https://systemd.io/BOOT_LOADER_INTERFACE/), and
Documentation/filesystems/efivarfs.rst (four bytes of attributes come first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from .._host.programs import Runner
from .._host.sysfs import Sysfs
from . import boot_entries, grub

EFI = "/sys/firmware/efi"
EFIVARS = f"{EFI}/efivars"
_VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
PROXMOX = "/etc/kernel/proxmox-boot-uuids"  # the partitions that proxmox-boot-tool fills
_BY_HAND = "Add '{0}' to the kernel command line where this machine gets it from. Then reboot and run this again"
_CHOOSE = "Run bootctl status to see what started the machine. Then set hotpmem_boot_loader (loader) to it"


@dataclass(frozen=True)
class Booted:
    """What started the machine.

    ``loader`` is grub, grubby, systemd-boot or external. external means that this collection can't
    edit it, and ``said`` is the reason. ``todo`` is what the operator does about it; ``{0}`` in it
    stands for the arguments.
    """

    loader: str
    said: str = ""
    todo: str = _BY_HAND


def efi_variable(sysfs: Sysfs, name: str) -> str:
    """The text of a variable of the boot loader interface; empty when it does not exist.

    It is UTF-16LE, after four bytes of attributes.
    """
    try:
        with open(sysfs.path(f"{EFIVARS}/{name}-{_VENDOR}"), "rb") as file:
            return file.read()[4:].decode("utf-16-le", "replace").rstrip("\0").strip()
    except OSError:
        return ""


def detect(sysfs: Sysfs, runner: Runner) -> Booted:
    """What started the machine. When that is in doubt, the answer is external, with the reason."""
    info = efi_variable(sysfs, "LoaderInfo")
    if sysfs.get(PROXMOX):
        return _proxmox(info)
    if efi_variable(sysfs, "StubInfo"):
        return unified_image([efi_variable(sysfs, "LoaderEntrySelected"), *boot_entries.unified(sysfs)])
    grubs = _grubs(sysfs, runner)
    if info.lower().startswith("systemd-boot"):
        return _systemd_boot(sysfs, info)
    if info.lower().startswith("grub"):
        said = f"{info} started this machine, but grubby does not exist, and neither does {grub.DEFAULTS} with update-grub or grub-mkconfig"
        return Booted(grubs[0]) if grubs else Booted("external", said)
    if info:
        return Booted("external", f"{info} started this machine, which this collection can't edit (EFI variable LoaderInfo)")
    return _without_info(sysfs, grubs)


def _without_info(sysfs: Sysfs, grubs: List[str]) -> Booted:
    """The answer when LoaderInfo does not exist or can't be read."""
    others = [path for path, _text in boot_entries.texts(sysfs)] + boot_entries.unified(sysfs)
    unknown = sysfs.exists(EFI) and not sysfs.list(EFIVARS)
    if grubs == ["grub"] and unknown and others:
        return Booted(
            "external",
            f"it is not clear which boot loader started this machine: it has {grub.DEFAULTS} and {others[0]}, and the EFI variable "
            f"LoaderInfo can't be read, because {EFIVARS} is empty",
            f"Run mount -t efivarfs efivarfs {EFIVARS}. Or set hotpmem_boot_loader (loader) to grub or systemd-boot",
        )
    if grubs:
        return Booted(grubs[0])
    if others and unknown:
        return _systemd_boot(sysfs, "systemd-boot")
    if others:
        return Booted(
            "external",
            f"{others[0]} exists, but systemd-boot did not start this machine: it would have set the EFI variable LoaderInfo",
            f"{_CHOOSE}. With systemd-boot, the entries and /etc/kernel/cmdline are edited",
        )
    return Booted(
        "external",
        "this machine has no boot loader that can be edited (GRUB with update-grub or grub-mkconfig, grubby, or systemd-boot entries)",
    )


def _grubs(sysfs: Sysfs, runner: Runner) -> List[str]:
    """grubby or grub, when this machine can edit GRUB's configuration with it."""
    if runner.which("grubby"):
        return ["grubby"]
    return ["grub"] if sysfs.exists(grub.DEFAULTS) and grub.find_tool(sysfs, runner) else []


def _systemd_boot(sysfs: Sysfs, info: str) -> Booted:
    images = boot_entries.unified(sysfs)
    if images:
        return unified_image(images)
    if boot_entries.texts(sysfs):
        return Booted("systemd-boot")
    places = ", ".join(f"{root}/loader/entries" for root in boot_entries.ROOTS)
    missing = boot_entries.not_mounted(sysfs)
    said = f"{info} started this machine, but no entry of this installation was found in {places}"
    return Booted("external", said, f"Mount {' and '.join(missing)}, then run this again" if missing else _BY_HAND)


def _proxmox(info: str) -> Booted:
    place = "GRUB_CMDLINE_LINUX in /etc/default/grub" if info[:4].lower() in ("", "grub") else "/etc/kernel/cmdline"
    return Booted(
        "external",
        f"proxmox-boot-tool keeps the boot loader on the partitions that {PROXMOX} lists",
        f"Add '{{0}}' to {place} and run proxmox-boot-tool refresh. Then reboot and run this again",
    )


def unified_image(names: List[str]) -> Booted:
    """The answer for a unified kernel image. ``names`` are paths or names of such images."""
    name = next((one for one in names if one), "")
    return Booted(
        "external",
        f"the command line is built into the unified kernel image (UKI) {name}".rstrip(),
        "Add '{0}' to /etc/kernel/cmdline and rebuild the images, for example with kernel-install add-all. Then reboot and run this again",
    )
