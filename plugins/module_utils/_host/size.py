# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts sizes and addresses to and from text. The engine keeps them as integers, in bytes."""

from __future__ import annotations

import re
from typing import Union

from .errors import HotpmemError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_UNITS = {"": 1, "B": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1 << 40}
_SIZE = re.compile(r"^(?:(0[xX][0-9a-fA-F]+)|([0-9]+))\s*([KMGT]?)(?:i?B)?$", re.IGNORECASE)


def parse_size(value: Union[int, str]) -> int:
    """Return the bytes in ``536870912``, ``512M``, ``512 MiB``, ``2G`` or ``0x20000000``.

    Units are powers of 1024. Raises HotpmemError for any other text and for a negative number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        match = _SIZE.match(str(value).strip())
        if not match:
            raise HotpmemError(
                "Cannot parse the size",
                f"{value!r} is not a size",
                "Give a number of bytes (536870912 or 0x20000000), or a number with the unit K, M, G or T (512M)",
                value=value,
            )
        number = (int(match.group(1), 16) if match.group(1) else int(match.group(2))) * _UNITS[match.group(3).upper()]
    if number < 0:
        raise HotpmemError("Cannot parse the size", f"{value!r} is negative", "Give a size of zero or more bytes", value=value)
    return number


def format_size(number: int) -> str:
    """Format bytes for a person: the largest unit, with at most one decimal (``384 MiB``, ``1.9 GiB``)."""
    for unit, name in ((1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(number) >= unit:
            text = f"{number / unit:.1f}"
            return f"{text[:-2] if text.endswith('.0') else text} {name}"
    return f"{number} B"


def format_range(start: int, size: int) -> str:
    """Format a range as ``0x128000000-0x12fffffff``.

    Both ends are included, as in /proc/iomem. size: bytes.
    """
    return f"{start:#x}-{start + size - 1:#x}"


def align_up(number: int, step: int) -> int:
    """Return the lowest multiple of step that is greater than or equal to number."""
    return -(-number // step) * step


def align_down(number: int, step: int) -> int:
    """Return the highest multiple of step that is less than or equal to number."""
    return number // step * step
