# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where to set memory aside with memmap=SIZE!START so that every byte of it comes back as System RAM. Pure arithmetic.

The info block of map=mem takes the first 2 MiB of a region, and kmem takes whole memory blocks only. So a region starts 2 MiB before
a block boundary and ends on one. Sources: drivers/nvdimm/pfn_devs.c (the info block), drivers/dax/kmem.c (whole blocks),
arch/x86/kernel/e820.c (memmap=), arch/x86/boot/compressed/kaslr.c (four entries); docs/architecture.md has what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from .._host.errors import HotpmemError
from .._host.size import GIB, MIB, align_down, align_up, format_range, format_size
from .._memory.memory_map import Range, common, total, without
from .._memory.namespace import LEAD
from .command_line import Crash, MemoryWords, crash_requests, memmap_word, memory_words, merge

LEADS = (LEAD, 16 * MIB)  # 16 MiB: ndctl takes the region without its align being set
SHARE = 50  # percent of RAM
ENTRIES = 4  # memmap= entries KASLR can avoid; with more it switches itself off
_LOW_END = 16 * MIB  # firmware, real mode code, ZONE_DMA; the kernel image starts here
_HIGH = 4 * GIB
_INITRD = 256 * MIB  # boot loaders put the initrd at the top of low memory
_CRASH_ALIGN = 16 * MIB


@dataclass(frozen=True)
class Machine:
    """What is planned for. ram: usable ranges of the firmware's map; nodes: ranges of each NUMA node; sizes in bytes."""

    ram: Sequence[Range]
    block_size: int
    command_line: str = ""
    nodes: Dict[int, List[Range]] = field(default_factory=dict)
    architecture: str = "x86_64"


@dataclass(frozen=True)
class Wish:
    """What is wanted. size in bytes; lead: bytes before the block boundary, one of LEADS; share: percent of RAM at most."""

    size: int
    node: Optional[int] = None
    lead: int = LEAD
    regions: int = 1
    share: int = SHARE


@dataclass(frozen=True)
class Place:
    """One region. In bytes; the first ``lead`` of them are not gained."""

    start: int
    size: int
    lead: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.size

    @property
    def word(self) -> str:
        """The kernel argument."""
        return memmap_word(self.start, self.size)

    def to_dict(self, block_size: int) -> Dict[str, Any]:
        """For module results."""
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


@dataclass(frozen=True)
class Plan:
    """What to reserve, and why. kept: what is reserved already does."""

    machine: Machine
    wish: Wish
    places: Tuple[Place, ...]
    kept: bool
    sentences: Tuple[str, ...]

    @property
    def words(self) -> List[str]:
        """The kernel arguments."""
        return [place.word for place in self.places]

    def to_dict(self) -> Dict[str, Any]:
        """For module results."""
        return {
            "memmap": [word.partition("=")[2] for word in self.words],
            "arguments": self.words,
            "regions": [place.to_dict(self.machine.block_size) for place in self.places],
            "block_size": self.machine.block_size,
            "wanted_bytes": self.wish.size,
            "gained_bytes": sum(place.size - place.lead for place in self.places),
            "lost_bytes": sum(place.lead for place in self.places),
            "kept": self.kept,
            "sentences": list(self.sentences),
        }


