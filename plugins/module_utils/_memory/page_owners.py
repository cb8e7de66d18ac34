# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out whose pages keep a memory block online.

The engine calls this only after a failure, and it ends within seconds.

Sources, which only root can read:
- /proc/kpageflags gives the kind of each page, and /proc/PID/pagemap the pages that a process maps
  (Documentation/admin-guide/mm/pagemap.rst). Both are exact, because they list page frames;
  numa_maps only knows NUMA nodes.
- VmPin in /proc/PID/status counts the long-term pins of a process (vfio, RDMA, io_uring). A pinned
  page is not necessarily mapped.
- page_owner in debugfs knows which process allocated a page, if the kernel was booted with
  page_owner=on (Documentation/mm/page_owner.rst).
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import time
from collections import Counter
from typing import Callable, Iterator, List, Tuple
from typing import Counter as CounterOf

from .._host.size import KIB, format_size
from .._host.sysfs import Sysfs

UNKNOWN = "the owner of the page is unknown"
PAGE_OWNER = "/sys/kernel/debug/page_owner"
_LIMIT = 3.0  # seconds for the whole search: the blocks that are offline are put back only after it
_SHARE = 1.0  # seconds for one process, so that a huge, sparse address space leaves time for the other processes
_NAMED = 5  # the number of processes that a list names
_CHUNK = 8192  # the number of page entries in one read

# Bits of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h). The first bit that is set
# decides the kind of a page.
_FREE = 1 << 10 | 1 << 20  # BUDDY, NOPAGE
_TAIL = 1 << 16  # COMPOUND_TAIL: the page has the kind of its head
_KINDS = (
    (1 << 19, "hardware-poisoned"),
    (1 << 17, "hugetlb"),
    (1 << 7, "slab"),
    (1 << 26, "page table"),
    (1 << 18 | 1 << 33, "locked (mlock, unevictable)"),
    (1 << 12, "anonymous"),
    (1 << 14, "tmpfs or shared memory"),
    (1 << 5 | 1 << 3, "page cache"),
    (1 << 32, "reserved"),
)
_KERNEL = ("slab", "page table", "reserved", "hardware-poisoned")
_UNMARKED = "unmarked (used by the kernel, or free)"
_PFN = (1 << 55) - 1
_PRESENT = 1 << 63


