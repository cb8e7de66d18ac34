# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds, replaces and removes the collection's kernel arguments in the boot loader's configuration.

It never changes an argument that somebody else added. The file /var/lib/hotpmem/reservation.json
records which arguments belong to the collection. With GRUB, the collection's own drop-in file shows
them too.

Sources: grub-mkconfig(8), grubby(8), kernel-install(8) for /etc/kernel/cmdline, and the Boot Loader
Specification for the ``options`` of type 1 entries.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.sysfs import Sysfs
from .command_line import merge, next_command_line, words

RECORD = "/var/lib/hotpmem/reservation.json"
DROP_IN = "/etc/default/grub.d/60-hotpmem.cfg"
GRUB = "/etc/default/grub"
GRUB_CFG = "/boot/grub/grub.cfg"
CMDLINE = "/etc/kernel/cmdline"
LOADERS = ("grub", "grubby", "systemd-boot", "external")
_SYSTEM_CMDLINE = "/usr/lib/kernel/cmdline"
_ESPS = ("/efi", "/boot", "/boot/efi")
_TIMEOUT = 600.0  # seconds; update-grub runs os-prober, which reads every disk
_HEADER = (
    "# Written by the module hotpmem.fleet.boot_arguments, which overwrites changes made here.\n"
    "# It reserves the memory that keeps the state of services over a reboot.\n"
)


@dataclass
class Change:
    """A planned change of the boot loader's configuration.

    ``before`` and ``after`` are the collection's arguments. ``removed`` lists the memmap= arguments
    that are still in the running command line but not in the next one. ``running`` is True when the
    running kernel already has exactly the wanted arguments. ``files`` maps each path to its new
    text, or to None when the file is removed. ``commands`` run after the files are written.
    """

    loader: str
    before: List[str]
    after: List[str]
    removed: List[str]
    running: bool
    files: Dict[str, Optional[str]] = field(default_factory=dict)
    commands: List[List[str]] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """True when applying this would change what the next boot gets."""
        return bool(self.commands or set(self.files) - {RECORD})


def joined(arguments: Sequence[str]) -> List[str]:
    """The arguments with all memmap= values in one argument.

    grubby needs that, because it keeps only one argument of each name. The kernel accepts such a
    list: parse_memmap_opt() in arch/x86/kernel/e820.c.
    """
    values = [word.partition("=")[2] for word in arguments if word.startswith("memmap=")]
    rest = [word for word in arguments if not word.startswith("memmap=")]
    return ([f"memmap={','.join(values)}"] if values else []) + rest


