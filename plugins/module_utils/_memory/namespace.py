# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads regions and namespaces from sysfs, and finds the namespace that an operator names.

Facts from drivers/nvdimm:
- The ``holder`` of a namespace is a pfn (fsdax), dax (devdax) or btt (sector) device. A namespace
  without a holder is raw. The kernel calls a raw namespace of e820 memory ``memory``, and ndctl
  lists it as fsdax.
- nstype 5 means that labels on the DIMM describe the namespace. nstype 4 means that it has no labels.
- Only root can read ``resource``.

How an operator can name a namespace:
- The kernel's name ``namespaceX.Y`` changes when a DIMM is added.
- The start address does not change, and neither does the name on the label.
- A UUID belongs to the info block of the holder (``uuid`` in ndctl) or to the label (``raw_uuid``).
  A conversion replaces both. ndctl always writes a new UUID to the info block, and the kernel
  rejects the present UUID for a label (namespace_update_uuid in drivers/nvdimm/namespace_devs.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Dict, List, Optional

from .._host.errors import HotpmemError
from .._host.size import MIB, format_range, format_size
from .._host.sysfs import Sysfs
from .dax_device import DEVICE_NAME

NODES = "/sys/bus/nd/devices"
LEAD = 2 * MIB  # bytes before the data of devdax and fsdax with map=mem, for the info block (drivers/nvdimm/pfn_devs.c)
_MODES = {"": "raw", "pfn": "fsdax", "dax": "devdax", "btt": "sector"}
_MAPS = {"ram": "mem", "pmem": "dev"}
_LABELLED = 5
_ADDRESS = re.compile(r"^0[xX][0-9a-fA-F]+$")


@dataclass(frozen=True)
class Region:
    """A contiguous range of persistent memory.

    start, size, align, available: bytes. start is ``None`` when it cannot be read. available: the size
    that no namespace uses. labelled: True when labels on the DIMM describe its namespaces.
    """

    name: str
    provider: str
    start: Optional[int]
    size: int
    align: int
    available: int
    labelled: bool

    def to_dict(self) -> Dict[str, object]:
        """Return the region as a dict for a module result."""
        return {
            "region": self.name,
            "provider": self.provider,
            "start": self.start,
            "size": self.size,
            "range": format_range(self.start, self.size) if self.start is not None else None,
            "align": self.align,
            "available_size": self.available,
            "labelled": self.labelled,
        }


@dataclass(frozen=True)
class Namespace:
    """A namespace as sysfs showed it.

    start, size, align: bytes. start is ``None`` when it cannot be read. size: the complete size, as a
    raw block device would have it. asked: the name, UUID, label or address with which the operator
    named this namespace, or empty.
    """

    name: str
    region: str
    mode: str
    map: str
    start: Optional[int]
    size: int
    align: int
    uuid: str
    label: str
    enabled: bool
    blockdev: str
    chardev: str
    holder: str
    raw_uuid: str = ""
    asked: str = field(default="", compare=False)

    def to_dict(self) -> Dict[str, object]:
        """Return the namespace as a dict for a module result."""
        return {
            "namespace": self.name,
            "region": self.region,
            "mode": self.mode,
            "map": self.map or None,
            "start": self.start,
            "size": self.size,
            "range": format_range(self.start, self.size) if self.start is not None else None,
            "align": self.align or None,
            "uuid": self.uuid or None,
            "raw_uuid": self.raw_uuid or None,
            "name": self.label or None,
            "state": "enabled" if self.enabled else "disabled",
            "blockdev": self.blockdev or None,
            "chardev": self.chardev or None,
        }

    @property
    def line(self) -> str:
        """Describe the namespace in a list in an error message."""
        facts = [self.mode, format_size(self.size) + (f" at {self.start:#x}" if self.start is not None else "")]
        facts += [f"name {self.label}"] if self.label else []
        facts += [f"uuid {self.uuid}"] if self.uuid else []
        return f"{self.name} ({', '.join(facts)})"

    @property
    def asked_by_uuid(self) -> bool:
        """True when the operator named it by a UUID, which the next conversion replaces."""
        return by_uuid(self, self.asked)

    @property
    def lasting(self) -> str:
        """The best way to name this namespace: its label or its start address, which do not change."""
        return self.label or (f"{self.start:#x}" if self.start is not None else self.name)


class Namespaces:
    """Reads the regions and namespaces below a root."""

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs

    def regions(self) -> List[Region]:
        """Return all regions, in the order of their numbers. The numbers change when a DIMM is added."""
        return [self.region(name) for name in self.sysfs.list(NODES) if re.match(r"^region\d+$", name)]

    def region(self, name: str) -> Region:
        """Read a region.

        name: its name or its start address. Raises HotpmemError when it does not exist.
        """
        if _ADDRESS.match(name):
            name = next((one.name for one in self.regions() if one.start == int(name, 16)), name)
        base = f"{NODES}/{name}"
        if not re.match(r"^region\d+$", name) or not self.sysfs.exists(f"{base}/size"):
            names = ", ".join(entry for entry in self.sysfs.list(NODES) if entry.startswith("region"))
            existing = f"the existing regions are: {names}" if names else "this host has no regions"
            todo = "The module pmem_info shows the regions of the host"
            raise HotpmemError(f"Cannot use the region {name}", f"the region does not exist; {existing}", todo)
        bus = re.search(r"ndbus\d+", self.sysfs.link(base))
        return Region(
            name,
            self.sysfs.get(f"{NODES}/{bus.group(0)}/provider") if bus else "",
            self.sysfs.find_int(f"{base}/resource"),
            self.sysfs.get_int(f"{base}/size", 0),
            self.sysfs.get_int(f"{base}/align", 0),
            self.sysfs.get_int(f"{base}/available_size", 0),
            self.sysfs.get_int(f"{base}/nstype", 0) == _LABELLED,
        )

    def all(self) -> List[Namespace]:
        """Return all namespaces that are not empty.

        The kernel keeps one empty namespace, the seed, in each region.
        """
        found = [self.read(name) for name in self.sysfs.list(NODES) if re.match(r"^namespace\d+\.\d+$", name)]
        return [namespace for namespace in found if namespace.size]

    def read(self, name: str) -> Namespace:
        """Read the namespace with this name (``namespaceX.Y``)."""
        base = f"{NODES}/{name}"
        holder = self.sysfs.get(f"{base}/holder")
        kind = self.sysfs.get(f"{base}/holder_class") or re.sub(r"\d.*$", "", holder)
        active = f"{NODES}/{holder}" if holder else base
        chardev = next((entry for entry in self.sysfs.list(active) if DEVICE_NAME.match(entry)), "") if kind == "dax" else ""
        return Namespace(
            name,
            "region" + name[len("namespace") :].split(".", maxsplit=1)[0],
            _MODES.get(kind, kind),
            _MAPS.get(self.sysfs.get(f"{active}/mode"), "") if kind in ("pfn", "dax") else "",
            self.sysfs.find_int(f"{base}/resource"),
            self.sysfs.get_int(f"{base}/size", 0),
            self.sysfs.get_int(f"{active}/align", 0) if holder else 0,
            self.sysfs.get(f"{active}/uuid"),
            self.sysfs.get(f"{base}/alt_name"),
            bool(self.sysfs.link_name(f"{active}/driver")),
            next(iter(self.sysfs.list(f"{active}/block")), ""),
            chardev,
            holder,
            self.sysfs.get(f"{base}/uuid"),
        )

    def find(self, wanted: str = "", region: str = "") -> Namespace:
        """Return the namespace that an operator names.

        wanted: a name, UUID, label or start address; empty for the only namespace. region: the name
        of the region to search; empty for all regions. Raises HotpmemError unless exactly one
        namespace matches.
        """
        what = f"Cannot find the namespace {wanted}".strip() if wanted else "Cannot choose a namespace"
        there = [one for one in self.all() if not region or one.region == region]
        matching = [one for one in there if matches(one, wanted)] if wanted else there
        listed = "; ".join(one.line for one in there)
        place = region or "this host"
        facts = [one.to_dict() for one in there]
        if not matching:
            said = f"no namespace has this name, label, UUID or start address; the namespaces of {place} are: {listed}"
            todo = "Give one of these namespaces"
            if not there:
                said = f"{place} has no namespaces"
                todo = "Reserve memory with the role reserve_memory and reboot, or load the drivers of the NVDIMM (nd_pmem, nfit)"
            raise HotpmemError(what, said, todo, namespaces=facts)
        if len(matching) > 1:
            said = f"{len(matching)} namespaces match; the namespaces of {place} are: {listed}" if wanted else ""
            said = said or f"{place} has {len(matching)} namespaces: {listed}"
            todo = "Set hotpmem_namespace (namespace) to one of them, preferably to its label or its start address, which do not change"
            raise HotpmemError(what, said, todo, namespaces=facts)
        return replace(matching[0], asked=wanted)

    def reread(self, before: Namespace) -> Namespace:
        """Read the same namespace again. Raises HotpmemError when it no longer exists.

        A conversion may change the name of a namespace. It does not change the start.
        """
        if before.start is None:
            return self.read(before.name)
        now = next((one for one in self.all() if one.start == before.start), None)
        if now is None:
            said = f"no namespace starts at {before.start:#x} any more"
            raise HotpmemError(f"Cannot read {before.name} again", said, "The module pmem_info shows the namespaces of the host")
        return now


def matches(namespace: Namespace, wanted: str) -> bool:
    """Return True when wanted is the name, a UUID, the label or the start address (``0x...``) of
    the namespace. YAML makes a decimal number of an address without quotes.
    """
    if _ADDRESS.match(wanted):
        return namespace.start == int(wanted, 16)
    if re.fullmatch("[0-9]+", wanted) and namespace.start == int(wanted):
        return True
    return wanted in (namespace.name, namespace.label) or by_uuid(namespace, wanted)


def by_uuid(namespace: Namespace, wanted: str) -> bool:
    """Return True when wanted is a UUID of the namespace."""
    return wanted != "" and wanted.lower() in (namespace.uuid.lower(), namespace.raw_uuid.lower())
