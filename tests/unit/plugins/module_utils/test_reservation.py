# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for machines of many shapes, and an independent checker for random ones."""

from __future__ import annotations

import random
import re
import time

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.free_memory import Machine, Wish
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.reservation import LEAD, Planner
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.memory_map import usable_ram

M, G = 1 << 20, 1 << 30
# QEMU q35 with 2 GiB, as its 6.1 kernel printed it.
LAB = """
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff] reserved
[    0.000000] BIOS-e820: [mem 0x00000000000f0000-0x00000000000fffff] reserved
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007ffdbfff] usable
[    0.000000] BIOS-e820: [mem 0x000000007ffdc000-0x000000007fffffff] reserved
[    0.000000] BIOS-e820: [mem 0x00000000b0000000-0x00000000bfffffff] reserved
"""
LOW = [(0x1000, 0x9F000), (0x100000, 0xBFF00000)]
EIGHT = LOW + [(4 * G, 9 * G)]  # 8 GiB, a hole of a GiB below 4 GiB
TWO_NODES = LOW + [(4 * G, 65 * G)]
NODES = {0: [(0, 33 * G)], 1: [(33 * G, 1 << 64)]}


def planned(ram, size, *, block=128 * M, command_line="", ours=(), nodes=None, **wish):
    machine = Machine(tuple(ram), block, command_line, nodes or {})
    return Planner(machine, ours).plan(Wish(size, **wish))


@pytest.mark.parametrize(
    "ram, size, more, expected",
    [
        (usable_ram(LAB), 512 * M, {}, ["memmap=514M!1150M"]),
        (usable_ram(LAB), 512 * M, {"lead": 16 * M}, ["memmap=528M!1136M"]),
        (usable_ram(LAB), 512 * M, {"command_line": "crashkernel=256M"}, ["memmap=514M!1150M"]),
        (EIGHT, 2 * G, {}, ["memmap=2050M!4222M"]),
        (EIGHT, 2 * G, {"block": 2 * G}, ["memmap=2050M!6142M"]),
        (EIGHT, 2 * G - M, {}, ["memmap=2050M!4222M"]),
        (EIGHT, 2 * G, {"lead": 16 * M}, ["memmap=2064M!4208M"]),
        (EIGHT, 2 * G, {"command_line": "memmap=1G!5G"}, ["memmap=2050M!6270M"]),
        (EIGHT, 2 * G, {"command_line": "memmap=1M$0x140000000"}, ["memmap=2050M!5246M"]),
        (EIGHT, 2 * G, {"command_line": "mem=4G"}, None),
        (EIGHT, 2 * G, {"command_line": "mem=4G", "share": 90}, ["memmap=2050M!638M"]),
        (EIGHT, 2 * G, {"command_line": "crashkernel=512M@5G"}, ["memmap=2050M!5758M"]),
        (EIGHT, 4 * G, {"share": 60}, ["memmap=4098M!4222M"]),
        (EIGHT, 4 * G, {"share": 60, "command_line": "crashkernel=1G,high"}, None),
        (EIGHT, 3 * G, {"command_line": "crashkernel=1G,high"}, ["memmap=3074M!4222M"]),
        (EIGHT, 2 * G, {"command_line": "crashkernel=2G-8G:256M,8G-:3G"}, ["memmap=2050M!4222M"]),
        (TWO_NODES, 8 * G, {"nodes": NODES, "node": 0}, ["memmap=8194M!4222M"]),
        (TWO_NODES, 8 * G, {"nodes": NODES, "node": 1}, ["memmap=8194M!33918M"]),
        (TWO_NODES, 8 * G, {"nodes": NODES, "node": 1, "block": 2 * G}, ["memmap=8194M!34814M"]),
        # No single range holds it; two do.
        ([(M, G), (4 * G, 5 * G), (6 * G, 7 * G)], 1280 * M, {"share": 90}, None),
        (
            [(M, G), (4 * G, 5 * G), (6 * G, 7 * G)],
            1280 * M,
            {"share": 90, "regions": 2},
            ["memmap=898M!4222M", "memmap=386M!6270M"],
        ),
    ],
)
def test_table(ram, size, more, expected):
    if expected is None:
        with pytest.raises(HotpmemError):
            planned(ram, size, **more)
    else:
        assert planned(ram, size, **more).words == expected


