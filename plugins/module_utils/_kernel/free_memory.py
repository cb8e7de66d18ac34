# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which memory of a machine may be reserved, and where in it a reservation has a place. It does no I/O.

Sources: arch/x86/kernel/e820.c (memmap=), arch/x86/boot/compressed/kaslr.c (four entries).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from .._host.size import GIB, MIB, align_down, align_up, format_range, format_size
from .._memory.memory_map import Range, common, total, without
from .._memory.namespace import LEAD
from .command_line import Crash, MemoryWords, crash_requests, memmap_word

SHARE = 50  # percent of RAM
ENTRIES = 4  # memmap= entries that KASLR can avoid; with more, the kernel turns KASLR off
LOW_END = 16 * MIB  # below are firmware data, real mode code and ZONE_DMA; the kernel image starts here
HIGH = 4 * GIB
_INITRD = 256 * MIB  # left free at the top of low memory, where boot loaders put the initrd
_CRASH_ALIGN = 16 * MIB


@dataclass(frozen=True)
class Machine:
    """The machine to plan for. Addresses and sizes are in bytes.

    ``ram`` holds the usable ranges of the firmware's memory map, and ``nodes`` the ranges of each
    NUMA node. ``command_line`` is that of the running kernel.
    """

    ram: Sequence[Range]
    block_size: int
    command_line: str = ""
    nodes: Dict[int, List[Range]] = field(default_factory=dict)
    architecture: str = "x86_64"


@dataclass(frozen=True)
class Wish:
    """The operator's request.

    ``size`` is in bytes. ``lead`` is the distance in bytes from the start of a region to the block
    boundary, one of LEADS. ``regions`` and ``share`` (percent of RAM) are limits.
    """

    size: int
    node: Optional[int] = None
    lead: int = LEAD
    regions: int = 1
    share: int = SHARE


@dataclass(frozen=True)
class Place:
    """One region to reserve, in bytes. Its first ``lead`` bytes do not become System RAM."""

    start: int
    size: int
    lead: int

    @property
    def end(self) -> int:
        """The address of the first byte after the region."""
        return self.start + self.size

    @property
    def word(self) -> str:
        """The kernel argument that reserves the region."""
        return memmap_word(self.start, self.size)

    def to_dict(self, block_size: int) -> Dict[str, Any]:
        """The region as module results. ``block_size`` is in bytes."""
        first = (self.start + self.lead) // block_size
        return {
            "memmap": self.word.partition("=")[2],
            "start": self.start,
            "size": self.size,
            "range": format_range(self.start, self.size),
            "gained_bytes": self.size - self.lead,
            "lost_bytes": self.lead,
            "first_block": first,
            "last_block": first + (self.size - self.lead) // block_size - 1,
        }


