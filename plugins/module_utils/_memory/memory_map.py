# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The physical memory of a host: the firmware's memory map, the NUMA nodes, and arithmetic with ranges.

A range is (start, end) in bytes. The end is excluded. Lists of ranges are sorted and do not overlap.
Only the functions that take a Sysfs read files.

Sources:
- Documentation/ABI/testing/sysfs-firmware-memmap: start and end are hexadecimal with 0x, the end is
  included, and the type is a text.
- arch/x86/kernel/e820.c prints ``BIOS-e820: [mem 0x0-0x9fbff] usable`` before it applies memmap=.
- drivers/nvdimm/of_pmem.c, unlike e820.c and drivers/acpi/nfit/core.c, does not put its memory into
  /proc/iomem. There it is only listed while a driver holds it, under the name of the driver's device.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple, Union

from .._host.errors import HotpmemError
from .._host.size import parse_size
from .._host.sysfs import Sysfs
from .memory_blocks import MEMORY, MemoryBlocks
from .namespace import Namespaces

Range = Tuple[int, int]

FIRMWARE = "/sys/firmware/memmap"
_USABLE = ("system ram", "usable")
_E820 = re.compile(r"BIOS-e820: \[mem (0x[0-9a-fA-F]+)-(0x[0-9a-fA-F]+)\] ([^\n]+)")
_IOMEM = re.compile(r"^(\s*)([0-9a-f]+)-([0-9a-f]+) : (.*)$")


