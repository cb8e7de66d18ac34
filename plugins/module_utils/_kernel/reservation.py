# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans where to reserve memory with memmap=SIZE!START. It does no I/O.

All of a reservation except a small lead can become System RAM again.

With map=mem, the info block takes the first 2 MiB of a region, and kmem adds only whole memory
blocks. Therefore a region starts 2 MiB before a memory block boundary and ends on one.

Sources: drivers/nvdimm/pfn_devs.c (the info block), drivers/dax/kmem.c (whole blocks).
docs/architecture.md has the measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from .._host.errors import HotpmemError
from .._host.size import MIB, align_up, format_range, format_size
from .._memory.namespace import LEAD
from .command_line import memory_words, merge
from .free_memory import ENTRIES, HIGH, LOW_END, FreeMemory, Machine, Place, Wish

LEADS = (LEAD, 16 * MIB)  # with 16 MiB, ndctl accepts the region without a change of its align attribute


@dataclass(frozen=True)
class Plan:
    """What to reserve, and why.

    ``kept`` is True when an earlier plan already fulfils the request.
    """

    machine: Machine
    wish: Wish
    places: Tuple[Place, ...]
    kept: bool
    sentences: Tuple[str, ...]

    @property
    def words(self) -> List[str]:
        """The kernel arguments that reserve the memory."""
        return [place.word for place in self.places]

    def to_dict(self) -> Dict[str, Any]:
        """The plan as module results."""
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
    """Plans reservations for one machine.

    ``ours`` holds the arguments of an earlier plan, which a new plan may replace. ``gone`` holds
    arguments that were removed already but are still in the running command line.
    """

    def __init__(self, machine: Machine, ours: Sequence[str] = (), gone: Sequence[str] = ()) -> None:
        self.machine = machine
        self.ours = list(ours)
        self.gone = list(gone)

    def plan(self, wish: Wish) -> Plan:
        """Plan a reservation for the request ``wish``.

        Raises HotpmemError when there is no suitable place. Its detail ``nearest`` is the nearest
        plan that works, as a dict, or None.
        """
        what = f"Cannot plan a reservation of {format_size(wish.size)}"
        self._check(what, wish)
        arguments = memory_words(merge(self.machine.command_line, [*self.ours, *self.gone], [])[0])
        if arguments.exact or any(one.kind == "@" for one in arguments.memmaps):
            raise HotpmemError(
                what,
                "the kernel command line replaces the firmware's memory map (memmap=exactmap or memmap=SIZE@START)",
                "Choose the address range yourself and set it in hotpmem_reserve",
                nearest=None,
            )
        memory = FreeMemory(self.machine, wish, arguments)
        wanted = align_up(wish.size, self.machine.block_size)
        if wish.size < self.machine.block_size:
            reason = (
                f"a memory block of this machine has {format_size(self.machine.block_size)}, and less than one block can't become RAM again"
            )
            raise self._refusal(what, reason, wish, memory)
        kept = self._present(wish, memory, wanted)
        if kept:
            return Plan(self.machine, wish, kept, True, tuple(_explain(self.machine, wish, kept, memory, kept=True)))
        places = memory.places(wanted)
        if not places:
            raise self._refusal(what, memory.objection(wanted), wish, memory)
        return Plan(self.machine, wish, places, False, tuple(_explain(self.machine, wish, places, memory, kept=False)))

    def _check(self, what: str, wish: Wish) -> None:
        """Raise HotpmemError for a request or a machine for which no plan is possible."""
        size = self.machine.block_size
        if self.machine.architecture not in ("x86_64", "i686", "i586", "i386"):
            raise HotpmemError(
                what,
                f"memmap=SIZE!START works only on x86, and the architecture of this machine is {self.machine.architecture}",
                elsewhere(wish, size),
                nearest=None,
            )
        if not self.machine.ram:
            raise HotpmemError(
                what, "the firmware's memory map in /sys/firmware/memmap can't be read (only root can)", elsewhere(wish, size), nearest=None
            )
        for bad, said, todo in (
            (wish.size <= 0, f"{wish.size} bytes is not a valid size", "Request at least one memory block"),
            (
                size < LOW_END or size & (size - 1),
                f"{size} bytes is not a valid memory block size",
                "Use the value in /sys/devices/system/memory/block_size_bytes",
            ),
            (
                wish.lead not in LEADS,
                f"with a lead of {wish.lead} bytes, memory blocks would be lost",
                "Set the lead to 2M. Set it to 16M if the region's align must not be changed",
            ),
            (
                not 1 <= wish.regions <= ENTRIES,
                f"the request allows {wish.regions} regions, which is not from 1 to {ENTRIES}",
                f"Set the number of regions to a value from 1 to {ENTRIES}",
            ),
            (
                not 1 <= wish.share <= 90,
                f"the request allows a share of {wish.share} percent of RAM, which is not from 1 to 90",
                "Set the share to a value from 1 to 90",
            ),
            (
                wish.node is not None and wish.node not in self.machine.nodes,
                f"this machine has no NUMA node {wish.node}",
                f"Choose one of its nodes: {', '.join(str(node) for node in sorted(self.machine.nodes)) or 'unknown'}",
            ),
        ):
            if bad:
                raise HotpmemError(what, said, todo, nearest=None)

    def _present(self, wish: Wish, memory: FreeMemory, wanted: int) -> Tuple[Place, ...]:
        """The places of an earlier plan, if they still fulfil the request.

        They are kept then, because a new plan would need a reboot. Empty otherwise.
        """
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
            and memory.accepts(places)
        )
        return tuple(sorted(places, key=lambda place: place.start)) if good else ()

    def _refusal(self, what: str, said: str, wish: Wish, memory: FreeMemory) -> HotpmemError:
        """The error to raise, with the nearest plan that works.

        That plan has one memory block when less was requested, else the largest size that has a
        place.
        """
        size = self.machine.block_size
        limit = max(align_up(wish.size, size), size)
        largest = memory.largest(limit)
        if not largest and wish.node is not None:
            memory = FreeMemory(self.machine, Wish(wish.size, None, wish.lead, wish.regions, wish.share), memory.arguments)
            largest = memory.largest(limit)
        if not largest:
            return HotpmemError(
                what,
                said,
                "No reservation is possible on this machine. Use an NVDIMM, add RAM, or remove other memmap= and crashkernel= arguments",
                nearest=None,
            )
        places = memory.places(largest)
        nearest = Plan(self.machine, Wish(largest, memory.wish.node, wish.lead, wish.regions, wish.share), places, False, ())
        condition = " without hotpmem_numa_node" if memory.wish.node != wish.node else ""
        return HotpmemError(
            what,
            said,
            f"The nearest plan that works{condition}: hotpmem_size {largest // MIB}M, which reserves {' '.join(nearest.words)}",
            nearest=nearest.to_dict(),
        )


