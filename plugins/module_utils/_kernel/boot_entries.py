# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the boot loader's own list of kernels, and edits the command line in one of its entries.

Source: the Boot Loader Specification (https://uapi-group.org/specifications/specs/boot_loader_specification/),
type 1 entries (``loader/entries/*.conf``) and type 2 entries (``EFI/Linux/*.efi``, unified kernel
images). systemd-boot, GRUB with blscfg, ostree and zipl use type 1 entries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from .._host.sysfs import Sysfs, mounted
from .command_line import merge, words

ROOTS = ("/efi", "/boot", "/boot/efi")  # where the EFI system partition and the boot partition are mounted
FSTAB = "/etc/fstab"
_OPTIONS = re.compile(r"^[ \t]*options(?:[ \t]+([^\r\n]*))?\r?$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A type 1 entry.

    ``linux`` and ``initrds`` are paths in the running system. ``options`` is the command line.
    ``version`` is the kernel release, or empty.
    """

    path: str
    linux: str
    initrds: Tuple[str, ...]
    options: str
    version: str


def keys(text: str) -> List[Tuple[str, str]]:
    """The keys and values of an entry, in order. Comments and empty lines are left out."""
    found = []
    for line in text.splitlines():
        key, _space, value = line.strip().replace("\t", " ").partition(" ")
        if key and not key.startswith("#"):
            found.append((key, value.strip()))
    return found


def options(text: str) -> str:
    """The command line of an entry. Several ``options`` lines count as one."""
    return " ".join(value for key, value in keys(text) if key == "options" and value)


def edited(text: str, ours: Sequence[str], wanted: Sequence[str]) -> Tuple[str, List[str]]:
    """Merge the wanted arguments into the ``options`` of an entry.

    Several ``options`` lines become one. An entry without options gets a line. Line ends stay as
    they are. Returns the new text, and the arguments in it that belong to the collection, as
    merge() does.
    """
    before = options(text)
    line, mine = merge(before, ours, wanted)
    if line == " ".join(words(before)):
        return text, mine
    end = "\r\n" if "\r\n" in text else "\n"
    rest = "".join(row for row in text.splitlines(keepends=True) if not _OPTIONS.match(row.rstrip("\r\n")))
    return rest.rstrip("\r\n") + f"{end}options    {line}".rstrip() + end, mine


def texts(sysfs: Sysfs) -> List[Tuple[str, str]]:
    """Path and text of each type 1 entry that starts a Linux kernel of this installation."""
    machine = sysfs.get("/etc/machine-id")
    found = []
    for root in ROOTS:
        for name in sysfs.list(f"{root}/loader/entries"):
            path = f"{root}/loader/entries/{name}"
            text = sysfs.get(path) if name.endswith(".conf") else ""
            values = dict(keys(text))
            if "linux" in values and values.get("machine-id", machine) == machine:
                found.append((path, text))
    return found


def entries(sysfs: Sysfs) -> List[Entry]:
    """The type 1 entries of this installation whose kernel exists."""
    found = []
    for path, text in texts(sysfs):
        pairs = keys(text)
        linux = _below(sysfs, path, dict(pairs)["linux"])
        if linux:
            # A file that the running system does not see stays in the list: the caller says that it does not exist.
            initrds = tuple(_below(sysfs, path, one) or one for key, value in pairs if key == "initrd" for one in value.split())
            found.append(Entry(path, linux, initrds, options(text), dict(pairs).get("version", "")))
    return found


def unified(sysfs: Sysfs) -> List[str]:
    """Paths of the unified kernel images (UKIs)."""
    return [f"{root}/EFI/Linux/{name}" for root in ROOTS for name in sysfs.list(f"{root}/EFI/Linux") if name.lower().endswith(".efi")]


def not_mounted(sysfs: Sysfs) -> List[str]:
    """The directories of boot loaders that /etc/fstab mounts but that are not mounted now."""
    there = {mount["target"] for mount in mounted(sysfs)}
    rows = [line.split() for line in sysfs.get(FSTAB).splitlines() if not line.lstrip().startswith("#")]
    return [row[1] for row in rows if len(row) > 1 and row[1] in ROOTS and row[1] not in there]


def _below(sysfs: Sysfs, entry: str, name: str) -> str:
    """The file that an entry names, or the empty string when it does not exist.

    The specification counts a path from the top of the partition that holds the entry. With /boot
    on the root file system, ostree and GRUB write the path from the root directory.
    """
    name = "/" + name.lstrip("/")
    root = entry.partition("/loader/entries/")[0]
    return next((path for path in (root + name, name) if sysfs.exists(path)), "")