def merged(ranges: Iterable[Range]) -> List[Range]:
    """Sort ranges, join those that touch or overlap, and drop empty ones."""
    joined: List[Range] = []
    for start, end in sorted(one for one in ranges if one[1] > one[0]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def without(ranges: Iterable[Range], taken: Iterable[Range]) -> List[Range]:
    """Return the parts of ranges that no range of taken covers."""
    left = merged(ranges)
    for start, end in taken:
        if end > start:
            left = [piece for low, high in left for piece in ((low, min(high, start)), (max(low, end), high)) if piece[1] > piece[0]]
    return left


def common(ranges: Iterable[Range], others: Iterable[Range]) -> List[Range]:
    """Return the parts that both lists cover."""
    others = merged(others)
    return merged((max(low, start), min(high, end)) for low, high in ranges for start, end in others)


def total(ranges: Iterable[Range]) -> int:
    """Return the sum of the sizes of the ranges, in bytes."""
    return sum(end - start for start, end in ranges)


def usable_ram(firmware_map: Union[str, Iterable[Mapping[str, Any]]]) -> List[Range]:
    """Return the ranges of System RAM in a firmware memory map.

    firmware_map: the text of dmesg, or dicts with start, end (included) and type. start and end are
    numbers or ``0x`` text. Memory that also lies in an entry of another type counts as that type, as in
    the kernel.

    Raises HotpmemError when an entry lacks a key or holds an invalid number.
    """
    if isinstance(firmware_map, str):
        firmware_map = [{"start": start, "end": end, "type": kind} for start, end, kind in _E820.findall(firmware_map)]
    ram: List[Range] = []
    other: List[Range] = []
    for entry in firmware_map:
        try:
            start, end, kind = parse_size(entry["start"]), parse_size(entry["end"]) + 1, str(entry["type"]).strip().lower()
        except KeyError as error:
            raise HotpmemError(
                "Cannot use the firmware memory map",
                f"the entry {dict(entry)!r} has no {error.args[0]}",
                "Give the start, end and type of every entry, as /sys/firmware/memmap shows them",
            ) from error
        (ram if kind in _USABLE else other).append((start, end))
    return without(ram, other)


def node_ranges(blocks: Mapping[int, Iterable[int]], block_size: int) -> Dict[int, List[Range]]:
    """Return the ranges of each NUMA node. blocks: node -> numbers of its memory blocks. block_size: bytes.

    Memory that is reserved now has no blocks, so it shows as a gap. A gap is counted to the node below
    it, because the nodes of common boards are contiguous.
    """
    owned = sorted((number, node) for node, numbers in blocks.items() for number in numbers)
    ranges: Dict[int, List[Range]] = {node: [] for node in blocks}
    for place, (number, node) in enumerate(owned):
        start = 0 if place == 0 else number * block_size
        # The last node has no known end, because memory that is reserved at its top has no blocks.
        end = owned[place + 1][0] * block_size if place + 1 < len(owned) else 1 << 64
        ranges[node].append((start, end))
    return {node: merged(found) for node, found in ranges.items()}


def read_firmware_map(sysfs: Sysfs) -> List[Dict[str, Any]]:
    """Return the entries of /sys/firmware/memmap, or [] when the kernel has no such map (arm64) or
    the user is not root.
    """
    entries = []
    for name in sysfs.list(FIRMWARE):
        start, end = sysfs.find_int(f"{FIRMWARE}/{name}/start"), sysfs.find_int(f"{FIRMWARE}/{name}/end")
        if start is not None and end is not None:
            entries.append({"start": start, "end": end, "type": sysfs.get(f"{FIRMWARE}/{name}/type")})
    return sorted(entries, key=lambda entry: entry["start"])


def read_nodes(sysfs: Sysfs) -> Dict[int, List[Range]]:
    """Return the ranges of each NUMA node.

    Raises HotpmemError when the kernel does not support memory hotplug.
    """
    size = MemoryBlocks(sysfs).block_size()
    blocks: Dict[int, List[int]] = {}
    for name in sysfs.list(MEMORY):
        if re.match(r"^memory\d+$", name):
            for link in sysfs.list(f"{MEMORY}/{name}"):
                if re.match(r"^node\d+$", link):
                    blocks.setdefault(int(link[4:]), []).append(int(name[6:]))
    return node_ranges(blocks, size)


def read_physical_map(sysfs: Sysfs) -> List[Dict[str, Any]]:
    """Return the use of the memory of this host. See physical_map()."""
    regions = Namespaces(sysfs).regions()
    return physical_map(sysfs.get("/proc/iomem"), [(one.start, one.start + one.size) for one in regions if one.start is not None])


def physical_map(iomem: str, regions: Iterable[Range] = ()) -> List[Dict[str, Any]]:
    """Return the use of the memory: dicts of start, size (bytes) and kind, by address.

    iomem: the text of /proc/iomem. regions: of persistent memory, because that text does not show all of them.

    kind: ``ram``; ``pmem`` (reserved memory or an NVDIMM); ``kmem`` (persistent memory that is System
    RAM now). The list is empty without root, because the kernel then hides every address.
    """
    places: List[Tuple[int, int, str]] = [(start, end, "pmem") for start, end in regions]
    for line in iomem.splitlines():
        match = _IOMEM.match(line)
        if not match:
            continue
        start, end, what = int(match.group(2), 16), int(match.group(3), 16) + 1, match.group(4)
        if what == "System RAM (kmem)":
            kind = "kmem"
        elif match.group(1):
            continue
        else:
            kind = "ram" if what == "System RAM" else "pmem" if what.startswith("Persistent Memory") else ""
        if kind and end > 1:
            places.append((start, end, kind))
    kmem = [(start, end) for start, end, kind in places if kind == "kmem"]
    found = []
    for kind in ("ram", "pmem", "kmem"):
        ranges: Sequence[Range] = [(start, end) for start, end, one in places if one == kind]
        for start, end in merged(ranges) if kind == "kmem" else without(ranges, kmem):
            found.append({"start": start, "size": end - start, "kind": kind})
    return sorted(found, key=lambda one: one["start"])


def meminfo(text: str) -> Dict[str, int]:
    """Return the values of /proc/meminfo in bytes. Lines without a unit (HugePages_Total) are left out."""
    values = {}
    for line in text.splitlines():
        name, separator, rest = line.partition(":")
        fields = rest.split()
        if separator and len(fields) == 2 and fields[1] == "kB":
            values[name] = int(fields[0]) * 1024
    return values