def elsewhere(wish: Wish, block_size: int) -> str:
    """What the operator can do where memmap= does not work: use the device tree, or an NVDIMM."""
    step = format_size(block_size) if block_size else "one memory block"
    size = align_up(max(wish.size, 1), block_size) + LEAD if block_size else wish.size + LEAD
    return (
        f"Remove a range of {size // MIB}M that starts 2 MiB below a multiple of {step} from the memory nodes of the device tree, and "
        f'describe it in a node with compatible = "pmem-region". Or give the machine an NVDIMM of {size // MIB}M that starts 2 MiB below '
        f"a multiple of {step}. See docs/operators.md"
    )


def _explain(machine: Machine, wish: Wish, places: Sequence[Place], memory: FreeMemory, kept: bool) -> List[str]:
    """The plan in sentences for the operator."""
    sentences = []
    gained = sum(place.size - place.lead for place in places)
    for place in places:
        data = format_range(place.start + place.lead, place.size - place.lead)
        blocks = (place.size - place.lead) // machine.block_size
        sentences.append(
            f"{place.word} reserves {format_range(place.start, place.size)}: {format_size(place.lead)} for the namespace's info block, "
            f"then {data}, which is {blocks} whole memory block{'s' if blocks > 1 else ''} of {format_size(machine.block_size)}."
        )
    sentences.append(
        f"Gained as RAM: {format_size(gained)}. Lost: {format_size(sum(place.lead for place in places))}, but no memory block."
    )
    if gained > wish.size:
        sentences.append(f"The request of {format_size(wish.size)} is not a whole number of memory blocks, so it was rounded up.")
    if kept:
        sentences.append("This memory is reserved already and fulfils the request, so the reservation stays as it is.")
    elif all(place.start >= HIGH for place in places):
        sentences.append("It is above 4 GiB. Memory below 4 GiB is scarce (ZONE_DMA32), and the kernel image and the initrd are there.")
    else:
        sentences.append("It is below 4 GiB, because no place above 4 GiB is large enough. It is between the kernel image and the initrd.")
    if wish.node is not None:
        sentences.append(f"All of it is on NUMA node {wish.node}, as requested.")
    if wish.lead != LEAD:
        sentences.append(f"It starts {format_size(wish.lead)} below the boundary, so ndctl accepts it with the region's default align.")
    rest = memory.ram_bytes - sum(place.size for place in places)
    sentences.append(f"{format_size(rest)} of {format_size(memory.ram_bytes)} of RAM are not reserved.")
    sentences.append(
        f"{len(places) + memory.arguments.kaslr_entries} of the {ENTRIES} memmap= entries that KASLR can avoid are used. "
        f"With more than {ENTRIES}, the kernel turns KASLR off."
    )
    if memory.crashes:
        room = "and there is still room for it" if all(memory.crash_room) else "which has no room on this machine with or without this plan"
        sentences.append(f"crashkernel= asks for {format_size(sum(one.size for one in memory.crashes))}, {room}.")
    return sentences
