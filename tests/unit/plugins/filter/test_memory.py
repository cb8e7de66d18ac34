# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters about memory."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hotpmem.fleet.plugins.filter.memory_map_picture import memory_map_picture
from ansible_collections.hotpmem.fleet.plugins.filter.plan_reservation import plan_reservation

M, G = 1 << 20, 1 << 30
DMESG = "BIOS-e820: [mem 0x100000-0xbfffffff] usable\nBIOS-e820: [mem 0x100000000-0x23fffffff] usable\n"


def piece(start, end, kind):
    return {"start": start, "size": end - start, "kind": kind}


@pytest.mark.parametrize(
    "pieces, width, expected",
    [
        ([], 60, ""),
        ([piece(0, G, "ram")], 12, "[RAM#######]"),
        ([piece(0, G, "ram"), piece(G, 2 * G, "pmem"), piece(2 * G, 4 * G, "ram")], 44, "[RAM#######|pmem======|RAM#################]"),
        # Holes are not drawn; RAM on both sides of one is a single piece. The map need not be in order.
        ([piece(2 * G, 3 * G, "ram"), piece(0, G, "ram"), piece(3 * G, 5 * G, "pmem")], 23, "[RAM#######|pmem======]"),
        # The info block belongs to what comes after it.
        (
            [piece(0, 1022 * M, "ram"), piece(1022 * M, G, "pmem"), piece(G, 1536 * M, "kmem"), piece(1536 * M, 2047 * M, "ram")],
            60,
            "[RAM#########################|pmem+RAM++++++|RAM###########]",
        ),
        # Too small to be seen, but drawn anyway.
        ([piece(0, 100 * G, "ram"), piece(100 * G, 100 * G + 512 * M, "pmem")], 20, "[RAM##############|pmem]"),
    ],
)
def test_picture(pieces, width, expected):
    assert memory_map_picture(pieces, width) == expected


def test_picture_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="unknown kind 'disk', it must be one of ram, kmem, pmem"):
        memory_map_picture([piece(0, 1, "disk")])


def test_plan_from_dmesg():
    assert plan_reservation(DMESG, "2G")["memmap"] == ["2050M!4222M"]
    assert plan_reservation(DMESG, "2G", "2G", lead="16M")["memmap"] == ["2064M!6128M"]


def test_plan_from_facts():
    entries = [{"start": "0x100000", "end": "0xbfffffff", "type": "System RAM"}]
    nodes = {"0": [[0, 1 << 64]]}
    assert plan_reservation(entries, "512M", nodes=nodes, numa_node=0, command_line="memmap=1G!1G")["memmap"] == ["514M!2302M"]


def test_plan_refuses_in_words():
    with pytest.raises(
        AnsibleFilterError, match=r"less than one block can't become RAM again.*The nearest plan that works: hotpmem_size 2048M"
    ):
        plan_reservation(DMESG, "1G", "2G")
