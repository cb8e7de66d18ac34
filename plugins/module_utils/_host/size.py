# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and addresses. Inside the engine they are integers, in bytes."""

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
    """Bytes from ``536870912``, ``512M``, ``512 MiB``, ``2G`` or ``0x20000000``; units are powers of 1024."""
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        match = _SIZE.match(str(value).strip())
        if not match:
            raise HotpmemError(
                "Cannot read a size",
                f"{value!r} is not a size",
                "Write bytes, or a number with K, M, G or T, such as 512M or 0x20000000",
                value=value,
            )
        number = (int(match.group(1), 16) if match.group(1) else int(match.group(2))) * _UNITS[match.group(3).upper()]
    if number < 0:
        raise HotpmemError("Cannot read a size", f"{value!r} is negative", "Write a size of zero or more bytes", value=value)
    return number


def format_size(number: int) -> str:
    """Bytes for people: the largest unit with at most one decimal (``384 MiB``, ``1.9 GiB``)."""
    for unit, name in ((1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(number) >= unit:
            text = f"{number / unit:.1f}"
            return f"{text[:-2] if text.endswith('.0') else text} {name}"
    return f"{number} B"


def format_range(start: int, size: int) -> str:
    """``0x128000000-0x12fffffff``, both ends included, as /proc/iomem prints them."""
    return f"{start:#x}-{start + size - 1:#x}"


def align_up(number: int, step: int) -> int:
    """The lowest multiple of step that is not below number."""
    return -(-number // step) * step


def align_down(number: int, step: int) -> int:
    """The highest multiple of step that is not above number."""
    return number // step * step
