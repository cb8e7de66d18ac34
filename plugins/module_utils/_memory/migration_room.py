# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for the pages of memory blocks that go offline: how much there is, whether it was too little, and how to make more.

A block goes offline when the kernel has moved all its pages to free memory elsewhere. A page that is
pinned cannot move. A page can also stay because there is no room for it: a huge page needs a free piece
of the same size, or it has to be split.

Sources:
- /proc/buddyinfo counts the free pieces of 2^N pages of each zone (Documentation/filesystems/proc.rst).
- /proc/vmstat counts the huge pages that were not moved and the compactions that failed
  (Documentation/admin-guide/mm/transhuge.rst).
- /proc/kpageflags tells huge pages from others (Documentation/admin-guide/mm/pagemap.rst).
- A page of the hugetlb pool moves to a free page of the pool (mm/hugetlb.c). If the only free ones are in
  the block itself, the kernel moves pages in a circle until it is stopped (seen on 6.1: 3.2 million moves
  in 12 s, without a failure).
- /proc/sys/vm/drop_caches and compact_memory make room (Documentation/admin-guide/sysctl/vm.rst).
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import time
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Mapping, Tuple

from .._host.errors import SystemCallError
from .._host.size import KIB, MIB, format_size
from .._host.sysfs import Sysfs

DROP_CACHES, COMPACT = "/proc/sys/vm/drop_caches", "/proc/sys/vm/compact_memory"
HUGE_SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
_COUNTERS = {
    "thp_migration_fail": "huge pages that did not move",
    "pgmigrate_fail": "pages that did not move",
    "compact_fail": "failed compactions",
}
_LIMIT = 2.0  # seconds to count huge pages, because a region of terabytes has millions of them
# Bits of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h).
_HEAD, _TAIL, _HUGETLB, _THP = 1 << 15, 1 << 16, 1 << 17, 1 << 22  # COMPOUND_HEAD, COMPOUND_TAIL, HUGE, THP


@dataclass(frozen=True)
class Room:
    """What is free outside of zone Movable, and the counters of failures.

    known: the kernel has told it. free: bytes. pieces: the free pieces that hold a huge page. huge: bytes
    of a huge page. pool: free pages of the hugetlb pool of this size that nobody has reserved.
    counters: name in /proc/vmstat -> value.
    """

    known: bool
    free: int
    pieces: int
    huge: int
    pool: int = 0
    counters: Dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """The huge pages in ranges of memory. transparent: those that the kernel can split. hugetlb: those of the pool."""

    transparent: int = 0
    hugetlb: int = 0


def free_pieces(text: str) -> Dict[str, List[int]]:
    """Return the free pieces in the text of /proc/buddyinfo: zone -> how many of 2^0, 2^1 ... pages, over all nodes.

    Lines in another form are left out.
    """
    zones: Dict[str, List[int]] = {}
    for line in text.splitlines():
        head, separator, rest = line.partition(" zone ")
        words = rest.split()
        if not separator or not head.startswith("Node ") or not all(word.isdigit() for word in words[1:]):
            continue
        counts = [int(word) for word in words[1:]]
        before = zones.get(words[0], [0] * len(counts))
        zones[words[0]] = [one + other for one, other in zip(before, counts)]
    return zones


def why_no_room(held: Held, used: int, before: Room, now: Room) -> str:
    """Explain that the pages of a block had no room elsewhere, or return the empty string when they had.

    held: what is still in the block. used: bytes of it that are still in use. before, now: the room at the
    first try, and after the last one.
    """
    failed = {name: now.counters.get(name, 0) - before.counters.get(name, 0) for name in _COUNTERS}
    size = format_size(now.huge)
    if held.hugetlb > now.pool:
        return (
            f"there is no room to move its huge pages: it holds {held.hugetlb} pages of the hugetlb pool, and "
            f"{now.pool} pages of the pool ({size} each) are free for them"
        )
    no_piece = failed["thp_migration_fail"] > 0 or failed["compact_fail"] > 0 or now.pieces == 0
    for_huge = now.pieces < held.transparent and no_piece
    for_any = used > now.free and any(count > 0 for count in failed.values())
    if not now.known or not (for_huge or for_any):
        return ""
    what = f"it holds {held.transparent} huge pages of {size}" if for_huge else f"{format_size(used)} of it are in use"
    room = f"{now.pieces} free pieces of {size} and {format_size(now.free)} of free memory in all"
    told = [f"{words}: {failed[name]}" for name, words in _COUNTERS.items() if failed[name] > 0]
    said = f" ({', '.join(told)})" if told else ""
    return f"there is no room to move {'its huge pages' if for_huge else 'its pages'}: {what}, and the other zones have {room}{said}"


