# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory blocks: arithmetic, captured states, and all-or-nothing changes."""

from __future__ import annotations

import errno
import shutil

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory import memory_blocks as mb

M = 1 << 20
G = 1 << 30


@pytest.mark.parametrize(
    "start, size, block, numbers",
    [
        # memmap=512M!1G: dax data starts 2 MiB in, 384 MiB are left; memmap=514M!1022M: all of them.
        (G + 2 * M, 510 * M, 128 * M, [9, 10, 11]),
        (G, 512 * M, 128 * M, [8, 9, 10, 11]),
        # 2G!4G yields 1920 MiB; with blocks of 2 GiB it yields nothing.
        (4 * G + 2 * M, 2 * G - 2 * M, 128 * M, list(range(33, 48))),
        (4 * G + 2 * M, 2 * G - 2 * M, 2 * G, []),
        (G, 127 * M, 128 * M, []),
        (G + M, 127 * M, 128 * M, []),
        (G, 0, 128 * M, []),
        (0, 128 * M, 128 * M, [0]),
    ],
)
def test_whole_blocks(start, size, block, numbers):
    assert list(mb.whole_blocks(start, size, block)) == numbers


@pytest.mark.parametrize(
    "state, zones, zone, what",
    [
        ("online", ("Movable",), "Movable", "online_movable"),
        ("online", ("Normal",), "Normal", "online_kernel"),
        ("online", ("none",), "", "online_kernel"),
        ("offline", ("Normal", "Movable"), "", "offline"),
        ("going-offline", ("Movable",), "Movable", "online_movable"),
    ],
)
def test_block(state, zones, zone, what):
    block = mb.Block(8, G, 128 * M, state, zones)
    assert (block.zone, block.what_it_is) == (zone, what)
    assert block.to_dict()["range"] == "0x40000000-0x47ffffff"


@pytest.mark.parametrize("name, states", [("6.1-e820-system_ram", {"online_movable": 4}), ("6.1-e820-devdax", {})])
def test_captured(kernel, name, states):
    memory = mb.MemoryBlocks(kernel(name))
    assert memory.block_size() == 128 * M
    assert memory.auto_online() == "offline"
    assert mb.summary(memory.present(range(8, 12))) == {"online_bytes": 512 * M if states else 0, "blocks": states}


def test_no_hotplug(tmp_path):
    from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs

    with pytest.raises(HotpmemError, match="CONFIG_MEMORY_HOTPLUG"):
        mb.MemoryBlocks(Sysfs(str(tmp_path))).block_size()


@pytest.fixture
def machine(kernel):
    """System RAM in blocks 8 to 11, and its memory with a clock that the test moves."""
    fake = kernel("6.1-e820-system_ram")
    return fake, mb.MemoryBlocks(fake, fake.clock, fake.pause)


def change(memory, state, timeout=60, retries=3):
    return [block.number for block in memory.set_state(memory.present(range(8, 12)), state, timeout, retries)]


def states(memory):
    return [block.what_it_is for block in memory.present(range(8, 12))]


def test_offline_then_again(machine):
    fake, memory = machine
    assert change(memory, "offline") == [8, 9, 10, 11]
    assert states(memory) == ["offline"] * 4
    assert fake.writes == [f"offline > memory{n}/state" for n in (11, 10, 9, 8)]
    fake.writes.clear()
    assert change(memory, "offline") == []
    assert fake.writes == []


def test_zone_is_changed_by_way_of_offline(machine):
    fake, memory = machine
    fake.block(9, "online", "Normal")
    assert change(memory, "online_movable") == [9]
    assert fake.writes == ["offline > memory9/state", "online_movable > memory9/state"]


def test_busy_is_tried_again(machine):
    fake, memory = machine
    fake.busy = {9: [errno.EBUSY, errno.EBUSY]}
    assert change(memory, "offline") == [8, 9, 10, 11]
    assert fake.writes.count("offline > memory9/state") == 3


@pytest.mark.parametrize(
    "zone, answer, said, todo",
    [
        ("Movable", [errno.EBUSY] * 9, "EBUSY: a page in it could not be isolated in 3 tries", "Find the process that pins"),
        ("Normal", [errno.EBUSY] * 9, "EBUSY: it holds an unmovable page: zone Normal", "Only blocks in zone Movable"),
        ("Movable", [errno.EINVAL], "EINVAL: it has holes", "Find the process that pins"),
    ],
)
def test_failure_puts_everything_back(machine, zone, answer, said, todo):
    fake, memory = machine
    fake.block(9, "online", zone)
    fake.zone_given["online_kernel"] = zone
    fake.busy = {9: list(answer)}
    before = states(memory)
    with pytest.raises(HotpmemError) as caught:
        change(memory, "offline", retries=2)
    assert states(memory) == before
    details = caught.value.details
    assert [(one["block"], one["range"], one["zone"]) for one in details["failed_blocks"]] == [(9, "0x48000000-0x4fffffff", zone)]
    assert set(details["rolled_back"]) <= {8, 10, 11} and {10, 11} <= set(details["rolled_back"])
    assert details["not_rolled_back"] == []
    assert (
        "memory block 9 (0x48000000-0x4fffffff" in str(caught.value)
        and said in str(caught.value)
        and "nothing was lost" in str(caught.value)
    )
    assert caught.value.todo.startswith(todo)


def test_one_deadline_for_all(machine):
    fake, memory = machine
    fake.busy = {11: [errno.ETIMEDOUT]}

    def timed(name, value, seconds):
        if seconds <= 0:
            raise mb.SystemCallError("write", errno.ETIMEDOUT, "")
        fake.write(name, value)

    fake.write_until = timed
    with pytest.raises(HotpmemError) as caught:
        change(memory, "offline")
    assert sorted(one["block"] for one in caught.value.details["failed_blocks"]) == [8, 9, 10, 11]
    assert states(memory) == ["online_movable"] * 4


def test_block_that_cannot_be_put_back_is_named(machine):
    fake, memory = machine
    fake.busy = {8: [errno.EINVAL]}
    write = fake.write_until

    def refuse(name, value, seconds):
        if value != "offline" and "memory10" in name:
            raise mb.SystemCallError("write", errno.ENOMEM, "")
        write(name, value, seconds)

    fake.write_until = refuse
    with pytest.raises(HotpmemError, match=r"Of 3 changed blocks, 2 were put back\. Blocks NOT put back: 10") as caught:
        change(memory, "offline")
    assert [one["block"] for one in caught.value.details["not_rolled_back"]] == [10]
    assert caught.value.details["rolled_back"] == [9, 11]
    assert "nothing was lost" not in str(caught.value)


def test_a_block_that_is_gone_is_not_put_back(machine):
    fake, memory = machine
    before = memory.present(range(8, 12))
    shutil.rmtree(fake.path(f"{mb.MEMORY}/memory9"))
    done, stuck = memory.put_back(before)
    assert (done, [(one["block"], one["errno"]) for one in stuck]) == ([], [(9, "ENOENT")])


def test_a_kernel_that_ignores_the_policy_is_no_success(machine):
    fake, memory = machine
    change(memory, "offline")
    fake.zone_given["online_movable"] = "Normal"
    with pytest.raises(HotpmemError, match="EIO"):
        change(memory, "online_movable")
    assert states(memory) == ["offline"] * 4


def test_somebody_else_was_quicker(machine):
    fake, memory = machine
    blocks = memory.present(range(8, 12))
    fake.block(9, "offline", "Normal Movable")
    assert len(memory.set_state(blocks, "offline", 60, 0)) == 4
    assert states(memory) == ["offline"] * 4
