# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the command line of a jump: that of the running kernel, and arguments that only a jump gets.

``hotpmem.jump=N`` marks the N arguments after it as those of the jump. So the next jump, and whoever
copies the running command line into the settings of a boot loader, can tell them from the others. The
kernel takes a name with a dot for a parameter of a module that is not loaded, and ignores it
(unknown_bootoption() in init/main.c). It does no I/O.
"""

from __future__ import annotations

from typing import List, Optional, Sequence

from .command_line import split_init, too_long, words

MARK = "hotpmem.jump="
# No other arguments are safe on all hosts; docs/performance.md says what each gains and costs.
JUMP_ARGUMENTS = ("quiet", "cryptomgr.notests")
_MEMORY = ("memmap=", "mem=", "crashkernel=")


def next_command_line(running: str) -> str:
    """The running command line without what the boot loader added (BOOT_IMAGE=, initrd=), and without the arguments of a jump."""
    kernel, init = split_init(running)
    found: List[str] = []
    left = 0
    for word in kernel:
        if word.startswith(MARK):
            number = word[len(MARK) :]
            left = int(number) if number.isascii() and number.isdigit() else 0
        elif left:
            left -= 1
        elif not word.startswith(("BOOT_IMAGE=", "initrd=")):
            found.append(word)
    return " ".join([*found, *init])


def with_jump_arguments(command_line: str, arguments: Sequence[str], limit: Optional[int]) -> str:
    """The command line with the arguments that it does not have yet, marked.

    It stays as it is when it would become longer than ``limit`` (bytes; None means that it is unknown):
    a jump that takes longer is better than none.
    """
    kernel, init = split_init(command_line)
    added = [word for word in dict.fromkeys(arguments) if word not in kernel]
    if not added:
        return command_line
    line = " ".join([*kernel, f"{MARK}{len(added)}", *added, *init])
    return command_line if too_long(line, limit) else line


def fault(arguments: Sequence[str]) -> str:
    """The reason why these can't be the arguments of a jump, else empty."""
    for word in arguments:
        if words(word) != [word] or word == "--" or word.startswith(MARK):
            return f"jump_arguments has {word!r}. Each entry must be one argument of the kernel"
        if word.lstrip('"').startswith(_MEMORY):  # the kernel takes quotes around a whole argument away
            return f"jump_arguments has {word!r}. Arguments that set memory apart must be in the settings of the boot loader"
    return ""
