# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the memory arguments of a kernel command line, and edits the collection's own.

It never changes other arguments. It does no I/O.

Sources: Documentation/admin-guide/kernel-parameters.txt (memmap=, mem=),
Documentation/admin-guide/kdump/kdump.rst (crashkernel=), arch/x86/boot/compressed/kaslr.c (which
memmap= entries KASLR counts), kernel/params.c parse_args (``--``), COMMAND_LINE_SIZE in
arch/*/include/**/setup.h, and bzImage64_load in arch/x86/kernel/kexec-bzimage64.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from .._host.errors import HotpmemError
from .._host.size import GIB, MIB, parse_size
from .._memory.memory_map import Range, merged

_MEMMAP = re.compile(r"^(0[xX][0-9a-fA-F]+[KMGTkmgt]?|\d+[KMGTkmgt]?)([!$#@%])(0[xX][0-9a-fA-F]+[KMGTkmgt]?|\d+[KMGTkmgt]?)(?:[-+].*)?$")
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_LIMIT = re.compile(r"^(?:(0[xX][0-9a-fA-F]+)|([0-9]+))([KMGTkmgt]?)")  # what memparse() reads of mem=; it ignores the rest
# Bytes of a command line without the terminating NUL: COMMAND_LINE_SIZE - 1. Others have another limit, or set it at build time.
_LINE_LIMITS = {"x86_64": 2047, "i386": 2047, "i586": 2047, "i686": 2047, "aarch64": 2047}
# kexec_file_load on x86 counts the NUL, and keeps room for an elfcorehdr= (30 bytes) although only a crash kernel gets that.
_KEXEC_ROOM = 31
_AUTO = 512 * MIB  # the most that crashkernel=auto reserves (RHEL 8 and older)
_LOW = 256 * MIB  # what crashkernel=SIZE,high also reserves below 4 GiB, unless a crashkernel=SIZE,low is given


@dataclass(frozen=True)
class Memmap:
    """One ``SIZE!START`` of a memmap= argument. start and size are in bytes.

    kind is ``!`` (persistent memory), ``$`` (reserved), ``#`` (ACPI data), ``@`` (RAM) or ``%``
    (changed type).
    """

    start: int
    size: int
    kind: str


@dataclass(frozen=True)
class Crash:
    """One request of crashkernel=.

    ``size`` and ``start`` are in bytes. The kernel chooses the address when ``start`` has no value
    (None). place is ``low`` (below 4 GiB), ``high`` (above) or ``any``.
    """

    size: int
    start: Optional[int]
    place: str


@dataclass(frozen=True)
class MemoryWords:
    """The memory arguments of a command line.

    limit is the address in bytes from which RAM is not used (mem=), or None. exact is True for
    memmap=exactmap.
    """

    memmaps: Tuple[Memmap, ...]
    limit: Optional[int]
    exact: bool

    @property
    def taken(self) -> List[Range]:
        """Address ranges that a memmap= argument takes out of RAM."""
        return merged((one.start, one.start + one.size) for one in self.memmaps if one.kind != "@")

    @property
    def kaslr_entries(self) -> int:
        """How many of these entries KASLR has to avoid. It can avoid four at most."""
        return sum(one.kind in "!$#" for one in self.memmaps)


def words(command_line: str) -> List[str]:
    """The arguments of a kernel command line, with those after ``--``.

    White space inside double quotes does not end an argument.
    """
    return _WORD.findall(command_line)


def split_init(command_line: str) -> Tuple[List[str], List[str]]:
    """The kernel's arguments, and those for init, which begin with ``--``.

    The kernel reads no argument after ``--`` (parse_args() in kernel/params.c). It passes them to
    the init program.
    """
    found = words(command_line)
    end = found.index("--") if "--" in found else len(found)
    return found[:end], found[end:]


def kernel_words(command_line: str) -> List[str]:
    """The arguments that the kernel reads: those before ``--``."""
    return split_init(command_line)[0]


def lost_reservations(running: str, command_line: str) -> List[str]:
    """The memmap= and mem= arguments of the running command line that ``command_line`` lacks.

    mem= is what keeps a kernel off the persistent memory of a device tree whose memory nodes hold it.
    """
    kept = kernel_words(command_line)
    return [word for word in kernel_words(running) if word.startswith(("memmap=", "mem=")) and word not in kept]


def boot_limit(architecture: str) -> Optional[int]:
    """The largest command line, in bytes, that a kernel gets from its boot loader whole.

    A longer one is cut off without a message. None when the limit is unknown. ``architecture`` is
    written as ``uname -m`` prints it.
    """
    return _LINE_LIMITS.get(architecture)


def kexec_limit(architecture: str) -> Optional[int]:
    """The largest command line, in bytes, that kexec_file_load accepts; None when that is unknown."""
    limit = boot_limit(architecture)
    return limit - _KEXEC_ROOM if limit and architecture != "aarch64" else limit


def too_long(command_line: str, limit: Optional[int]) -> str:
    """A sentence with the number of bytes and the limit when the line is too long, else empty.

    ``limit`` is in bytes; None means that it is unknown.
    """
    size = len(command_line.encode("utf-8", "surrogateescape"))
    return f"it has {size} bytes, and the kernel takes at most {limit}" if limit and size > limit else ""