def test_two_gib_wanted_are_two_gib_gained():
    facts = planned(EIGHT, 2 * G).to_dict()
    assert (facts["gained_bytes"], facts["lost_bytes"]) == (2 * G, 2 * M)
    assert (facts["regions"][0]["first_block"], facts["regions"][0]["last_block"]) == (33, 48)
    text = " ".join(facts["sentences"])
    assert all(
        part in text for part in ("Gained as RAM: 2 GiB. Lost: 2 MiB", "above 4 GiB", "16 whole memory blocks", "1 of the 4 memmap=")
    )


def test_rounding_is_said():
    assert any("rounded up" in one for one in planned(EIGHT, 600 * M).sentences)


@pytest.mark.parametrize(
    "ram, size, more, said, nearest",
    [
        (EIGHT, G, {"block": 2 * G}, "less than one block", ["2050M!6142M"]),
        (EIGHT, 5 * G, {}, "more than 50 percent", ["3970M!4222M"]),
        (EIGHT, 2 * G, {"command_line": "memmap=1M!1G memmap=1M!2G,1M$5G memmap=1M#6G"}, "KASLR", None),
        ([(M, 3 * G)], G, {"command_line": "crashkernel=2G"}, "crashkernel= asks for", ["898M!126M"]),
        ([(M, 120 * M)], 128 * M, {}, "more than 50 percent", None),
        ([(M, 120 * M), (200 * M, 250 * M), (300 * M, 380 * M)], 128 * M, {"share": 90}, "the largest free range has", None),
        (EIGHT, 4 * G, {"nodes": {0: [(0, 4 * G)], 1: [(4 * G, 9 * G)]}, "node": 0, "share": 60}, "on NUMA node 0", ["2818M!126M"]),
        (EIGHT, G, {"nodes": {0: [(0, 9 * G)]}, "node": 3}, "has no NUMA node 3", None),
        (EIGHT, G, {"command_line": "memmap=exactmap memmap=4G@0"}, "replaces the firmware's memory map", None),
        ([], G, {}, "/sys/firmware/memmap", None),
        (EIGHT, 0, {}, "0 bytes is not a valid size", None),
        (EIGHT, G, {"lead": 4 * M}, "memory blocks would be lost", None),
        (EIGHT, G, {"regions": 5}, "5 regions", None),
        (EIGHT, G, {"share": 100}, "100 percent", None),
    ],
)
def test_refusals_name_the_nearest_plan(ram, size, more, said, nearest):
    with pytest.raises(HotpmemError) as caught:
        planned(ram, size, **more)
    assert said in str(caught.value)
    found = caught.value.details["nearest"]
    assert (found and found["memmap"]) == nearest
    if nearest:
        assert f"memmap={nearest[0]}" in str(caught.value)


def test_another_node_is_offered():
    nodes = {0: [(0, 4 * G)], 1: [(4 * G, 4 * G + 64 * M)]}
    with pytest.raises(HotpmemError, match="without hotpmem_numa_node"):
        planned([(M, 3 * G), (4 * G, 4 * G + 64 * M)], 512 * M, nodes=nodes, node=1)


@pytest.mark.parametrize("architecture", ["aarch64", "ppc64le"])
def test_other_platforms_are_told_what_to_do(architecture):
    with pytest.raises(HotpmemError) as caught:
        Planner(Machine((), 128 * M, architecture=architecture)).plan(Wish(512 * M))
    assert 'compatible = "pmem-region"' in str(caught.value)
    assert "514M" in str(caught.value)


@pytest.mark.parametrize(
    "word, size, kept",
    [
        ("memmap=514M!1022M", 512 * M, True),  # somebody else's choice of place, as good
        ("memmap=528M!1008M", 512 * M, True),
        ("memmap=512M!1G", 512 * M, False),  # loses a block
        ("memmap=514M!1022M", 384 * M, False),
        ("memmap=514M!1662M", 512 * M, False),  # runs over the end of RAM
        ("memmap=514M$1022M", 512 * M, False),
    ],
)
def test_what_is_reserved_already_stays(word, size, kept):
    plan = planned(usable_ram(LAB), size, command_line=f"quiet {word}", ours=[word])
    assert plan.kept is kept
    assert (plan.words == [word]) is kept