def flush_dirty(seconds: float) -> bool:
    """Write dirty pages to their disks with sync(1). Returns False when it takes longer than ``seconds``; it then goes on by itself."""
    try:
        # Neither a context manager nor a runner: both would wait until sync(1) has ended.
        child = subprocess.Popen(  # pylint: disable=consider-using-with,ansible-bad-function
            ["sync"], stdin=subprocess.DEVNULL, start_new_session=True
        )
        return child.wait(seconds) == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class MigrationRoom:
    """Reads and makes room below a root. It never raises an exception: it only helps, and explains a failure."""

    def __init__(self, sysfs: Sysfs, flush: Callable[[float], bool] = flush_dirty, clock: Callable[[], float] = time.monotonic) -> None:
        self.sysfs = sysfs
        self.flush = flush
        self.clock = clock

    def read(self) -> Room:
        """Return the room that there is now."""
        page = os.sysconf("SC_PAGE_SIZE")
        huge = self.sysfs.get_int(HUGE_SIZE, 2 * MIB)
        order = max((huge // page).bit_length() - 1, 0)
        zones = free_pieces(self.sysfs.get("/proc/buddyinfo"))
        others = [counts for zone, counts in zones.items() if zone != "Movable"]
        free = sum(count << at for counts in others for at, count in enumerate(counts)) * page
        pieces = sum(count << (at - order) for counts in others for at, count in enumerate(counts) if at >= order)
        base = f"/sys/kernel/mm/hugepages/hugepages-{huge // KIB}kB"
        pool = max(self.sysfs.get_int(f"{base}/free_hugepages", 0) - self.sysfs.get_int(f"{base}/resv_hugepages", 0), 0)
        return Room(bool(zones), free, pieces, huge, pool, self._counters())

    def _counters(self) -> Dict[str, int]:
        pairs = (line.split() for line in self.sysfs.get("/proc/vmstat").splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in _COUNTERS and pair[1].isdigit()}

    def make(self, seconds: float) -> List[str]:
        """Make room within about so many seconds. Returns what was done, as phrases: ``clean caches were dropped``."""
        done: List[str] = []
        if not self.sysfs.exists(DROP_CACHES):
            return done
        if self.flush(seconds / 2):
            done.append("dirty pages were written to disk")
        for name, words in ((DROP_CACHES, "clean caches were dropped"), (COMPACT, "memory was compacted")):
            with contextlib.suppress(SystemCallError):
                self.sysfs.write_until(name, "1", max(seconds / 2, 1.0))
                done.append(words)
        return done

    def huge_pages(self, ranges: Iterable[Tuple[int, int]], huge: int) -> Held:
        """Count the huge pages in ranges (start, size), in bytes, as far as /proc/kpageflags tells within seconds.

        huge: bytes of a huge page. Larger and smaller compound pages are not counted.
        """
        page = os.sysconf("SC_PAGE_SIZE")
        found, deadline = {_THP: 0, _HUGETLB: 0}, self.clock() + _LIMIT
        with contextlib.suppress(OSError, struct.error), open(self.sysfs.path("/proc/kpageflags"), "rb", buffering=0) as file:
            for start, size in ranges:
                for at in range(-(-start // huge) * huge, start + size - huge + 1, huge):
                    if self.clock() >= deadline:
                        break
                    # A piece of this size is one huge page when the page in its middle belongs to the first one.
                    first, middle = (struct.unpack("=Q", os.pread(file.fileno(), 8, one // page * 8))[0] for one in (at, at + huge // 2))
                    kind = _HUGETLB if first & _HUGETLB else _THP
                    found[kind] += bool(first & _HEAD and first & kind and middle & _TAIL)
        return Held(found[_THP], found[_HUGETLB])

    def foreseen(self, ranges: Iterable[Tuple[int, int]]) -> Mapping[str, int]:
        """Return what a removal of ranges (start, size), in bytes, has to move, and the room for it now.

        ``huge_bytes``: huge pages that can be split. ``huge_room_bytes``: pieces of that size that are free in
        other zones. ``hugetlb_bytes``: pages of the hugetlb pool. ``hugetlb_room_bytes``: free pages of the pool.
        """
        now = self.read()
        held = self.huge_pages(ranges, now.huge)
        return {
            "huge_bytes": held.transparent * now.huge,
            "huge_room_bytes": now.pieces * now.huge,
            "hugetlb_bytes": held.hugetlb * now.huge,
            "hugetlb_room_bytes": now.pool * now.huge,
        }
