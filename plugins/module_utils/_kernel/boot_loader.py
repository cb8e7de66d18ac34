# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds, replaces and removes the collection's kernel arguments in the boot loader's configuration.

It never changes an argument that somebody else added. The file /var/lib/hotpmem/reservation.json
records which arguments belong to the collection. With GRUB, the collection's drop-in, or its block
in /etc/default/grub, shows them too.

Sources: grub-mkconfig(8), grubby(8), kernel-install(8) for /etc/kernel/cmdline, and the Boot Loader
Specification for the ``options`` of type 1 entries.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.replace_file import replace_file
from .._host.sysfs import Sysfs
from . import boot_entries, booted_by, grub
from .booted_by import Booted
from .command_line import boot_limit, kernel_words, kexec_limit, merge, split_init, too_long, without_comments, words
from .grub import DROP_IN, OLD_DROP_IN
from .jump_command_line import next_command_line

RECORD = "/var/lib/hotpmem/reservation.json"
CMDLINE = "/etc/kernel/cmdline"
LOADERS = ("grub", "grubby", "systemd-boot", "external")
_SYSTEM_CMDLINE = "/usr/lib/kernel/cmdline"
_TIMEOUT = 600.0  # seconds; update-grub runs os-prober, which reads every disk
_WHAT = "Cannot change the kernel arguments"
_GRUBBY = "Cannot change the kernel arguments through grubby"


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


class _NotInEffect(HotpmemError):
    """The commands succeeded, but the boot loader's configuration lacks the arguments."""


