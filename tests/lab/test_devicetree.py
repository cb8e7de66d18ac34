# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import struct

import pytest
from hotlab import devicetree
from hotlab.errors import LabError

Tree = dict[str, dict[str, bytes]]


def tree(root: bytes, strings: bytes) -> bytes:
    """A tree as QEMU writes it: with an empty list of reservations, and room at its end."""
    body = struct.pack(">III", 1, 0, 3) + root + struct.pack(">II", 2, 9)
    header = struct.pack(">10I", 0xD00DFEED, 4096, 56, 56 + len(body), 40, 17, 16, 0, len(strings), len(body))
    return (header + bytes(16) + body + strings).ljust(4096, b"\0")


def read(data: bytes) -> Tree:
    """path -> its properties."""
    _magic, total, at, strings_at, reserved_at, *_rest, size = struct.unpack_from(">10I", data)
    assert total == len(data) and at % 4 == 0 and reserved_at % 8 == 0 and data[reserved_at:][:16] == bytes(16)
    end, path, found = at + size, [""], Tree()
    while at < end:
        (token,) = struct.unpack_from(">I", data, at)
        at += 4
        if token == 1:
            name = data[at : data.index(b"\0", at)]
            at += -(-(len(name) + 1) // 4) * 4
            path.append(name.decode())
            found["/".join(path[1:]) or "/"] = {}
        elif token == 2:
            path.pop()
        elif token == 3:
            length, offset = struct.unpack_from(">II", data, at)
            key = data[strings_at + offset : data.index(b"\0", strings_at + offset)].decode()
            found["/".join(path[1:]) or "/"][key] = data[at + 8 : at + 8 + length]
            at += 8 + -(-length // 4) * 4
    assert token == 9 and path == [""]
    return found


def test_the_memory_is_reserved_and_described() -> None:
    before = tree(struct.pack(">II", 5, 0) + b"virt\0\0\0\0", b"model\0")
    found = read(devicetree.with_pmem(before, 0x7FE00000, 0x20200000))
    place = bytes.fromhex("000000007fe000000000000020200000")
    assert found.pop("/") == {"model": b"virt\0"}
    assert found["/reserved-memory/kept@7fe00000"] == {"reg": place, "no-map": b""}
    pmem = found["/pmem@7fe00000"]
    assert (pmem["compatible"], pmem["reg"], pmem["numa-node-id"]) == (b"pmem-region\0", place, bytes(4))


def test_another_tree_is_refused() -> None:
    with pytest.raises(LabError, match="does not look as expected"):
        devicetree.with_pmem(tree(b"", b"")[:70], 0, 0)
