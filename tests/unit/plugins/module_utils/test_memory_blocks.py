# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory blocks: arithmetic, captured states, and all-or-nothing changes."""

from __future__ import annotations

import errno
import os
import shutil
import struct

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
        ("Movable", [errno.EBUSY] * 9, "EBUSY: a page in it could not be moved in 3 tries", "Find the process that pins"),
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


def test_busy_is_tried_until_the_deadline_that_is_named(machine):
    fake, memory = machine
    fake.busy = {9: [errno.EBUSY] * 500}
    with pytest.raises(HotpmemError, match=r"did not go offline within 60 s \(EBUSY: a page in it could not be moved in 6\d tries"):
        change(memory, "offline", retries=None)
    assert fake.now == 60


def test_fewer_tries_name_the_time_that_they_took(machine):
    fake, memory = machine
    fake.busy = {9: [errno.EBUSY] * 500}
    with pytest.raises(HotpmemError, match=r"did not go offline in 3 s \(EBUSY: a page in it could not be moved in 4 tries"):
        change(memory, "offline", retries=3)


def test_an_unmovable_page_does_not_take_all_the_time(machine):
    fake, memory = machine
    fake.block(9, "online", "Normal")
    fake.zone_given["online_kernel"] = "Normal"
    fake.busy = {9: [errno.EBUSY] * 500}
    with pytest.raises(HotpmemError, match=r"did not go offline in 10 s \(EBUSY: it holds an unmovable page"):
        change(memory, "offline", retries=None)


def test_the_first_try_leaves_time_for_what_helps(machine):
    """The kernel may try one block until it is stopped, and would use up the deadline."""
    fake, memory = machine
    limits, write = [], fake.write_until

    def stopped(name, value, seconds):
        if "memory9" in name:
            limits.append(seconds)
        if len(limits) == 1 and "memory9" in name:
            fake.now += seconds
            raise mb.SystemCallError("write", errno.EINTR, "")
        write(name, value, seconds)

    fake.write_until = stopped
    assert change(memory, "offline", retries=None, timeout=60) == [8, 9, 10, 11]
    assert limits == [30, 29]


ROOM = {"drop_caches": "0", "compact_memory": ""}


def full(fake, pieces, flags):
    """A machine whose zone DMA32 has so many free huge pages, and block 9 with such page flags in each of its huge pages."""
    for name in ROOM:
        path = fake.path(f"/proc/sys/vm/{name}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("0")
    for name, text in (
        ("buddyinfo", f"Node 0, zone DMA32 {'5 ' * 9}{pieces} 0\nNode 0, zone Movable {'9 ' * 11}\n"),
        ("vmstat", "compact_fail 3\n"),
    ):
        with open(fake.path(f"/proc/{name}"), "w", encoding="utf-8") as file:
            file.write(text)
    with open(fake.path("/proc/kpageflags"), "wb") as file:
        file.truncate(12 * 32768 * 8)
        file.seek(9 * 32768 * 8)
        file.write(flags * 64)


# A huge page of tmpfs: its head, and 511 tails. The flags of 6.1: LRU, SWAPBACKED, COMPOUND_HEAD, THP; COMPOUND_TAIL, THP.
HUGE = struct.pack("=Q", 1 << 5 | 1 << 14 | 1 << 15 | 1 << 22) + struct.pack("=Q", 1 << 5 | 1 << 14 | 1 << 16 | 1 << 22) * 511


def test_no_room_is_not_taken_for_a_pin(machine):
    """A process that maps the pages is not to blame."""
    fake, memory = machine
    full(fake, 3, HUGE)
    memory.room.flush = lambda seconds: True
    memory.owners._processes = lambda first, end, deadline: ["process 11 (sshd) maps 353 pages of the block"]
    fake.busy = {9: [errno.EBUSY] * 500}
    write = fake.write_until

    def failing(name, value, seconds):
        if "memory9" in name:
            fake.set("/proc/vmstat", "compact_fail 9\nthp_migration_fail 4\n")
        write(name, value, seconds)

    fake.write_until = failing
    with pytest.raises(HotpmemError) as caught:
        change(memory, "offline", retries=None)
    said = caught.value.said
    assert "no room to move its huge pages: it holds 64 huge pages of 2 MiB, and the other zones have 3 free pieces of 2 MiB" in said
    assert "(huge pages that did not move: 4, failed compactions: 6)" in said and "sshd" not in said
    assert "dirty pages were written to disk, clean caches were dropped and memory was compacted, which did not help" in said
    assert caught.value.todo.startswith("Free memory") and "no-room" in caught.value.todo
    (failed,) = caught.value.details["failed_blocks"]
    assert "process 11 (sshd) maps 353 pages of the block" in failed["owners"]
    assert fake.writes.count("1 > vm/drop_caches") == fake.writes.count("1 > vm/compact_memory") >= 2


def test_room_that_was_made_helps(machine):
    fake, memory = machine
    full(fake, 3, HUGE)
    memory.room.flush = lambda seconds: True
    write = fake.write_until

    def until_compacted(name, value, seconds):
        if "memory9" in name and value == "offline" and "1 > vm/compact_memory" not in fake.writes:
            raise mb.SystemCallError("write", errno.EBUSY, "")
        write(name, value, seconds)

    fake.write_until = until_compacted
    assert change(memory, "offline", retries=None) == [8, 9, 10, 11]


def test_with_room_a_page_is_pinned(machine):
    fake, memory = machine
    full(fake, 100, HUGE)
    memory.room.flush = lambda seconds: False
    memory.owners._processes = lambda first, end, deadline: ["process 12 (spdk) has 2 GiB pinned, perhaps in the block"]
    fake.busy = {9: [errno.EBUSY] * 500}
    with pytest.raises(HotpmemError, match=r"could not be moved in 6\d tries; process 12 \(spdk\) has 2 GiB pinned") as caught:
        change(memory, "offline", retries=None)
    assert caught.value.todo.startswith("Find the process that pins") and "written to disk" not in caught.value.said


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