class Planner:
    """Plans for one machine.

    ours: the arguments of an earlier plan, which may be replaced; gone: those taken out already, but still in the command line of
    this boot.
    """

    def __init__(self, machine: Machine, ours: Sequence[str] = (), gone: Sequence[str] = ()) -> None:
        self.machine = machine
        self.ours = list(ours)
        self.gone = list(gone)

    def plan(self, wish: Wish) -> Plan:
        """Raises HotpmemError, with ``nearest`` (a plan as a dict, or None) when it can't be done."""
        what = f"Cannot plan a reservation of {format_size(wish.size)}"
        self._check(what, wish)
        said = memory_words(merge(self.machine.command_line, [*self.ours, *self.gone], [])[0])
        if said.exact or any(one.kind == "@" for one in said.memmaps):
            raise HotpmemError(
                what,
                "the kernel command line replaces the firmware's memory map (memmap=exactmap or memmap=SIZE@START)",
                "Choose the range yourself and give it as hotpmem_reserve",
                nearest=None,
            )
        field_ = _Field(self.machine, wish, said)
        wanted = align_up(wish.size, self.machine.block_size)
        if wish.size < self.machine.block_size:
            reason = (
                f"a memory block of this machine is {format_size(self.machine.block_size)}, and less than one block never comes back as RAM"
            )
            raise self._refusal(what, reason, wish, field_)
        kept = self._present(wish, field_, wanted)
        if kept:
            return Plan(self.machine, wish, kept, True, tuple(_explain(self.machine, wish, kept, field_, kept=True)))
        places = field_.places(wanted)
        if not places:
            raise self._refusal(what, field_.objection(wanted), wish, field_)
        return Plan(self.machine, wish, places, False, tuple(_explain(self.machine, wish, places, field_, kept=False)))

    def _check(self, what: str, wish: Wish) -> None:
        """Refuse wishes and machines that no plan can be made for."""
        size = self.machine.block_size
        if self.machine.architecture not in ("x86_64", "i686", "i586", "i386"):
            raise HotpmemError(
                what,
                f"memmap=SIZE!START is known on x86 only, and this is {self.machine.architecture}",
                elsewhere(wish, size),
                nearest=None,
            )
        if not self.machine.ram:
            raise HotpmemError(
                what, "the firmware's memory map can't be read (/sys/firmware/memmap, as root)", elsewhere(wish, size), nearest=None
            )
        for bad, said, todo in (
            (wish.size <= 0, f"{wish.size} bytes is no size", "Ask for at least one memory block"),
            (size < _LOW_END or size & (size - 1), f"a memory block of {size} bytes is none", "Take it from block_size_bytes"),
            (
                wish.lead not in LEADS,
                f"a lead of {wish.lead} bytes loses blocks",
                "Use 2M, or 16M where the region's align is not to be set",
            ),
            (not 1 <= wish.regions <= ENTRIES, f"{wish.regions} regions", f"Ask for 1 to {ENTRIES}"),
            (not 1 <= wish.share <= 90, f"a share of {wish.share} percent", "Use 1 to 90"),
            (
                wish.node is not None and wish.node not in self.machine.nodes,
                f"there is no NUMA node {wish.node}",
                f"Nodes are: {', '.join(str(node) for node in sorted(self.machine.nodes)) or 'unknown'}",
            ),
        ):
            if bad:
                raise HotpmemError(what, said, todo, nearest=None)

    def _present(self, wish: Wish, field_: _Field, wanted: int) -> Tuple[Place, ...]:
        """The places of an earlier plan when they do still: an operator reboots for a reason only."""
        size = self.machine.block_size
        places = []
        for one in memory_words(" ".join(self.ours)).memmaps:
            lead = align_up(one.start + LEAD, size) - one.start
            if one.kind != "!" or one.size <= lead or not wish.lead <= lead <= max(LEADS) or one.start % wish.lead:
                return ()
            places.append(Place(one.start, one.size, lead))
        good = (
            0 < len(places) <= wish.regions
            and sum(place.size - place.lead for place in places) == wanted
            and all(place.end % size == 0 for place in places)
            and field_.accepts(places)
        )
        return tuple(sorted(places, key=lambda place: place.start)) if good else ()

    def _refusal(self, what: str, said: str, wish: Wish, field_: _Field) -> HotpmemError:
        """The error, with the nearest plan that works: the next larger size for less than a block, else the largest there is."""
        size = self.machine.block_size
        limit = max(align_up(wish.size, size), size)
        largest = field_.largest(limit)
        if not largest and wish.node is not None:
            field_ = _Field(self.machine, Wish(wish.size, None, wish.lead, wish.regions, wish.share), field_.said)
            largest = field_.largest(limit)
        if not largest:
            return HotpmemError(
                what,
                said,
                "No reservation works on this machine: use an NVDIMM, add RAM, or remove other memmap= and crashkernel= arguments",
                nearest=None,
            )
        places = field_.places(largest)
        nearest = Plan(self.machine, Wish(largest, field_.wish.node, wish.lead, wish.regions, wish.share), places, False, ())
        elsewhere_ = " without hotpmem_numa_node" if field_.wish.node != wish.node else ""
        return HotpmemError(
            what,
            said,
            f"The nearest plan that works{elsewhere_}: hotpmem_size {largest // MIB}M, which is {' '.join(nearest.words)}",
            nearest=nearest.to_dict(),
        )