class FreeMemory:
    """The memory that may be reserved, and the limits that the rest of the memory must still meet.

    ``arguments`` are the memory arguments of the command line without the collection's own.
    """

    def __init__(self, machine: Machine, wish: Wish, arguments: MemoryWords) -> None:
        self.machine, self.wish, self.arguments = machine, wish, arguments
        ram = common(machine.ram, [(0, arguments.limit)]) if arguments.limit is not None else list(machine.ram)
        self.ram_bytes = total(ram)
        # The size that crashkernel= asks for depends on the amount of RAM, and the plan itself
        # reduces that. Assume the larger size.
        requests = [crash_requests(machine.command_line, self.ram_bytes), crash_requests(machine.command_line, self.ram_bytes - wish.size)]
        self.crashes: List[Crash] = max(requests, key=lambda found: sum(one.size for one in found))
        fixed = [(one.start, one.start + one.size) for one in self.crashes if one.start is not None]
        self.rest = without(ram, [(0, LOW_END), *arguments.taken, *fixed])
        self.free = common(self.rest, machine.nodes[wish.node]) if wish.node is not None else self.rest
        self.crash_room = self._crash_room(self.rest)

    def accepts(self, places: Sequence[Place]) -> bool:
        """True when the places meet every limit except the alignment, which this does not check."""
        ranges = [(place.start, place.end) for place in places]
        return (
            not without(ranges, self.free)
            and total(ranges) * 100 <= self.ram_bytes * self.wish.share
            and len(places) + self.arguments.kaslr_entries <= ENTRIES
            and all(now >= before for now, before in zip(self._crash_room(without(self.rest, ranges)), self.crash_room))
        )

    def places(self, wanted: int) -> Tuple[Place, ...]:
        """Where ``wanted`` bytes (whole blocks) can be reserved; empty when there is no place.

        It uses as few regions as possible, because each region loses its lead.
        """
        chosen: List[Place] = []
        if (wanted + self.wish.lead) * 100 > self.ram_bytes * self.wish.share:
            return ()  # the share forbids it anyway; on a machine with terabytes, trying every place would take long
        while wanted and len(chosen) < self.wish.regions:
            last = len(chosen) + 1 == self.wish.regions
            place = self._best(wanted, chosen)
            if not place and not last:
                size = _highest(wanted - self.machine.block_size, self.machine.block_size, lambda one: self._best(one, chosen) is not None)
                place = self._best(size, chosen) if size else None
            if not place:
                return ()
            chosen.append(place)
            wanted -= place.size - place.lead
        return tuple(sorted(chosen, key=lambda place: place.start))

    def largest(self, limit: int) -> int:
        """The largest size in bytes, up to ``limit``, that has a place."""
        return _highest(limit, self.machine.block_size, lambda size: bool(self.places(size)))

    def objection(self, wanted: int) -> str:
        """The reason why ``wanted`` bytes have no place."""
        size = wanted + self.wish.lead
        where = f" on NUMA node {self.wish.node}" if self.wish.node is not None else ""
        if size * 100 > self.ram_bytes * self.wish.share:
            return f"{format_size(size)} is more than {self.wish.share} percent of the {format_size(self.ram_bytes)} of RAM"
        if self.arguments.kaslr_entries >= ENTRIES:
            count = self.arguments.kaslr_entries
            return f"the kernel command line has {count} memmap= entries already, and with more than {ENTRIES} the kernel turns KASLR off"
        if any(True for _start in self._starts(wanted, self.free)):
            return "no room would be left for the memory that crashkernel= asks for"
        largest = max((end - start for start, end in self.free), default=0)
        return (
            f"no usable range{where} has room for {format_size(wanted)} in whole memory blocks of "
            f"{format_size(self.machine.block_size)} and for {format_size(self.wish.lead)} before them; "
            f"the largest free range has {format_size(largest)}"
        )

    def _best(self, wanted: int, chosen: Sequence[Place]) -> Optional[Place]:
        free = without(self.free, [(place.start, place.end) for place in chosen])
        for start in self._starts(wanted, free):
            place = Place(start, wanted + self.wish.lead, self.wish.lead)
            if self.accepts([*chosen, place]):
                return place
        return None

    def _starts(self, wanted: int, free: Sequence[Range]) -> Iterator[int]:
        """Possible start addresses of a region, the best first."""
        step, lead = self.machine.block_size, self.wish.lead
        # Upwards from 4 GiB. A region at the very top of RAM would lower the end of RAM that the
        # kernel sees. On large machines the size of a memory block depends on that end
        # (probe_memory_block_size), so the next plan would differ from this one.
        for low, high in common(free, [(HIGH, 1 << 64)]):
            yield from (boundary - lead for boundary in range(align_up(low + lead, step), high - wanted + 1, step))
        # Then downwards from 4 GiB, because the kernel image is at the bottom. Places where boot
        # loaders put the initrd come last.
        later: List[int] = []
        for low, high in reversed(common(free, [(0, HIGH)])):
            for boundary in range(align_down(high - wanted, step), align_up(low + lead, step) - 1, -step):
                if boundary + wanted <= high - _INITRD:
                    yield boundary - lead
                else:
                    later.append(boundary - lead)
        yield from later

    def _crash_room(self, free: Sequence[Range]) -> List[int]:
        """Whether each request of crashkernel= fits into ``free``.

        Each number is 2 in the zone that it asks for, 1 only elsewhere, or 0 for not at all. Like
        the kernel, it takes the memory from the top.
        """
        left = list(free)
        marks = []
        for crash in self.crashes:
            if crash.start is not None:
                continue
            zones = {"low": [(LOW_END, HIGH)], "high": [(HIGH, 1 << 64)]}.get(crash.place, [(LOW_END, 1 << 64)])
            mark = 0
            for grade, zone in ((2, zones), (1, [(LOW_END, 1 << 64)])):
                fits = [
                    align_down(high - crash.size, _CRASH_ALIGN)
                    for low, high in common(left, zone)
                    if align_down(high - crash.size, _CRASH_ALIGN) >= low
                ]
                if fits:
                    mark = grade
                    left = without(left, [(max(fits), max(fits) + crash.size)])
                    break
            marks.append(mark)
        return marks


def _highest(limit: int, step: int, works: Any) -> int:
    """The highest multiple of ``step``, up to ``limit``, for which works() is true.

    0 when it is true for no multiple. When works() is true for a multiple, it must be true for all
    smaller ones.
    """
    low, high = 0, max(limit, 0) // step
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if works(middle * step) else (low, middle - 1)
    return low * step
