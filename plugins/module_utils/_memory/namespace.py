# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions and namespaces as sysfs shows them, and finding the one that is meant.

Facts from drivers/nvdimm: a namespace is claimed by a pfn (fsdax), dax (devdax) or btt (sector) device, its ``holder``;
without one it is raw, though an e820 namespace then calls itself ``memory`` and ndctl lists it as fsdax. nstype 5 is a
namespace described by labels on the DIMM, 4 one without. ``resource`` can be read by root only.

What a namespace can be known by: ``namespaceX.Y`` moves when a DIMM is added; its start stays, and so does the name on its
label. A uuid is that of the holder's info block (ndctl's ``uuid``) or of the label (``raw_uuid``). Each conversion makes new ones:
ndctl for the info block always, and the kernel refuses to give a label the uuid that it has (namespace_update_uuid).
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
LEAD = 2 * MIB  # the info block of devdax and fsdax with map=mem (drivers/nvdimm/pfn_devs.c)
_MODES = {"": "raw", "pfn": "fsdax", "dax": "devdax", "btt": "sector"}
_MAPS = {"ram": "mem", "pmem": "dev"}
_LABELLED = 5
_ADDRESS = re.compile(r"^0[xX][0-9a-fA-F]+$")


@dataclass(frozen=True)
class Region:
    """A contiguous range of persistent memory. Sizes in bytes; start is None when it can't be read."""

    name: str
    provider: str
    start: Optional[int]
    size: int
    align: int
    available: int
    labelled: bool

    def to_dict(self) -> Dict[str, object]:
        """For module results."""
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
    """A namespace as it was read. size is the whole of it, what a raw block device would have; start None when it can't be read.

    asked: the name, uuid, label or address that the operator asked for it by; empty when they named none.
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
        """For module results."""
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
        """For lists in error messages."""
        facts = [self.mode, format_size(self.size) + (f" at {self.start:#x}" if self.start is not None else "")]
        facts += [f"name {self.label}"] if self.label else []
        facts += [f"uuid {self.uuid}"] if self.uuid else []
        return f"{self.name} ({', '.join(facts)})"

    @property
    def asked_by_uuid(self) -> bool:
        """True when the operator asked for it by a uuid, which the next conversion replaces."""
        return by_uuid(self, self.asked)

    @property
    def lasting(self) -> str:
        """What it can be known by for good."""
        return self.label or (f"{self.start:#x}" if self.start is not None else self.name)


class Namespaces:
    """Reads regions and namespaces below a root."""

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs

    def regions(self) -> List[Region]:
        """All regions, in the order of their numbers (which change when DIMMs are added)."""
        return [self.region(name) for name in self.sysfs.list(NODES) if re.match(r"^region\d+$", name)]

    def region(self, name: str) -> Region:
        """One region, by its name or its start address. Raises HotpmemError when it isn't there."""
        if _ADDRESS.match(name):
            name = next((one.name for one in self.regions() if one.start == int(name, 16)), name)
        base = f"{NODES}/{name}"
        if not re.match(r"^region\d+$", name) or not self.sysfs.exists(f"{base}/size"):
            there = ", ".join(entry for entry in self.sysfs.list(NODES) if entry.startswith("region")) or "none"
            raise HotpmemError(f"Cannot use the region {name}", f"there is no such region; there are: {there}", "See pmem_info")
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
        """All namespaces that have a size; the kernel keeps one empty seed a region besides."""
        found = [self.read(name) for name in self.sysfs.list(NODES) if re.match(r"^namespace\d+\.\d+$", name)]
        return [namespace for namespace in found if namespace.size]

    def read(self, name: str) -> Namespace:
        """One namespace by its name."""
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
        """The namespace meant by a name, uuid, label or start address; with neither, the only one there is. Raises HotpmemError."""
        what = f"Cannot find the namespace {wanted}".strip() if wanted else "Cannot choose a namespace"
        there = [one for one in self.all() if not region or one.region == region]
        matching = [one for one in there if matches(one, wanted)] if wanted else there
        listed = "; ".join(one.line for one in there) or "none"
        where = f" in {region}" if region else ""
        facts = [one.to_dict() for one in there]
        if not matching:
            todo = "Name one of these"
            if not there:
                todo = "Reserve memory (role reserve_memory) and reboot, or load the drivers of the NVDIMM (nd_pmem, nfit)"
            raise HotpmemError(what, f"{'no such one; ' if wanted else ''}the namespaces{where} are: {listed}", todo, namespaces=facts)
        if len(matching) > 1:
            todo = "Say which one, best by its name or its start address: these stay"
            raise HotpmemError(what, f"there are {len(matching)}{where}: {listed}", todo, namespaces=facts)
        return replace(matching[0], asked=wanted)

    def reread(self, before: Namespace) -> Namespace:
        """The same namespace as it is now. A conversion may give it another name, but not another start. Raises HotpmemError."""
        if before.start is None:
            return self.read(before.name)
        now = next((one for one in self.all() if one.start == before.start), None)
        if now is None:
            raise HotpmemError(f"Cannot read {before.name} again", f"no namespace starts at {before.start:#x} any more", "See pmem_info")
        return now


def matches(namespace: Namespace, wanted: str) -> bool:
    """True when wanted (name, uuid, label, ``0x`` start address) means this namespace."""
    if _ADDRESS.match(wanted):
        return namespace.start == int(wanted, 16)
    return wanted in (namespace.name, namespace.label) or by_uuid(namespace, wanted)


def by_uuid(namespace: Namespace, wanted: str) -> bool:
    """True when wanted is a uuid of this namespace."""
    return wanted != "" and wanted.lower() in (namespace.uuid.lower(), namespace.raw_uuid.lower())