class _Field:
    """The memory that may be taken, and what must stay possible in the rest of it."""

    def __init__(self, machine: Machine, wish: Wish, said: MemoryWords) -> None:
        self.machine, self.wish, self.said = machine, wish, said
        ram = common(machine.ram, [(0, said.limit)]) if said.limit is not None else list(machine.ram)
        self.ram_bytes = total(ram)
        # The kernel decides by the RAM that is left, which the plan itself changes by a step at most: the larger request counts.
        requests = [crash_requests(machine.command_line, self.ram_bytes), crash_requests(machine.command_line, self.ram_bytes - wish.size)]
        self.crashes: List[Crash] = max(requests, key=lambda found: sum(one.size for one in found))
        fixed = [(one.start, one.start + one.size) for one in self.crashes if one.start is not None]
        self.rest = without(ram, [(0, _LOW_END), *said.taken, *fixed])
        self.free = common(self.rest, machine.nodes[wish.node]) if wish.node is not None else self.rest
        self.crash_room = self._crash_room(self.rest)

    def accepts(self, places: Sequence[Place]) -> bool:
        """All invariants but the alignment."""
        ranges = [(place.start, place.end) for place in places]
        return (
            not without(ranges, self.free)
            and total(ranges) * 100 <= self.ram_bytes * self.wish.share
            and len(places) + self.said.kaslr_entries <= ENTRIES
            and all(now >= before for now, before in zip(self._crash_room(without(self.rest, ranges)), self.crash_room))
        )

    def places(self, wanted: int) -> Tuple[Place, ...]:
        """Where wanted bytes (whole blocks) go; empty when they can't. As few regions as possible: each costs a lead."""
        chosen: List[Place] = []
        if (wanted + self.wish.lead) * 100 > self.ram_bytes * self.wish.share:
            return ()  # or every place of a machine with terabytes would be tried in vain
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
        """The most bytes up to limit that have a place."""
        return _highest(limit, self.machine.block_size, lambda size: bool(self.places(size)))

    def objection(self, wanted: int) -> str:
        """Why wanted bytes have no place."""
        size = wanted + self.wish.lead
        where = f" on NUMA node {self.wish.node}" if self.wish.node is not None else ""
        if size * 100 > self.ram_bytes * self.wish.share:
            return f"{format_size(size)} is more than {self.wish.share} percent of the {format_size(self.ram_bytes)} of RAM"
        if self.said.kaslr_entries >= ENTRIES:
            count = self.said.kaslr_entries
            return f"the kernel command line has {count} memmap= entries already, and beyond {ENTRIES} KASLR switches itself off"
        if any(True for _start in self._starts(wanted, self.free)):
            return "what crashkernel= asks for would have no room left"
        largest = max((end - start for start, end in self.free), default=0)
        return (
            f"no usable range{where} holds {format_size(wanted)} in whole memory blocks of {format_size(self.machine.block_size)} and "
            f"{format_size(self.wish.lead)} before them; the largest free range has {format_size(largest)}"
        )

    def _best(self, wanted: int, chosen: Sequence[Place]) -> Optional[Place]:
        free = without(self.free, [(place.start, place.end) for place in chosen])
        for start in self._starts(wanted, free):
            place = Place(start, wanted + self.wish.lead, self.wish.lead)
            if self.accepts([*chosen, place]):
                return place
        return None

    def _starts(self, wanted: int, free: Sequence[Range]) -> Iterator[int]:
        """Starts of regions, the best first."""
        step, lead = self.machine.block_size, self.wish.lead
        # Upwards from 4 GiB: a region at the very top of RAM lowers the kernel's idea of its end, and with it the size of a memory
        # block on large machines (probe_memory_block_size), so the next plan would differ from this one.
        for low, high in common(free, [(_HIGH, 1 << 64)]):
            yield from (boundary - lead for boundary in range(align_up(low + lead, step), high - wanted + 1, step))
        # Below, downwards: the kernel image sits at the bottom; at the top of it the boot loader puts the initrd.
        later: List[int] = []
        for low, high in reversed(common(free, [(0, _HIGH)])):
            for boundary in range(align_down(high - wanted, step), align_up(low + lead, step) - 1, -step):
                if boundary + wanted <= high - _INITRD:
                    yield boundary - lead
                else:
                    later.append(boundary - lead)
        yield from later

    def _crash_room(self, free: Sequence[Range]) -> List[int]:
        """How crashkernel= fares in free, a number each: 2 where it asks to be, 1 elsewhere, 0 nowhere. From the top, as the kernel"""
        left = list(free)
        marks = []
        for crash in self.crashes:
            if crash.start is not None:
                continue
            zones = {"low": [(_LOW_END, _HIGH)], "high": [(_HIGH, 1 << 64)]}.get(crash.place, [(_LOW_END, 1 << 64)])
            mark = 0
            for grade, zone in ((2, zones), (1, [(_LOW_END, 1 << 64)])):
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
    """The highest multiple of step up to limit for which works() is true, when smaller ones work too; 0 for none."""
    low, high = 0, max(limit, 0) // step
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if works(middle * step) else (low, middle - 1)
    return low * step