class BootLoader:
    """The boot loader of the system below a root directory.

    ``drop_in`` is the path of the GRUB drop-in.
    """

    def __init__(self, sysfs: Sysfs, runner: Runner, drop_in: str = DROP_IN) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.drop_in = drop_in

    def detect(self) -> str:
        """The boot loader in use, one of LOADERS.

        ``external`` means that this collection can't edit it, for example because a hypervisor
        passes the command line.
        """
        if self.runner.which("grubby"):
            return "grubby"
        if self.sysfs.exists(GRUB) and self.runner.which("update-grub"):
            return "grub"
        return "systemd-boot" if self._entries() or self._unified() else "external"

    def record(self) -> Dict[str, List[str]]:
        """What the collection recorded.

        ``arguments`` are its own. ``removed`` are those that it removed but that the running kernel
        still has.
        """
        try:
            value = json.loads(self.sysfs.get(RECORD) or "{}")
            found = {key: [str(word) for word in value.get(key, [])] for key in ("arguments", "removed")}
        except (ValueError, AttributeError, TypeError):
            found = {"arguments": [], "removed": []}
        return found if found["arguments"] else dict(found, arguments=self._dropped_in())

    def plan(self, wanted: Sequence[str], loader: str = "auto") -> Change:
        """Plan a change of the boot loader's configuration.

        Afterwards the next boot has the ``wanted`` arguments, and no others of the collection. It
        only reads. Raises HotpmemError when the boot loader can't be edited, or when editing would
        lose somebody's argument.
        """
        record = self.record()
        ours, wanted = record["arguments"], joined(wanted)
        loader = self.detect() if loader == "auto" else loader
        running = words(self.sysfs.get("/proc/cmdline"))
        lacks = [word for word in wanted if word.startswith("memmap=") and word not in running]
        gone = [word for word in [*ours, *record["removed"]] if word not in wanted and word in running and word.startswith("memmap=")]
        change = Change(loader, ours, ours, sorted(set(gone)), not lacks and not gone)
        plans = {"grub": self._grub, "grubby": self._grubby, "systemd-boot": self._systemd_boot, "external": self._external}
        plans[loader](change, wanted, lacks)
        if {"arguments": change.after, "removed": change.removed} != record:
            change.files[RECORD] = self._recorded(change, change.after)
        return change

    def apply(self, change: Change) -> None:
        """Write the files, then run the commands.

        When one of them fails, restore the files and raise HotpmemError.
        """
        # Until this is done, both the old and the new arguments may be in the configuration. Record
        # both in case it is interrupted.
        both = sorted(set(change.before) | set(change.after))
        old = {path: self._text(path) for path in change.files}
        if change.commands and RECORD in change.files:
            self._write(RECORD, self._recorded(change, both))
        try:
            for path, text in change.files.items():
                if path != RECORD:
                    self._write(path, text)
            for argv in change.commands:
                self.runner.check(
                    argv,
                    f"Cannot change the kernel arguments through {change.loader}",
                    "The files were restored. Fix the cause, then run this again",
                    _TIMEOUT,
                )
        except (HotpmemError, OSError) as error:
            for path, text in old.items():
                # grubby may have changed some entries before it failed. The record must keep the
                # arguments it added.
                if path != RECORD or change.loader != "grubby":
                    self._write(path, text)
            if isinstance(error, OSError):
                raise HotpmemError(
                    f"Cannot change the kernel arguments through {change.loader}",
                    f"{error.filename}: {error.strerror}",
                    "The files were restored. Check whether the file system is full or mounted read-only",
                ) from error
            raise
        if RECORD in change.files:
            self._write(RECORD, change.files[RECORD])

    def _grub(self, change: Change, wanted: List[str], _lacks: List[str]) -> None:
        """Debian and its derivatives: plan the collection's own drop-in.

        An argument that is also set elsewhere does no harm.
        """
        change.after = list(wanted)
        stale = [word for word in wanted if self.sysfs.exists(GRUB_CFG) and word not in self.sysfs.get(GRUB_CFG).split()]
        if self._dropped_in() != wanted or (not wanted and self.sysfs.exists(self.drop_in)):
            text = _HEADER + f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(wanted)}"\n'
            change.files[self.drop_in] = text if wanted else None
            stale = ["drop-in"]
        if stale:
            change.commands.append(["update-grub"])

    def _grubby(self, change: Change, wanted: List[str], _lacks: List[str]) -> None:
        """RHEL and its derivatives: plan calls of grubby.

        grubby edits the entries, and the defaults for the entries of later kernels.
        """
        what = "Cannot change the kernel arguments through grubby"
        said = self.runner.check(["grubby", "--info=ALL"], what, "Run grubby --info=ALL by hand and fix what it reports", _TIMEOUT).stdout
        entries = [match.replace('\\"', '"') for match in re.findall(r'^args="(.*)"$', said, re.MULTILINE)]
        if not entries:
            raise HotpmemError(
                what, "grubby --info=ALL lists no kernel", "Check that /boot/loader/entries has an entry for each installed kernel"
            )
        there = [words(entry) for entry in entries]
        foreign = {word for entry in there for word in entry if word.startswith("memmap=") and word not in [*change.before, *wanted]}
        # grubby(8) keeps only one argument of each name, so its --args would replace the existing
        # memmap= with the new one.
        if foreign and any(word not in entry for word in wanted for entry in there):
            raise HotpmemError(
                what,
                f"the boot entries have {' '.join(sorted(foreign))} already, which grubby would replace",
                f"Add {' '.join(wanted)} by hand to the options line of each file in /boot/loader/entries, and to GRUB_CMDLINE_LINUX in "
                f"{GRUB}",
            )
        drop = [word for word in change.before if word not in wanted and any(word in entry for entry in there)]
        add = [word for word in wanted if any(word not in entry for entry in there)]
        if drop:
            change.commands.append(["grubby", "--update-kernel=ALL", f"--remove-args={' '.join(drop)}"])
        if add:
            change.commands.append(["grubby", "--update-kernel=ALL", f"--args={' '.join(add)}"])
        # When any entry had an argument before, somebody else added it. Undoing then leaves it in
        # all entries.
        change.after = [word for word in wanted if word in change.before or not any(word in entry for entry in there)]

    def _systemd_boot(self, change: Change, wanted: List[str], _lacks: List[str]) -> None:
        """systemd-boot: plan new texts for the entries and for /etc/kernel/cmdline.

        The entries are those of the installed kernels. kernel-install makes later entries from
        /etc/kernel/cmdline.
        """
        if self._unified():
            raise HotpmemError(
                "Cannot change the kernel arguments",
                f"the command line is built into the unified kernel image {self._unified()[0]}",
                f"Add '{' '.join(wanted)}' to {CMDLINE} and rebuild the images (kernel-install add-all). Then reboot and run this again",
            )
        owned: Dict[str, bool] = {}
        cmdline = self._text(CMDLINE) or self._text(_SYSTEM_CMDLINE) or next_command_line(self.sysfs.get("/proc/cmdline"))
        line, mine = merge(cmdline, change.before, wanted)
        if line != " ".join(words(cmdline)):
            change.files[CMDLINE] = line + "\n"
        for word in wanted:
            owned[word] = word in mine
        for path in self._entries():
            text = self._text(path) or ""
            after, mine = _entry(text, change.before, wanted)
            if after != text:
                change.files[path] = after
            for word in wanted:
                owned[word] = owned[word] and word in mine
        change.after = [word for word in wanted if owned[word]]

    def _external(self, change: Change, wanted: List[str], lacks: List[str]) -> None:
        """Nothing can be edited here.

        That is fine when the running kernel already has every wanted memmap= argument.
        """
        change.after = []
        if lacks:
            raise HotpmemError(
                "Cannot reserve memory at boot",
                "this machine has no boot loader that can be edited (GRUB with update-grub, grubby, or systemd-boot entries), and the "
                f"running kernel was not started with {' '.join(lacks)}",
                f"Add '{' '.join(wanted)}' to the kernel command line where this machine gets it from. Then reboot and run this again",
            )

    @staticmethod
    def _recorded(change: Change, arguments: Sequence[str]) -> str:
        return json.dumps({"arguments": list(arguments), "removed": change.removed, "loader": change.loader}) + "\n"

    def _dropped_in(self) -> List[str]:
        found = re.search(r'^GRUB_CMDLINE_LINUX="\$GRUB_CMDLINE_LINUX ?(.*)"$', self.sysfs.get(self.drop_in), re.MULTILINE)
        return words(found.group(1)) if found else []

    def _entries(self) -> List[str]:
        """Paths of the type 1 entries that start a Linux kernel of this installation."""
        machine = self.sysfs.get("/etc/machine-id")
        found = []
        for esp in _ESPS:
            folder = f"{esp}/loader/entries"
            for name in self.sysfs.list(folder):
                text = self.sysfs.get(f"{folder}/{name}")
                owner = re.search(r"^machine-id\s+(\S+)", text, re.MULTILINE)
                if name.endswith(".conf") and re.search(r"^linux\s", text, re.MULTILINE) and (not owner or owner.group(1) == machine):
                    found.append(f"{folder}/{name}")
        return found

    def _unified(self) -> List[str]:
        return [f"{esp}/EFI/Linux/{name}" for esp in _ESPS for name in self.sysfs.list(f"{esp}/EFI/Linux") if name.endswith(".efi")]

    def _text(self, name: str) -> Optional[str]:
        """The file's text, byte for byte, or None when the file does not exist."""
        try:
            with open(self.sysfs.path(name), encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _write(self, name: str, text: Optional[str]) -> None:
        path = self.sysfs.path(name)
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), mode=0o700 if name == RECORD else 0o755, exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)


def _entry(text: str, ours: Sequence[str], wanted: Sequence[str]) -> Tuple[str, List[str]]:
    """Merge the wanted arguments into the ``options`` of a type 1 entry.

    Several ``options`` lines become one. Returns the entry's new text, and the arguments in it that
    belong to the collection, as merge() does.
    """
    found = re.findall(r"^options[ \t]+(.*)$", text, re.MULTILINE)
    line, mine = merge(" ".join(found), ours, wanted)
    if line == " ".join(words(" ".join(found))):
        return text, mine
    rest = re.sub(r"^options[ \t]+.*\n?", "", text, flags=re.MULTILINE)
    return rest.rstrip("\n") + f"\noptions    {line}\n", mine


def summary(change: Change) -> Dict[str, Any]:
    """The change as module results.

    ``reboot_required`` is True when the running kernel's arguments differ from the next boot's.
    """
    return {
        "changed": change.changed,
        "loader": change.loader,
        "arguments": change.after,
        "running": change.running,
        "reboot_required": not change.running,
        "before": {"arguments": change.before},
        "after": {"arguments": change.after},
    }