def without_comments(text: str) -> Tuple[str, str]:
    """The comment lines of /etc/kernel/cmdline, and the other lines.

    A line is a comment when its first character that is not white space is ``#``.
    """
    rows = text.splitlines(keepends=True)
    return "".join(row for row in rows if row.lstrip().startswith("#")), "".join(row for row in rows if not row.lstrip().startswith("#"))


def memory_words(command_line: str) -> MemoryWords:
    """Read memmap= and mem=.

    Raises HotpmemError for an argument in an unknown form, because its range must not be guessed.
    """
    memmaps: List[Memmap] = []
    limits: List[int] = []
    exact = False
    for word in kernel_words(command_line):
        key, _separator, value = word.partition("=")
        if key == "mem" and value and value != "nopentium":
            number = _LIMIT.match(value.strip('"'))
            if not number:
                raise _unknown(word, "mem=SIZE, for example mem=8G")
            limits.append(parse_size(number.group(0)))
        if key != "memmap":
            continue
        for part in value.strip('"').replace("\\$", "$").split(","):
            match = _MEMMAP.match(part)
            if part == "exactmap":
                exact = True
            elif match:
                memmaps.append(Memmap(parse_size(match.group(3)), parse_size(match.group(1)), match.group(2)))
            elif re.match(r"^(0x[0-9a-f]+|\d+)[kmgt]?$", part, re.IGNORECASE):
                limits.append(parse_size(part))
            else:
                raise _unknown(word, "memmap=SIZE!START, for example memmap=514M!1022M")
    return MemoryWords(tuple(memmaps), min(limits, default=None), exact)


def _unknown(word: str, form: str) -> HotpmemError:
    return HotpmemError(
        "Cannot read the kernel command line",
        f"the argument {word} has an unknown form",
        f"Correct it in the boot loader's configuration. A valid form is {form}",
    )


def crash_requests(command_line: str, ram: int) -> List[Crash]:
    """What crashkernel= reserves on a machine with ``ram`` bytes of RAM.

    A value in an unknown form counts as 512 MiB anywhere.
    """
    found: List[Crash] = []
    low: Optional[int] = None
    for word in kernel_words(command_line):
        key, _separator, value = word.partition("=")
        if key != "crashkernel":
            continue
        value, _comma, suffix = value.strip('"').partition(",") if ":" not in value else (value, "", "")
        if suffix == "low":
            low = _size_or(value, _LOW)
        elif ":" in value:
            ranges, _at, offset = value.partition("@")
            size = _of_ranges(ranges, ram)
            if size:
                found.append(Crash(size, _size_or(offset, 0) if offset else None, "low"))
        elif value == "auto":
            found.append(Crash(_AUTO, None, "low"))
        else:
            size_text, _at, offset = value.partition("@")
            size = _size_or(size_text, _AUTO)
            place = {"": "low", "high": "high"}.get(suffix, "any")
            if size:
                found.append(Crash(size, _size_or(offset, 0) if offset else None, place))
    if low is None and any(one.place == "high" for one in found):
        low = _LOW
    if low:
        found.append(Crash(low, None, "low"))
    return found


def _of_ranges(text: str, ram: int) -> int:
    """The size in bytes that ``1G-4G:192M,4G-:256M`` gives for ``ram`` bytes of RAM.

    0 when no range matches.
    """
    for part in text.split(","):
        span, _colon, size = part.partition(":")
        first, _dash, last = span.partition("-")
        if _size_or(first, 0) <= ram and (not last or ram < _size_or(last, 1 << 64)):
            return _size_or(size, _AUTO)
    return 0


def _size_or(text: str, default: int) -> int:
    try:
        return parse_size(text)
    except HotpmemError:
        return default


def memmap_word(start: int, size: int) -> str:
    """The argument in its shortest exact form, for example ``memmap=514M!1022M``.

    ``start`` and ``size`` are in bytes.
    """
    return f"memmap={_short(size)}!{_short(start)}"


def _short(number: int) -> str:
    for unit, letter in ((GIB, "G"), (MIB, "M"), (1024, "K")):
        if number and number % unit == 0:
            return f"{number // unit}{letter}"
    return hex(number)


def merge(command_line: str, ours: Sequence[str], wanted: Sequence[str]) -> Tuple[str, List[str]]:
    """Replace the collection's arguments in a kernel command line, and no others.

    ``ours`` lists the arguments that the collection added before, as recorded; each stands for one
    occurrence. ``wanted`` lists those that the new line must have; it is empty to undo. When
    somebody else added a wanted argument, it stays theirs, so that undoing leaves it. The arguments
    after ``--`` belong to init: they stay as they are, and count as nobody's. Returns the new line,
    and the arguments in it that belong to the collection.
    """
    remaining = list(ours)
    kept: List[str] = []
    line: List[str] = []
    kernel, init = split_init(command_line)
    for word in kernel:
        if word in remaining:
            remaining.remove(word)
            if word not in wanted or word in line:
                continue
            kept.append(word)
        line.append(word)
    for word in wanted:
        if word not in line:
            line.append(word)
            kept.append(word)
    return " ".join([*line, *init]), [word for word in wanted if word in kept]