class BootLoader:
    """The boot loader of the system below a root directory.

    ``drop_in`` is the path of the GRUB drop-in. ``architecture`` is written as ``uname -m`` prints
    it; when it is empty, that of this machine is used.
    """

    def __init__(self, sysfs: Sysfs, runner: Runner, drop_in: str = DROP_IN, architecture: str = "") -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.drop_in = drop_in
        self.architecture = architecture or platform.machine()

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
        booted = (
            booted_by.detect(self.sysfs, self.runner) if loader == "auto" else Booted(loader, "the setting of the boot loader is external")
        )
        running = kernel_words(self.sysfs.get("/proc/cmdline"))
        lacks = [word for word in wanted if word.startswith("memmap=") and word not in running]
        gone = [word for word in [*ours, *record["removed"]] if word not in wanted and word in running and word.startswith("memmap=")]
        change = Change(booted.loader, ours, ours, sorted(set(gone)), not lacks and not gone)
        if booted.loader == "systemd-boot" and boot_entries.unified(self.sysfs):
            booted = booted_by.unified_image(boot_entries.unified(self.sysfs))
        if booted.loader == "external":
            self._external(change, wanted, lacks, booted)
        else:
            self._mounted(booted.loader)
            {"grub": self._grub, "grubby": self._grubby, "systemd-boot": self._systemd_boot}[booted.loader](change, wanted)
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
            if change.commands:
                self._verify(change)
        except (HotpmemError, OSError) as error:
            for path, text in old.items():
                # grubby may have changed some entries before it failed. The record must keep the
                # arguments it added.
                if path != RECORD or change.loader != "grubby":
                    self._write(path, text)
            if isinstance(error, _NotInEffect) and change.loader == "grub":
                with contextlib.suppress(HotpmemError):
                    self.runner.check(change.commands[-1], _WHAT, "See the output of the command", _TIMEOUT)
            if isinstance(error, OSError):
                raise HotpmemError(
                    f"Cannot change the kernel arguments through {change.loader}",
                    f"{error.filename}: {error.strerror}",
                    "The files were restored. Check whether the file system is full or mounted read-only",
                ) from error
            raise
        if RECORD in change.files:
            self._write(RECORD, change.files[RECORD])

    def _verify(self, change: Change) -> None:
        """Read what the commands wrote. Raises _NotInEffect when the next boot would not get the arguments."""
        if change.loader == "grub":
            tool = self._tool()
            missing = grub.lacking(self._text(tool.config) or "", change.after)
            ours = self.drop_in if tool.drop_ins else grub.DEFAULTS
            line = grub.init_arguments(self._text(tool.config) or "")
            why = f"they are after -- in {line}" if line else grub.overriding(self.sysfs, ours)
            todo = f"Let that setting begin with $GRUB_CMDLINE_LINUX, or add '{' '.join(missing)}' to it by hand. Then run this again"
            where = tool.config
        else:
            missing = [word for word in change.after if any(word not in kernel_words(entry) for entry in self._grubby_entries())]
            why, where = "grubby reported success", "an entry that grubby --info=ALL lists"
            todo = "Add them by hand to the options line of each file in /boot/loader/entries"
        if missing:
            said = f"{where} lacks {' '.join(missing)} after {' '.join(change.commands[-1])}: {why}"
            raise _NotInEffect(f"{_WHAT} through {change.loader}", said, f"The files were restored. {todo}")

    def _mounted(self, loader: str) -> None:
        """Refuse when a directory of the boot loader is not mounted: the files would go to the wrong place."""
        missing = [one for one in boot_entries.not_mounted(self.sysfs) if loader == "systemd-boot" or one == "/boot"]
        if missing:
            raise HotpmemError(
                _WHAT, f"{', '.join(missing)} is in {boot_entries.FSTAB} but not mounted", f"Run mount {missing[0]}, then run this again"
            )

    def _short(self, line: str, where: str) -> None:
        """Refuse a command line that the kernel would not get whole, or with which kexec could not load it again."""
        todo = "Remove arguments that are not needed, then run this again"
        said, end = too_long(line, boot_limit(self.architecture)), ". The boot loader would cut the end off"
        if not said:
            said, end = too_long(next_command_line(line), kexec_limit(self.architecture)), " from kexec"
        if said:
            raise HotpmemError(_WHAT, f"the command line in {where} would be too long: {said}{end}", todo)

    def _tool(self) -> grub.Tool:
        tool = grub.find_tool(self.sysfs, self.runner)
        if tool is None:
            todo = "Install the package that has grub-mkconfig, or set hotpmem_boot_loader (loader) to the boot loader of this machine"
            raise HotpmemError(f"{_WHAT} through grub", "update-grub, grub-mkconfig and grub2-mkconfig are not installed", todo)
        return tool

    def _grub(self, change: Change, wanted: List[str]) -> None:
        """GRUB: plan the collection's own drop-in, or its block in /etc/default/grub.

        An argument that is also set elsewhere does no harm.
        """
        tool = self._tool()
        config = self._text(tool.config) or ""
        if grub.uses_entries(config):
            raise HotpmemError(
                f"{_WHAT} through grub",
                f"{tool.config} reads the entries in /boot/loader/entries, which {tool.argv[0]} does not write",
                "Install grubby. Or set hotpmem_boot_loader (loader) to systemd-boot, which edits these entries and /etc/kernel/cmdline",
            )
        if not config and tool.argv[0] != "update-grub":
            todo = "Mount the file system that holds it, or create it once. Then run this again"
            raise HotpmemError(f"{_WHAT} through grub", f"{tool.config}, which {tool.argv[0]} would write, does not exist", todo)
        for line in grub.command_lines(config):
            self._short(merge(line, change.before, wanted)[0], tool.config)
        change.after = list(wanted)
        self._grub_files(change, tool.drop_ins)
        left = [
            word for word in change.before if word not in wanted and any(word in kernel_words(line) for line in grub.command_lines(config))
        ]
        if change.files or left or (config and grub.lacking(config, wanted)):
            change.commands.append(list(tool.argv))

    def _grub_files(self, change: Change, drop_ins: bool) -> None:
        """Plan the files that GRUB's program sources. The arguments stay in one of them only."""
        defaults = self._text(grub.DEFAULTS) or ""
        for path in dict.fromkeys((OLD_DROP_IN, DROP_IN, self.drop_in)):
            text = self._text(path)
            words_there = grub.drop_in_words(text or "")
            if drop_ins and path == self.drop_in:
                if words_there != change.after or (not change.after and text is not None):
                    change.files[path] = grub.drop_in(change.after) if change.after else None
            elif words_there:
                change.files[path] = None
        block = [] if drop_ins else change.after
        if grub.block_words(defaults) != block:
            change.files[grub.DEFAULTS] = grub.with_block(defaults, block)

    def _grubby_entries(self) -> List[str]:
        """The command lines of the boot entries, without root=. Raises HotpmemError."""
        todo = "Run grubby --info=ALL by hand and fix what it reports"
        said = self.runner.check(["grubby", "--info=ALL"], _GRUBBY, todo, _TIMEOUT).stdout
        return [match.replace('\\"', '"') for match in re.findall(r'^args="(.*)"$', said, re.MULTILINE)]

    def _grubby(self, change: Change, wanted: List[str]) -> None:
        """RHEL and its derivatives: plan calls of grubby.

        grubby edits the entries, and the defaults for the entries of later kernels.
        """
        entries = self._grubby_entries()
        if not entries:
            raise HotpmemError(
                _GRUBBY, "grubby --info=ALL lists no kernel", "Check that /boot/loader/entries has an entry for each installed kernel"
            )
        there = [kernel_words(entry) for entry in entries]
        by_hand = f"Add {' '.join(wanted)} by hand to the options line of each file in /boot/loader/entries"
        for entry, kernel in zip(entries, there):
            self._short(merge(entry, change.before, wanted)[0], "a boot entry")
            # grubby(8) adds arguments at the end, where they would belong to init.
            if split_init(entry)[1] and any(word not in kernel for word in wanted):
                raise HotpmemError(_GRUBBY, f"a boot entry has arguments for init after --: {entry}", f"{by_hand}, before the --")
        foreign = {word for entry in there for word in entry if word.startswith("memmap=") and word not in [*change.before, *wanted]}
        # grubby(8) keeps only one argument of each name, so its --args would replace the existing
        # memmap= with the new one.
        if foreign and any(word not in entry for word in wanted for entry in there):
            raise HotpmemError(
                _GRUBBY,
                f"the boot entries have {' '.join(sorted(foreign))} already, which grubby would replace",
                f"{by_hand}, and to GRUB_CMDLINE_LINUX in {grub.DEFAULTS}",
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

    def _systemd_boot(self, change: Change, wanted: List[str]) -> None:
        """systemd-boot: plan new texts for the entries and for /etc/kernel/cmdline.

        The entries are those of the installed kernels. kernel-install makes later entries from
        /etc/kernel/cmdline.
        """
        owned: Dict[str, bool] = {}
        text = self._text(CMDLINE) or ""
        comments, cmdline = without_comments(text)
        cmdline = cmdline.strip() or without_comments(self._text(_SYSTEM_CMDLINE) or "")[1].strip()
        cmdline = cmdline or next_command_line(self.sysfs.get("/proc/cmdline"))
        line, mine = merge(cmdline, change.before, wanted)
        self._short(line, CMDLINE)
        if line != " ".join(words(cmdline)):
            end = "\r\n" if "\r\n" in text else "\n"
            change.files[CMDLINE] = comments + ("" if not comments or comments.endswith("\n") else end) + line + end
        for word in wanted:
            owned[word] = word in mine
        for path, _read in boot_entries.texts(self.sysfs):
            text = self._text(path) or ""
            after, mine = boot_entries.edited(text, change.before, wanted)
            self._short(boot_entries.options(after), path)
            if after != text:
                change.files[path] = after
            for word in wanted:
                owned[word] = owned[word] and word in mine
        change.after = [word for word in wanted if owned[word]]

    def _external(self, change: Change, wanted: List[str], lacks: List[str], booted: Booted) -> None:
        """Nothing can be edited here.

        That is fine when the running kernel already has every wanted memmap= argument. What an
        earlier run added stays recorded, because it is still in the boot loader's configuration.
        """
        change.loader = "external"
        left = [word for word in change.before if word not in wanted]
        if left:
            todo = f"Remove '{' '.join(left)}' there by hand and delete {RECORD}. Or set hotpmem_boot_loader (loader) to what was used then"
            raise HotpmemError(_WHAT, f"{booted.said}, and an earlier run added {' '.join(left)} to a boot loader", todo)
        if lacks:
            raise HotpmemError(
                "Cannot reserve memory at boot",
                f"{booted.said}, and the running kernel was not started with {' '.join(lacks)}",
                booted.todo.format(" ".join(wanted)),
            )

    @staticmethod
    def _recorded(change: Change, arguments: Sequence[str]) -> str:
        return json.dumps({"arguments": list(arguments), "removed": change.removed, "loader": change.loader}) + "\n"

    def _dropped_in(self) -> List[str]:
        """The arguments that GRUB's files show as the collection's."""
        for path in dict.fromkeys((self.drop_in, DROP_IN, OLD_DROP_IN)):
            found = grub.drop_in_words(self.sysfs.get(path))
            if found:
                return found
        return grub.block_words(self._text(grub.DEFAULTS) or "")

    def _text(self, name: str) -> Optional[str]:
        """The file's text, byte for byte, or None when the file does not exist."""
        try:
            with open(self.sysfs.path(name), encoding="utf-8", errors="surrogateescape", newline="") as file:
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
        replace_file(path, text, 0o644, sync=True)


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
