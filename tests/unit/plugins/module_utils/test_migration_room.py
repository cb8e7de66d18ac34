# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for the pages of memory blocks: what the kernel prints, and what it means."""

from __future__ import annotations

import os
import struct
import time

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory import migration_room as mr

M = 1 << 20
# Lines of 6.1, with a full tmpfs of huge pages.
BUDDYINFO = """\
Node 0, zone      DMA      0      0      0      0      0      0      1      1      0      1      3
Node 0, zone    DMA32     48     49     49     21     17     13      4      7      4      4     41
Node 0, zone  Movable      0      0      0      1      1      0      0      1      1      1      2
"""


def test_free_pieces():
    zones = mr.free_pieces(BUDDYINFO + "Node 1, zone    DMA32     2\nbroken\nNode 1, zone Movable x\n")
    assert zones["DMA"][-1] == 3 and zones["Movable"][-1] == 2 and zones["DMA32"][0] == 50


@pytest.fixture
def proc(tmp_path):
    """Write files below /proc of a root, and read the room there."""

    def build(**files):
        for name, text in files.items():
            path = tmp_path / "proc" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return mr.MigrationRoom(Sysfs(str(tmp_path)), lambda seconds: True)

    return build


def test_room(proc):
    room = proc(buddyinfo=BUDDYINFO, vmstat="compact_fail 23\npgmigrate_fail 1\nnr_free_pages 9\nbroken\n").read()
    assert room.known and room.pieces == 1 + 3 * 2 + 4 + 41 * 2 and room.huge == 2 * M
    assert room.free // M == 199 and room.counters == {"compact_fail": 23, "pgmigrate_fail": 1}


def test_the_pool(proc, tmp_path):
    looker = proc(buddyinfo=BUDDYINFO)
    base = tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB"
    base.mkdir(parents=True)
    for name, value in (("free_hugepages", 7), ("resv_hugepages", 2)):
        (base / name).write_text(f"{value}\n")
    assert looker.read().pool == 5


def test_no_room_is_known(proc):
    room = proc().read()
    assert not room.known and mr.why_no_room(mr.Held(9), 9, room, room) == ""
    assert proc().make(10) == [] and proc().huge_pages([(0, 64 * M)], 2 * M) == mr.Held()


def room(pieces=50, free=500 * M, **counters):
    pool = counters.pop("pool", 0)
    return mr.Room(True, free, pieces, 2 * M, pool, counters)


@pytest.mark.parametrize(
    "held, used, now, said",
    [
        (64, 128 * M, room(3, compact_fail=1), "its huge pages: it holds 64 huge pages of 2 MiB, and the other zones have 3 free pieces"),
        (64, 128 * M, room(0), "its huge pages"),
        # It holds more than is free in such pieces, but the kernel never failed for that.
        (64, 128 * M, room(3), ""),
        # One huge page is left, and there is room for it.
        (1, 2 * M, room(3, thp_migration_fail=9), ""),
        (0, 100 * M, room(0, 50 * M, pgmigrate_fail=7), "its pages: 100 MiB of it are in use"),
        (0, 100 * M, room(0, 50 * M), ""),
        (0, 4096, room(0, 50 * M, pgmigrate_fail=7), ""),
        # As on 6.1, with 105 pages of the pool in the blocks: moved in a circle, without a failure.
        (
            mr.Held(0, 49),
            98 * M,
            room(pool=5),
            "its huge pages: it holds 49 pages of the hugetlb pool, and 5 pages of the pool (2 MiB each)",
        ),
        (mr.Held(0, 1), 2 * M, room(pool=5), ""),
    ],
)
def test_why_no_room(held, used, now, said):
    found = mr.why_no_room(held if isinstance(held, mr.Held) else mr.Held(held), used, room(), now)
    assert said in found if said else found == ""


@pytest.mark.parametrize(
    "piece, found",
    [
        ([1 << 15 | 1 << 22, *[1 << 16 | 1 << 22] * 511], (1, 0)),
        ([1 << 15 | 1 << 17, *[1 << 16 | 1 << 17] * 511], (0, 1)),
        # Folios of 64 KiB, slab, and nothing.
        ([1 << 15 | 1 << 22, *[1 << 16 | 1 << 22] * 15] * 32, (0, 0)),
        ([1 << 15 | 1 << 7, *[1 << 16 | 1 << 7] * 511], (0, 0)),
        ([0] * 512, (0, 0)),
    ],
)
def test_huge_pages(proc, tmp_path, piece, found):
    if os.sysconf("SC_PAGE_SIZE") != 4096:
        pytest.skip("the flags are those of pages of 4 KiB")
    looker = proc(kpageflags="")
    (tmp_path / "proc/kpageflags").write_bytes(struct.pack("=512Q", *[0] * 512) + struct.pack("=512Q", *piece) * 2)
    # The first huge page is not aligned, and the last one is not whole.
    assert looker.huge_pages([(M, 2 * M), (2 * M, 3 * M)], 2 * M) == mr.Held(*found)


def test_counting_ends_in_time(proc, tmp_path):
    looker = proc(kpageflags="")
    (tmp_path / "proc/kpageflags").write_bytes(struct.pack("=512Q", 1 << 15 | 1 << 22, *[1 << 16] * 511) * 64)
    ticks = iter(range(100))
    looker.clock = lambda: float(next(ticks))
    assert looker.huge_pages([(0, 128 * M)], 2 * M).transparent < 3


def test_what_is_done(proc, tmp_path):
    looker = proc(sys__vm__drop_caches="0", sys__vm__compact_memory="0")
    assert looker.make(8) == ["dirty pages were written to disk", "clean caches were dropped", "memory was compacted"]
    assert (tmp_path / "proc/sys/vm/compact_memory").read_text().strip() == "1"
    (tmp_path / "proc/sys/vm/compact_memory").unlink()
    looker.flush = lambda seconds: False
    assert looker.make(8) == ["clean caches were dropped"]


def test_a_slow_disk_does_not_hold_it_up(monkeypatch, tmp_path):
    slow = tmp_path / "sync"
    slow.write_text("#!/bin/sh\nsleep 3\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    began = time.monotonic()
    assert mr.flush_dirty(0.2) is False and time.monotonic() - began < 2
    slow.write_text("#!/bin/sh\nexit 0\n")
    assert mr.flush_dirty(5)
