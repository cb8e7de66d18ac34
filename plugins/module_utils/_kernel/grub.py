# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Knows GRUB's configuration: the settings that grub-mkconfig sources, and the grub.cfg that it writes.

Sources: grub-mkconfig(8), util/grub-mkconfig.in and util/grub.d/10_linux.in of GRUB. Only
Debian's and its derivatives' grub-mkconfig sources /etc/default/grub.d/*.cfg.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from .._host.programs import Runner
from .._host.sysfs import Sysfs
from .command_line import kernel_words, split_init, words

DEFAULTS = "/etc/default/grub"
DROP_INS = "/etc/default/grub.d"
# GRUB sources the files in the order of their names, and a later one may set GRUB_CMDLINE_LINUX anew. So this name comes last.
DROP_IN = f"{DROP_INS}/zz-hotpmem.cfg"
OLD_DROP_IN = f"{DROP_INS}/60-hotpmem.cfg"
_CONFIGS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
_HEADER = (
    "# Written by the module hotpmem.fleet.boot_arguments, which overwrites changes made here.\n"
    "# It reserves the memory that keeps the state of services over a reboot.\n"
)
_BEGIN, _END = "# BEGIN hotpmem.fleet.boot_arguments\n", "# END hotpmem.fleet.boot_arguments\n"
_OURS = re.compile(r'^GRUB_CMDLINE_LINUX="\$GRUB_CMDLINE_LINUX ?(.*)"\r?$', re.MULTILINE)
_BLOCK = re.compile(f"^{re.escape(_BEGIN)}(.*?)^{re.escape(_END)}", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^### BEGIN (\S+) ###$(.*?)^### END ", re.MULTILINE | re.DOTALL)
_LINUX = re.compile(r"^[ \t]*linux(?:16|efi)?[ \t]+(\S+)[ \t]*([^\n]*)$", re.MULTILINE)
_SETS_ANEW = re.compile(r"^[ \t]*(?:export[ \t]+)?GRUB_CMDLINE_LINUX=(?![^\n]*\$\{?GRUB_CMDLINE_LINUX\b)[^\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class Tool:
    """The program that writes grub.cfg.

    ``config`` is the path that it writes. ``drop_ins`` tells whether it sources
    /etc/default/grub.d.
    """

    argv: Tuple[str, ...]
    config: str
    drop_ins: bool


def find_tool(sysfs: Sysfs, runner: Runner) -> Optional[Tool]:
    """The program of this machine, or None.

    update-grub knows where grub.cfg is. grub-mkconfig (Arch, Gentoo) and grub2-mkconfig (SUSE) have
    to be told: they write to the grub.cfg that exists.
    """
    there = [path for path in _CONFIGS if sysfs.exists(path)]
    if runner.which("update-grub"):
        return Tool(("update-grub",), (there or list(_CONFIGS))[0], True)
    found = []
    for name, config in zip(("grub-mkconfig", "grub2-mkconfig"), _CONFIGS):
        path = runner.which(name)
        if path:
            found.append(Tool((name, "-o", config), config, "default/grub.d" in sysfs.get(path)))
    return next((tool for tool in found if tool.config in there), found[0] if found else None)


def drop_in_words(text: str) -> List[str]:
    """The arguments in a drop-in of this collection. Empty for any other text."""
    found = _OURS.search(text)
    return words(found.group(1)) if found else []


def drop_in(arguments: Sequence[str]) -> str:
    """The text of the drop-in."""
    return _HEADER + _setting(arguments)


def block_words(text: str) -> List[str]:
    """The arguments in the collection's block of /etc/default/grub."""
    found = _BLOCK.search(text)
    return drop_in_words(found.group(1)) if found else []


def with_block(text: str, arguments: Sequence[str]) -> str:
    """/etc/default/grub with the collection's block at its end, or without it when ``arguments`` is empty."""
    rest = _BLOCK.sub("", text)
    if not arguments:
        return rest
    return rest + ("" if rest.endswith("\n") or not rest else "\n") + _BEGIN + _setting(arguments) + _END


def _setting(arguments: Sequence[str]) -> str:
    return f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(arguments)}"\n'


def command_lines(config: str) -> List[str]:
    """The command lines of this system's kernels in grub.cfg, with the BOOT_IMAGE= that GRUB adds.

    The section of 10_linux has them. Other sections have memory tests and other systems. Without
    sections, every ``linux`` command counts.
    """
    ours = "".join(text for name, text in _SECTION.findall(config) if name.rpartition("/")[2].startswith("10_linux"))
    return [f"BOOT_IMAGE={path} {line}".rstrip() for path, line in _LINUX.findall(ours) or _LINUX.findall(config)]


def lacking(config: str, wanted: Sequence[str]) -> List[str]:
    """The arguments that some kernel of grub.cfg would not get. All of them when it lists no kernel."""
    lines = command_lines(config)
    return [word for word in wanted if not lines or any(word not in kernel_words(line) for line in lines)]


def uses_entries(config: str) -> bool:
    """True when grub.cfg takes the kernels from the files in /boot/loader/entries."""
    return not command_lines(config) and re.search(r"^\s*blscfg\b", config, re.MULTILINE) is not None


def overriding(sysfs: Sysfs, ours: str) -> str:
    """The reason why grub.cfg lacks the arguments in the file ``ours``, as far as files show it.

    It names each file that sets GRUB_CMDLINE_LINUX anew after GRUB sourced ``ours``, and else all
    that set it.
    """
    names = [f"{DROP_INS}/{name}" for name in sorted(sysfs.list(DROP_INS)) if name.endswith(".cfg")]
    order = [DEFAULTS, *names]
    later = order[order.index(ours) + 1 :] if ours in order else order
    for files in (later, [one for one in order if one != ours]):
        rows = [f"{file} ({line.group(0).strip()})" for file in files for line in _SETS_ANEW.finditer(_foreign(sysfs.get(file)))]
        if rows:
            return f"GRUB_CMDLINE_LINUX is set in {', '.join(rows)}"
    return f"no file in {DROP_INS} sets GRUB_CMDLINE_LINUX after {ours}, so the scripts in /etc/grub.d do not use it"


def init_arguments(config: str) -> str:
    """The first command line of grub.cfg that has arguments after ``--``, or the empty string."""
    return next((line for line in command_lines(config) if split_init(line)[1]), "")


def _foreign(text: str) -> str:
    return _BLOCK.sub("", text)