def random_machine(dice):
    """RAM with holes, foreign arguments, nodes."""
    ram, where = [(0x1000, 0x9F000)], M
    for _turn in range(dice.randint(1, 6)):
        start = where + dice.choice([0, 4096 * dice.randint(0, 100000), dice.randint(0, 3 * G)])
        end = start + dice.choice([dice.randint(4096, 512 * M), dice.randint(M, 12 * G)])
        ram.append((start // 4096 * 4096, end // 4096 * 4096))
        where = end + 4096
    words = ["quiet"]
    for _turn in range(dice.randint(0, 4)):
        words.append(f"memmap={dice.randint(1, 900)}M{dice.choice('!$#')}{dice.randint(1, where // M)}M")
    if dice.random() < 0.5:
        size = dice.choice([64, 192, 512])
        words.append(
            dice.choice([f"crashkernel={size}M", f"crashkernel={size}M@{dice.randint(16, where // M + 16)}M", f"crashkernel={size}M,high"])
        )
    cut = dice.randint(1, where // (128 * M) + 1) * 128 * M
    return ram, " ".join(words), {0: [(0, cut)], 1: [(cut, 1 << 64)]}


def room(ram, taken, size):
    """Whether crashkernel= has a place below 4 GiB; every one is tried."""
    return any(
        any(low <= start and start + size <= high for low, high in ram) and all(start + size <= low or high <= start for low, high in taken)
        for start in range(16 * M, 4 * G - size + 1, 16 * M)
    )


def check(plan, wish, machine):
    """The invariants, from the facts alone and page by page where that is simplest; nothing of the planner's arithmetic."""
    ram, block, command_line, nodes = machine.ram, machine.block_size, machine.command_line, machine.nodes
    total_size = gained = 0
    taken = []
    for value in plan.to_dict()["memmap"]:
        size, start = (int(part[:-1]) * {"K": 1024, "M": M, "G": G}[part[-1]] for part in value.split("!"))
        taken.append((start, start + size))
        total_size += size
        gained += (start + size) // block * block - -(-(start + LEAD) // block) * block
    fixed = [(0, 16 * M)]
    for size, start in re.findall(r"memmap=(\d+)M[!$#](\d+)M", command_line) + re.findall(r"crashkernel=(\d+)M@(\d+)M", command_line):
        fixed.append((int(start) * M, (int(start) + int(size)) * M))
    crash = re.search(r"crashkernel=(\d+)M$", command_line)
    if crash and room(ram, fixed, int(crash.group(1)) * M):
        assert room(ram, fixed + taken, int(crash.group(1)) * M)
    assert gained == -(-wish.size // block) * block
    assert total_size == gained + len(taken) * wish.lead
    assert len(taken) <= wish.regions
    assert len(taken) + command_line.count("memmap=") <= 4
    assert total_size <= sum(end - start for start, end in ram) * wish.share / 100
    for index, (start, end) in enumerate(taken):
        assert start % (2 * M) == 0 and end % block == 0 and (start + wish.lead) % block == 0
        for low, high in fixed + taken[:index]:
            assert end <= low or high <= start
        assert any(low <= start and end <= high for low, high in ram)
        if wish.node is not None:
            assert any(low <= start and end <= high for low, high in nodes[wish.node])


def test_terabytes_take_no_time():
    ram = [*LOW, (4 * G, 4096 * G)]
    assert planned(ram, 64 * G, command_line="crashkernel=1G,high").words == ["memmap=65538M!4222M"]
    started = time.process_time()
    with pytest.raises(HotpmemError, match="more than 50 percent"):
        planned(ram, 3072 * G)
    assert time.process_time() - started < 5


def test_random_machines():
    dice = random.Random(20261122)
    found = refused = 0
    for _turn in range(800):
        ram, command_line, nodes = random_machine(dice)
        block = dice.choice([128 * M, 128 * M, 256 * M, 2 * G])
        wish = Wish(
            dice.randint(1, 6 * G),
            dice.choice([None, 0, 1]),
            dice.choice([LEAD, 16 * M]),
            dice.choice([1, 1, 2, 3]),
            dice.choice([25, 50, 80]),
        )
        machine = Machine(tuple(ram), block, command_line, nodes)
        try:
            plan = Planner(machine).plan(wish)
        except HotpmemError as error:
            refused += 1
            nearest = error.details["nearest"]
            if nearest:
                # What is offered must be granted when it is asked for.
                node = None if "without hotpmem_numa_node" in str(error) else wish.node
                again = Wish(nearest["wanted_bytes"], node, wish.lead, wish.regions, wish.share)
                offered = Planner(machine).plan(again)
                assert offered.to_dict()["memmap"] == nearest["memmap"]
                check(offered, again, machine)
            continue
        found += 1
        check(plan, wish, machine)
        # With the plan carried out, the next run keeps it.
        after = Machine(tuple(ram), block, " ".join([command_line, *plan.words]), nodes)
        second = Planner(after, plan.words).plan(wish)
        assert second.kept and second.words == plan.words
    assert found > 150 and refused > 150
