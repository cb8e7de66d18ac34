# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges, the firmware's map, nodes, and what /proc/iomem says."""

from __future__ import annotations

import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory import memory_map as maps

M, G = 1 << 20, 1 << 30


def test_ranges():
    assert maps.merged([(5, 9), (0, 2), (2, 4), (7, 7)]) == [(0, 4), (5, 9)]
    assert maps.without([(0, 10)], [(3, 5), (9, 20), (6, 6)]) == [(0, 3), (5, 9)]
    assert maps.common([(0, 10), (20, 30)], [(5, 25)]) == [(5, 10), (20, 25)]
    assert maps.total([(0, 10), (20, 30)]) == 20


@pytest.mark.parametrize(
    "given, expected",
    [
        ([], []),
        ("no map here", []),
        ("x BIOS-e820: [mem 0x0000-0x0fff] usable\nBIOS-e820: [mem 0x1000-0x1fff] reserved", [(0, 0x1000)]),
        # EFI maps come in adjacent pieces; what overlaps another type is not RAM.
        (
            [
                {"start": 0, "end": 0xFFF, "type": "System RAM"},
                {"start": "0x1000", "end": "0x2fff", "type": "System RAM"},
                {"start": "0x2000", "end": "0x27ff", "type": "ACPI Tables"},
            ],
            [(0, 0x2000), (0x2800, 0x3000)],
        ),
    ],
)
def test_usable_ram(given, expected):
    assert maps.usable_ram(given) == expected


def test_an_entry_that_lacks_something_is_refused():
    with pytest.raises(HotpmemError, match="has no end"):
        maps.usable_ram([{"start": 0, "type": "System RAM"}])


def test_firmware_map_of_a_tree(tmp_path):
    for number, (start, end, kind) in enumerate([("0x100000", "0x7ffdbfff", "System RAM"), ("0x0", "0x9fbff", "System RAM")]):
        folder = tmp_path / "sys/firmware/memmap" / str(number)
        folder.mkdir(parents=True)
        for name, value in (("start", start), ("end", end), ("type", kind)):
            (folder / name).write_text(value + "\n")
    assert maps.usable_ram(maps.read_firmware_map(Sysfs(str(tmp_path)))) == [(0, 0x9FC00), (0x100000, 0x7FFDC000)]
    assert maps.read_firmware_map(Sysfs(str(tmp_path / "nothing"))) == []


def test_nodes_of_a_captured_machine(captured):
    # Blocks 8 to 11 are reserved and have no folder: the gap belongs to the node around it.
    assert maps.read_nodes(Sysfs(captured("6.1-e820-raw"))) == {0: [(0, 1 << 64)]}


def test_nodes_with_gaps():
    blocks = {0: [0, 1, 2, 5], 1: [6, 7, 9]}
    assert maps.node_ranges(blocks, 128 * M) == {0: [(0, 768 * M)], 1: [(768 * M, 1 << 64)]}


@pytest.mark.parametrize(
    "name, expected",
    [
        ("6.1-e820-raw", [("ram", 0x100000, 0x3FE00000), ("pmem", 0x3FE00000, 0x60000000), ("ram", 0x60000000, 0x7FFDC000)]),
        (
            "6.1-e820-system_ram",
            [
                ("ram", 0x100000, 0x3FE00000),
                ("pmem", 0x3FE00000, 0x40000000),
                ("kmem", 0x40000000, 0x60000000),
                ("ram", 0x60000000, 0x7FFDC000),
            ],
        ),
        ("6.1-nfit-system_ram", [("ram", 0x100000, 0x7FFDC000), ("pmem", 0x147E00000, 0x148000000), ("kmem", 0x148000000, 0x168000000)]),
    ],
)
def test_physical_map(captured, name, expected):
    with open(os.path.join(captured(name), "proc/iomem"), encoding="utf-8") as file:
        found = maps.physical_map(file.read())
    assert [(one["kind"], one["start"], one["start"] + one["size"]) for one in found[1:]] == expected


def test_without_root_there_are_no_addresses():
    assert maps.physical_map("00000000-00000000 : System RAM\n00000000-00000000 : Persistent Memory") == []