def elsewhere(wish: Wish, block_size: int) -> str:
    """What to do where memmap= can't help: device tree, or an NVDIMM."""
    step = format_size(block_size) if block_size else "one memory block"
    size = align_up(max(wish.size, 1), block_size) + LEAD if block_size else wish.size + LEAD
    return (
        f"Take {size // MIB}M out of the memory nodes of the device tree, starting 2 MiB below a multiple of {step}, and describe it as "
        f'compatible = "pmem-region"; or give the machine an NVDIMM of {size // MIB}M that starts 2 MiB below a multiple of {step}. See '
        "docs/operators.md"
    )


def _explain(machine: Machine, wish: Wish, places: Sequence[Place], field_: _Field, kept: bool) -> List[str]:
    """The plan in sentences."""
    sentences = []
    gained = sum(place.size - place.lead for place in places)
    for place in places:
        data = format_range(place.start + place.lead, place.size - place.lead)
        blocks = (place.size - place.lead) // machine.block_size
        sentences.append(
            f"{place.word} sets {format_range(place.start, place.size)} aside: {format_size(place.lead)} for the namespace's info "
            f"block, then {data}, which is {blocks} whole memory block{'s' if blocks > 1 else ''} of {format_size(machine.block_size)}."
        )
    sentences.append(
        f"Gained as RAM: {format_size(gained)}. Lost: {format_size(sum(place.lead for place in places))}, and no memory block."
    )
    if gained > wish.size:
        sentences.append(f"{format_size(wish.size)} were asked for; that is no whole number of blocks, so it was rounded up.")
    if kept:
        sentences.append("This is reserved already and does what is asked for, so it stays.")
    elif all(place.start >= _HIGH for place in places):
        sentences.append("It lies above 4 GiB: memory below is precious (ZONE_DMA32), and the kernel image and the initrd sit there.")
    else:
        sentences.append("It lies below 4 GiB, because there is no such place above; in the middle, between kernel image and initrd.")
    if wish.node is not None:
        sentences.append(f"All of it is on NUMA node {wish.node}, as asked for.")
    if wish.lead != LEAD:
        sentences.append(f"It starts {format_size(wish.lead)} below the boundary, so ndctl takes it without the region's align being set.")
    rest = field_.ram_bytes - sum(place.size for place in places)
    sentences.append(f"{format_size(rest)} of {format_size(field_.ram_bytes)} of RAM stay the kernel's own at all times.")
    sentences.append(
        f"{len(places) + field_.said.kaslr_entries} of the {ENTRIES} memmap= entries that KASLR can avoid are used; "
        "with more it switches itself off."
    )
    if field_.crashes:
        room = "and it keeps its room" if all(field_.crash_room) else "which has no room on this machine with or without this plan"
        sentences.append(f"crashkernel= asks for {format_size(sum(one.size for one in field_.crashes))}, {room}.")
    return sentences
