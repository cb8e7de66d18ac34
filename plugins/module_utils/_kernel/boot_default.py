# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the running kernel the one that the boot loader starts by default.

GRUB: grub-set-default(8) writes the variable saved_entry, which grub.cfg uses only with GRUB_DEFAULT=saved
(util/grub.d/00_header.in of GRUB). RHEL and its derivatives: grubby(8). systemd-boot: ``bootctl set-default``
writes the EFI variable LoaderEntryDefault (https://systemd.io/BOOT_LOADER_INTERFACE/).
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.sysfs import Sysfs
from . import boot_entries, booted_by, grub
from .booted_by import Booted
from .kernel_files import KernelFiles

LOADERS = ("grub", "grubby", "systemd-boot", "external")
_WHAT = "Cannot make the running kernel the default of the boot loader"
_TIMEOUT = 120.0
_HEAD = re.compile(r"^\s*(menuentry|submenu)\s+('(?:[^'\\]|\\.)*'|\"[^\"]*\"|\S+)(.*)\{\s*$")
_ID = re.compile(r"(?:\$menuentry_id_option|--id)[ =]+['\"]?([^'\" ]+)['\"]?")
_LINUX = re.compile(r"^\s*linux(?:16|efi)?\s+(\S+)\s*(.*)$")
_SETS_DEFAULT = re.compile(r"^\s*set default=\"([^\"]*)\"\s*$", re.MULTILINE)
_SAVED = "${saved_entry}"
# 10_linux gives these ids to an entry that always has the newest kernel, and to those for repairs and for other init programs.
_OTHER_IDS = re.compile(r"^gnulinux-simple-|-recovery-|-init-")
_TRIES = re.compile(r"\+\d+(-\d+)?(?=\.conf$)")  # boot counting (Automatic Boot Assessment) adds this, and the id of the entry lacks it


@dataclass
class MenuItem:
    """An entry or a submenu of grub.cfg. ``kernel`` is the path in its linux command, or empty."""

    title: str
    id: str
    submenu: bool
    kernel: str = ""
    arguments: str = ""
    items: List[MenuItem] = field(default_factory=list)

    @property
    def name(self) -> str:
        """How GRUB's default names it."""
        return self.id or self.title


def menu(config: str) -> MenuItem:
    """The menu of a grub.cfg, as a submenu without a title."""
    top = MenuItem("", "", True)
    open_items: List[Optional[MenuItem]] = [top]
    for line in config.splitlines():
        inner = next(one for one in reversed(open_items) if one)
        head = _HEAD.match(line)
        if head:
            found = _ID.search(head[3])
            item = MenuItem(head[2].strip("'\""), found[1] if found else "", head[1] == "submenu")
            inner.items.append(item)
            open_items.append(item)
        elif line.rstrip().endswith("{"):
            open_items.append(None)  # a function
        elif line.strip() == "}" and len(open_items) > 1:
            open_items.pop()
        elif _LINUX.match(line) and not inner.submenu:
            inner.kernel, inner.arguments = _LINUX.findall(line)[0]
    return top


def lookup(top: MenuItem, name: str) -> Optional[MenuItem]:
    """The entry that a value of GRUB's default names: ids, titles or numbers, with > between a submenu and its entry.

    Like GRUB, it takes the first entry when there is no value.
    """
    item = top
    for part in (name or "0").split(">"):
        number = int(part) if part.isdigit() else -1
        found = next((one for index, one in enumerate(item.items) if part in (one.id, one.title) or index == number), None)
        if found is None:
            return None
        item = found
    return item if not item.submenu else None


def entry_of(top: MenuItem, kernel: str, release: str) -> str:
    """The value of GRUB's default for the entry of a kernel, or the empty string.

    Only an entry whose name has the release counts. Any other may have another kernel after the next update.
    """
    for item in top.items:
        below = entry_of(item, kernel, release) if item.submenu else ""
        if below:
            return f"{item.name}>{below}"
        if not item.submenu and _belongs(item, kernel, release):
            return item.name
    return ""


def _starts(item: MenuItem, kernel: str) -> bool:
    """True when the entry has this kernel. Its path counts from the top of a file system, which may be that of /boot."""
    return posixpath.basename(item.kernel) == posixpath.basename(kernel)


def _belongs(item: MenuItem, kernel: str, release: str) -> bool:
    """True when the entry starts this kernel normally, and names its release."""
    other = _OTHER_IDS.search(item.id) or "single" in item.arguments.split()
    return _starts(item, kernel) and release in item.name and not other


def variables(output: str) -> Dict[str, str]:
    """The variables in the output of ``grub-editenv PATH list``."""
    pairs = (line.partition("=") for line in output.splitlines())
    return {name: value for name, _equals, value in pairs if name}


@dataclass
class DefaultChange:
    """A planned change. ``before`` and ``after`` name the default as the boot loader does."""

    loader: str
    kernel: str
    before: str
    after: str
    command: List[str] = field(default_factory=list)


class BootDefault:
    """The default of the boot loader of one host."""

    def __init__(self, sysfs: Sysfs, runner: Runner) -> None:
        self.sysfs = sysfs
        self.runner = runner

    def plan(self, loader: str = "auto") -> DefaultChange:
        """Plan to make the running kernel the default. Reads only. Raises HotpmemError when that is not possible."""
        files = KernelFiles(self.sysfs)
        kernel, said = files.running()
        if not kernel:
            raise HotpmemError(_WHAT, f"the file of the running kernel was not found ({said})", "Install this kernel again")
        booted = (
            booted_by.detect(self.sysfs, self.runner)
            if loader == "auto"
            else Booted(loader, "hotpmem_boot_loader (loader) is external" if loader == "external" else "")
        )
        if booted.loader == "external":
            todo = f"Make {kernel} the default by hand, where this machine gets its kernel from"
            raise HotpmemError(_WHAT, booted.said, todo, kernel=kernel)
        plans = {"grub": self._grub, "grubby": self._grubby, "systemd-boot": self._systemd_boot}
        return plans[booted.loader](kernel, files.release)

    def apply(self, change: DefaultChange, loader: str = "auto") -> None:
        """Run the command, and check that it had an effect. Raises HotpmemError."""
        todo = "Run the command by hand to see the reason"
        self.runner.check(change.command, _WHAT, todo, timeout=_TIMEOUT)
        now = self.plan(loader)
        if now.command:
            said = f"{' '.join(change.command)} reported success, but the default is {now.before or 'not set'}"
            raise HotpmemError(_WHAT, said, todo)

    def _grub(self, kernel: str, release: str) -> DefaultChange:
        tool = grub.find_tool(self.sysfs, self.runner)
        config = self.sysfs.get(tool.config) if tool else ""
        if not tool or not config:
            raise HotpmemError(_WHAT, "grub.cfg was not found in /boot/grub or /boot/grub2", "Mount /boot, then run this again")
        if grub.uses_entries(config):
            said = f"{tool.config} reads the entries in /boot/loader/entries, whose default only grubby can set"
            raise HotpmemError(_WHAT, said, "Install grubby, then run this again")
        top = menu(config)
        wanted = entry_of(top, kernel, release)
        default = next((value for value in reversed(_SETS_DEFAULT.findall(config)) if value != "${next_entry}"), "0")
        if default != _SAVED:
            return self._fixed(tool, top, kernel, default)
        if not wanted:
            raise HotpmemError(_WHAT, f"{tool.config} has no entry for {kernel}", f"Run {' '.join(tool.argv)}, then run this again")
        folder = posixpath.dirname(tool.config)
        prefix = posixpath.basename(folder)  # the programs are called after it: grub or grub2
        saved = self._saved(prefix, f"{folder}/grubenv")
        there = lookup(top, saved)
        # A number, and the entry of the newest kernel, would mean another kernel after the next update.
        kept = there is not None and _belongs(there, kernel, release) and not saved.rpartition(">")[2].isdigit()
        change = DefaultChange("grub", kernel, saved, saved if kept else wanted)
        change.command = [] if kept else [f"{prefix}-set-default", wanted]
        return change

    def _saved(self, prefix: str, path: str) -> str:
        """The variable saved_entry, or the empty string. grub-editenv would create a file that does not exist."""
        if not self.sysfs.exists(path):
            return ""
        argv = [f"{prefix}-editenv", self.sysfs.path(path), "list"]
        output = self.runner.check(argv, _WHAT, f"Run {' '.join(argv)} by hand, and fix what it reports", timeout=_TIMEOUT).stdout
        return variables(output).get("saved_entry", "")

    @staticmethod
    def _fixed(tool: grub.Tool, top: MenuItem, kernel: str, default: str) -> DefaultChange:
        """The answer when GRUB_DEFAULT is not saved: the default can't be changed, and needs no change if it has this kernel."""
        there = lookup(top, default)
        if there is not None and _starts(there, kernel):
            return DefaultChange("grub", kernel, default, default)
        said = f"GRUB_DEFAULT is {default} in {tool.config}, so grub-set-default would have no effect"
        raise HotpmemError(_WHAT, said, f"Set GRUB_DEFAULT=saved in {grub.DEFAULTS} and run {' '.join(tool.argv)}. Then run this again")

    def _grubby(self, kernel: str, release: str) -> DefaultChange:
        todo = "Run grubby --default-kernel by hand, and fix what it reports"
        before = self.runner.check(["grubby", "--default-kernel"], _WHAT, todo, timeout=_TIMEOUT).stdout.strip()
        if before == kernel:
            return DefaultChange("grubby", kernel, before, kernel)
        setting = re.findall(r"^[ \t]*GRUB_DEFAULT=[\"']?([^\"'\n]*)", self.sysfs.get(grub.DEFAULTS), re.MULTILINE)
        if setting and setting[-1].strip() != "saved":
            said = f"GRUB_DEFAULT is {setting[-1].strip()} in {grub.DEFAULTS}, so grubby --set-default would have no effect"
            raise HotpmemError(_WHAT, said, f"Set GRUB_DEFAULT=saved in {grub.DEFAULTS} and run grub2-mkconfig. Then run this again")
        return DefaultChange("grubby", kernel, before, kernel, ["grubby", f"--set-default={kernel}"])

    def _systemd_boot(self, kernel: str, release: str) -> DefaultChange:
        entries = boot_entries.entries(self.sysfs)
        names = [one.path for one in entries if kernel == one.linux or release in (one.version, KernelFiles.version(one.linux))]
        if not names:
            said = f"no entry in {', '.join(f'{root}/loader/entries' for root in boot_entries.ROOTS)} has the release {release}"
            raise HotpmemError(_WHAT, said, f"Run kernel-install add {release} {kernel}, then run this again")
        wanted = _TRIES.sub("", posixpath.basename(names[0]))
        before = booted_by.efi_variable(self.sysfs, "LoaderEntryDefault")
        return DefaultChange("systemd-boot", kernel, before, wanted, [] if before == wanted else ["bootctl", "set-default", wanted])