def words(data: bytes) -> Tuple[int, ...]:
    """Unpack 64-bit numbers in the byte order of the machine.

    An incomplete number at the end is ignored.
    """
    return struct.unpack(f"={len(data) // 8}Q", data[: len(data) // 8 * 8])


def kinds(flags: bytes) -> CounterOf[str]:
    """Count the pages of each kind in a part of /proc/kpageflags. Free pages are not counted."""
    found: CounterOf[str] = Counter()
    kind = _UNMARKED
    for word in words(flags):
        if word & _FREE:
            continue
        if not word & _TAIL:
            kind = next((name for bits, name in _KINDS if word & bits), _UNMARKED)
        found[kind] += 1
    return found


def mapped(entries: bytes, first: int, end: int) -> int:
    """Count the entries in a part of /proc/PID/pagemap that map a page frame in [first, end)."""
    # Most of an address space is empty. Skip it without unpacking.
    if not entries.strip(b"\0"):
        return 0
    return sum(1 for entry in words(entries) if entry & _PRESENT and first <= entry & _PFN < end)


def allocators(text: str, first: int, end: int) -> CounterOf[str]:
    """Count the records of page_owner whose page frame is in [first, end), by the process (``PID
    (name)``) that allocated it.
    """
    found: CounterOf[str] = Counter()
    for record in text.split("\n\n"):
        frame = re.search(r"^PFN (\d+) ", record, re.MULTILINE)
        owner = re.search(r"\bpid (\d+),? (?:tgid \d+ )?\(([^)]*)\)", record)
        if frame and owner and first <= int(frame.group(1)) < end:
            found[f"{owner.group(1)} ({owner.group(2)})"] += 1
    return found


def amounts(status: str) -> List[str]:
    """Return the amounts of memory in /proc/PID/status that is hard to move, for example ``64 KiB pinned``."""
    found = []
    for key, word in (("VmPin", "pinned"), ("VmLck", "locked"), ("HugetlbPages", "in huge pages")):
        match = re.search(rf"^{key}:\s*(\d+) kB$", status, re.MULTILINE)
        if match and int(match.group(1)):
            found.append(f"{format_size(int(match.group(1)) * KIB)} {word}")
    return found


def _pages(count: int) -> str:
    return f"{count} page{'' if count == 1 else 's'}"


class Owners:
    """Finds the owners of pages below a root. It never raises an exception, and it keeps the time limit."""

    def __init__(self, sysfs: Sysfs, clock: Callable[[], float] = time.monotonic) -> None:
        self.sysfs = sysfs
        self.clock = clock

    def of(self, start: int, size: int) -> List[str]:
        """Return sentences that name the owners of the pages in [start, start+size), the most
        likely owner first.

        start, size: bytes. Returns [UNKNOWN] when no source could be read.
        """
        page = os.sysconf("SC_PAGE_SIZE")
        first, end = start // page, (start + size) // page
        deadline = self.clock() + _LIMIT
        held: CounterOf[str] = Counter()
        found: List[str] = []
        # An exception here must not hide the failure that the caller reports. Any of the sources
        # may be missing.
        with contextlib.suppress(Exception):
            held = self._kinds(first, end)
        with contextlib.suppress(Exception):
            found += self._processes(first, end, deadline)
        with contextlib.suppress(Exception):
            found += [f"process {who} allocated {_pages(count)} of the block" for who, count in self._allocators(first, end, deadline)]
        listed = ", ".join(f"{count} {kind}" for kind, count in held.most_common())
        summary = [f"pages in the block: {listed}"] if listed else []
        if any(held[kind] for kind in _KERNEL):
            return summary + found
        return found + summary or [UNKNOWN]

    def used(self, start: int, size: int) -> int:
        """Return how many bytes of [start, start+size) are in use, or 0 when the kernel does not tell."""
        page = os.sysconf("SC_PAGE_SIZE")
        with contextlib.suppress(Exception):
            held = self._kinds(start // page, (start + size) // page)
            return sum(count for kind, count in held.items() if kind != _UNMARKED) * page
        return 0

    def _kinds(self, first: int, end: int) -> CounterOf[str]:
        with open(self.sysfs.path("/proc/kpageflags"), "rb", buffering=0) as file:
            return kinds(os.pread(file.fileno(), (end - first) * 8, first * 8))

    def _processes(self, first: int, end: int, deadline: float) -> List[str]:
        """Describe the processes that map pages of the block, those with pinned memory and most pages first,
        then those that have pinned memory elsewhere.

        A page that is only mapped can be moved, so a mapping alone accuses nobody.
        """
        mapping: List[Tuple[bool, int, str]] = []
        pinning: List[str] = []
        for pid in self._largest_first():
            if self.clock() >= deadline:
                break
            name = f"process {pid} ({self.sysfs.get(f'/proc/{pid}/comm', '?')})"
            has = amounts(self.sysfs.get(f"/proc/{pid}/status"))
            pages = self._mapped(pid, first, end, min(deadline, self.clock() + _SHARE))
            pins = any(amount.endswith("pinned") for amount in has)
            if pages:
                alone = (
                    f" and has {', '.join(has)}"
                    if has
                    else ", which alone does not pin it"
                    if pages == 1
                    else ", which alone does not pin them"
                )
                mapping.append((pins, pages, f"{name} maps {_pages(pages)} of the block{alone}"))
            elif pins:
                pinning.append(f"{name} has {', '.join(has)}, perhaps in the block")
        mapping.sort(key=lambda one: (not one[0], -one[1]))
        return [sentence for _pins, _count, sentence in mapping[:_NAMED]] + pinning[:_NAMED]

    def _largest_first(self) -> List[str]:
        """Return the PIDs of the processes that use memory, except this process.

        The largest process comes first.
        """
        sizes = []
        for pid in self.sysfs.list("/proc"):
            fields = self.sysfs.get(f"/proc/{pid}/statm").split() if pid.isdigit() else []
            if len(fields) > 1 and int(fields[1]) and int(pid) != os.getpid():
                sizes.append((int(fields[1]), pid))
        return [pid for _size, pid in sorted(sizes, key=lambda one: -one[0])]

    def _mapped(self, pid: str, first: int, end: int, deadline: float) -> int:
        """Count the pages in [first, end) that a process maps. Stops counting at the deadline."""
        page = os.sysconf("SC_PAGE_SIZE")
        pages = 0
        # The process may exit in the meantime.
        with contextlib.suppress(OSError), open(self.sysfs.path(f"/proc/{pid}/pagemap"), "rb", buffering=0) as file:
            for low, high in _areas(self.sysfs.get(f"/proc/{pid}/maps")):
                for at in range(low // page, high // page, _CHUNK):
                    if self.clock() >= deadline:
                        return pages
                    pages += mapped(os.pread(file.fileno(), min(_CHUNK, high // page - at) * 8, at * 8), first, end)
        return pages

    def _allocators(self, first: int, end: int, deadline: float) -> List[Tuple[str, int]]:
        """Read page_owner. Its file offset is a page frame number, and each read returns one record."""
        if not self.sysfs.exists(PAGE_OWNER):
            return []
        records: List[str] = []
        with open(self.sysfs.path(PAGE_OWNER), "rb", buffering=0) as file:
            file.seek(first)
            while self.clock() < deadline:
                record = file.read(4096).decode("utf-8", "replace")
                frame = re.search(r"^PFN (\d+) ", record, re.MULTILINE)
                if not record or (frame and int(frame.group(1)) >= end):
                    break
                records.append(record)
        return allocators("\n\n".join(records), first, end).most_common(_NAMED)


def _areas(maps: str) -> Iterator[Tuple[int, int]]:
    """Yield the mapped areas in the text of /proc/PID/maps.

    [vsyscall] is left out: its address is not a valid file offset.
    """
    for line in maps.splitlines():
        match = re.match(r"^([0-9a-f]+)-([0-9a-f]+) ", line)
        if match and not line.endswith("[vsyscall]"):
            yield int(match.group(1), 16), int(match.group(2), 16)
