# SPDX-License-Identifier: GPL-3.0-or-later
"""The device tree of a machine that starts without firmware, with persistent memory in it: a node `pmem-region` (CONFIG_OF_PMEM).

QEMU writes the tree of the machine (dumpdtb), and this adds to it. QEMU replaces the memory nodes of a tree that it is given, so the
memory can't be left out of them: it is reserved with no-map, which keeps the kernel from using it.
Format: https://www.devicetree.org/specifications, chapter 5.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError

_BEGIN, _END, _PROPERTY, _FINISH = 1, 2, 3, 9
_LAST = struct.pack(">II", _END, _FINISH)


def dump(argv: Sequence[str], environment: dict[str, str], path: Path) -> bytes:
    """The tree that this QEMU gives to such a machine. argv: the last word is that of -machine."""
    done = subprocess.run([*argv[:-1], f"{argv[-1]},dumpdtb={path}"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not path.exists():
        raise LabError("QEMU did not write the device tree of the machine", done.stderr.strip())
    return path.read_bytes()


def with_pmem(tree: bytes, start: int, size: int) -> bytes:
    """A tree with a range of its memory reserved, and described as persistent memory of node 0."""
    fields = list(struct.unpack_from(">10I", tree))
    _magic, _total, struct_at, strings_at, reserved_at, _version, _oldest, _cpu, strings_size, struct_size = fields
    body, strings = tree[struct_at : struct_at + struct_size], bytearray(tree[strings_at : strings_at + strings_size])
    reserved = tree[reserved_at:struct_at]
    if not body.endswith(_LAST) or reserved_at >= struct_at:
        raise LabError("The device tree of the machine does not look as expected", f"{fields}")
    cells = {"#address-cells": _cell(2), "#size-cells": _cell(2)}
    place = {"reg": struct.pack(">QQ", start, size)}
    added = _node(strings, "reserved-memory", {**cells, "ranges": b""}, _node(strings, f"kept@{start:x}", {**place, "no-map": b""}))
    # Without a node kmem refuses the memory.
    added += _node(strings, f"pmem@{start:x}", {"compatible": b"pmem-region\0", **place, "volatile": b"", "numa-node-id": _cell(0)})
    body = body[: -len(_LAST)] + added + _LAST
    struct_at = 40 + -(-len(reserved) // 8) * 8
    fields[1:5] = struct_at + len(body) + len(strings), struct_at, struct_at + len(body), 40
    fields[8:] = len(strings), len(body)
    return struct.pack(">10I", *fields) + reserved.ljust(struct_at - 40, b"\0") + body + strings


def _cell(value: int) -> bytes:
    return struct.pack(">I", value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _node(strings: bytearray, name: str, properties: dict[str, bytes], *children: bytes) -> bytes:
    """A node. The names of its properties go to the end of strings."""
    out = _cell(_BEGIN) + _padded(name.encode() + b"\0")
    for key, value in properties.items():
        out += struct.pack(">III", _PROPERTY, len(value), len(strings)) + _padded(value)
        strings += key.encode() + b"\0"
    return out + b"".join(children) + _cell(_END)
