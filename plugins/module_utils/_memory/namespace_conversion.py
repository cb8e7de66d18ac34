# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converting a namespace: what has to be done, what would be lost, what forbids it; then doing it, and looking again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, List, Optional

from .._host.errors import HotpmemError
from .._host.size import MIB, align_down, format_size
from .dax_device import BUS as DAX_BUS
from .dax_device import LEAK_TODO, Dax
from .device_users import DeviceUsers
from .namespace import NODES, Namespace, Namespaces, Region
from .ndctl import Ndctl, create_argv

MODES = ("raw", "devdax", "fsdax", "sector")
_LABEL_STEP = 16 * MIB
_SMALLEST_ALIGN = 2 * MIB
_MODULES = {"raw": ("nd_pmem",), "fsdax": ("nd_pmem",), "sector": ("nd_pmem",), "devdax": ("dax_pmem", "device_dax")}


@dataclass
class Plan:
    """What a conversion takes. ``changes`` empty: nothing to do. ``destroys`` needs force; ``refuses`` can't be forced.

    mapping, align: as asked for. forced: what allow() was told.
    """

    region: Region
    before: Optional[Namespace]
    mode: str
    argv: List[str] = field(default_factory=list)
    region_align: int = 0
    changes: List[str] = field(default_factory=list)
    destroys: List[str] = field(default_factory=list)
    refuses: List[str] = field(default_factory=list)
    mapping: str = ""
    align: int = 0
    forced: bool = False


def align_for(region: Region, size: int) -> int:
    """The region alignment that ndctl needs before it converts a namespace of this size; 0 when the present one will do.

    It refuses while the size is no multiple of ``align`` (16 MiB after each boot), and without labels the start of the region as well.
    """
    align = region.align
    if not align or region.start is None:
        return 0
    start = 0 if region.labelled else region.start
    while align > _SMALLEST_ALIGN and (start % align or size % align):
        align //= 2
    return align if align != region.align else 0


def refuse_lost_uuid(now: Namespace, mode: str) -> None:
    """Raise when the operator asked for the namespace by its uuid: a conversion gives it a new one, and they would not find it again."""
    if now.asked_by_uuid:
        raise HotpmemError(
            f"Cannot make {now.name} {mode}",
            f"it was asked for by its uuid ({now.asked}), and a conversion gives it a new one: the next to ask for it would not find it",
            f"Ask for {now.lasting}, which stays",
            lasting=now.lasting,
        )


def differences(now: Namespace, mode: str, mapping: str, align: int) -> List[str]:
    """What of the wishes isn't so yet. An empty mapping and an align of 0 mean: as it is."""
    changes = [] if now.mode == mode else [f"{now.mode} -> {mode}"]
    if not changes and mode in ("devdax", "fsdax"):
        if mapping and now.map and mapping != now.map:
            changes.append(f"map {now.map} -> {mapping}")
        if align and now.align and align != now.align:
            changes.append(f"align {now.align:#x} -> {align:#x}")
    return changes


def _device_name(namespace: Namespace) -> str:
    """Its dax device: the one it has, else the one that it would get."""
    return namespace.chardev or namespace.name.replace("namespace", "dax")


class Converter:
    """Plans and applies conversions. image_of says what image a device holds that has not been restored, or ""."""

    def __init__(self, namespaces: Namespaces, dax: Dax, device_users: DeviceUsers, ndctl: Ndctl, image_of: Callable[[str], str]) -> None:
        self.namespaces = namespaces
        self.dax = dax
        self.device_users = device_users
        self.ndctl = ndctl
        self.image_of = image_of

    def plan_named(self, wanted: str, region: str, mode: str, mapping: str = "", align: int = 0, *, label: str = "") -> Plan:
        """The plan for the namespace that wanted and region name, or for a new one in an empty region. Changes nothing.

        label: the name that a new namespace gets. Raises HotpmemError when no namespace, or more than one, is meant.
        """
        place = self.namespaces.region(region) if region else None
        if place and not wanted and not [one for one in self.namespaces.all() if one.region == place.name]:
            return self._creation(place, mode, mapping, align, label)
        now = self.namespaces.find(wanted, place.name if place else "")
        if label and now.label != label:
            named = f"it is there already, {f'named {now.label}' if now.label else 'without a name'}"
            raise HotpmemError(
                f"Cannot name {now.name} {label}", named, "Leave name out, or ask for it by namespace", namespace=now.to_dict()
            )
        return self.plan(now, mode, mapping, align)

    def plan(self, now: Namespace, mode: str, mapping: str = "", align: int = 0) -> Plan:
        """What converting the namespace takes. Reads everything, changes nothing. An empty mapping and an align of 0 mean: as it is."""
        plan = Plan(self.namespaces.region(now.region), now, mode, mapping=mapping, align=align)
        plan.changes = differences(now, mode, mapping, align)
        if not plan.changes:
            if not now.enabled:
                plan.changes = [f"enable {now.name}"]
                plan.refuses = self._leaked(now)
            return plan
        plan.argv = create_argv(mode, namespace=now.name, mapping=mapping, align=align)
        refuse_lost_uuid(now, mode)
        plan.region_align = align_for(plan.region, now.size)
        plan.refuses = self._leaked(now) or self._refusals(now)
        if not plan.refuses:
            plan.destroys = self._losses(now, plan)
        return plan

    def _creation(self, place: Region, mode: str, mapping: str, align: int, label: str) -> Plan:
        """With labels, a multiple of 16 MiB whatever the region's alignment is set to now: that is what it is at the next boot."""
        what = f"Cannot create a namespace in {place.name}"
        if label and not place.labelled:
            todo = "Leave name out, or write labels (ndctl init-labels), which takes away what the DIMM holds"
            raise HotpmemError(what, f"it has no labels, so nothing keeps the name {label}", todo, region=place.to_dict())
        size = align_down(place.available, _LABEL_STEP) if place.labelled else 0
        if place.labelled and not size:
            said = f"{format_size(place.available)} are free, and a namespace on a labelled DIMM takes multiples of 16 MiB"
            raise HotpmemError(what, said, "Use another region: pmem_info lists them", region=place.to_dict())
        argv = create_argv(mode, region=place.name, mapping=mapping, align=align, size=size, label=label)
        words = (
            f"create a {mode} namespace{' of ' + format_size(size) if size else ''} in {place.name}{', named ' + label if label else ''}"
        )
        if size and place.available > size:
            words += f"; {format_size(place.available - size)} are left over, because with labels only multiples of 16 MiB are sure to last"
        return Plan(place, None, mode, argv, align_for(place, size or place.size), [words])

    def allow(self, plan: Plan, force: bool) -> None:
        """Raise when the plan may not be carried out."""
        plan.forced = force
        what = self._what(plan)
        if plan.refuses:
            leaked = any("leaked" in reason for reason in plan.refuses)
            raise HotpmemError(
                what,
                "; ".join(plan.refuses),
                LEAK_TODO if leaked else "Free it first; force does not override this",
                refuses=plan.refuses,
                destroys=plan.destroys,
            )
        if plan.destroys and not force:
            raise HotpmemError(
                what, "it would destroy: " + "; ".join(plan.destroys), "Set force: true when that may be lost", destroys=plan.destroys
            )

    def apply(self, plan: Plan) -> Namespace:
        """Carry the plan out and read what is there afterwards. Raises HotpmemError when it isn't what was asked for."""
        what = self._what(plan)
        if not plan.changes:
            return self.namespaces.read(plan.before.name) if plan.before else self.namespaces.find("", plan.region.name)
        self._need_drivers(plan.mode)
        if plan.before:
            # A left-over id would hand the next device of this name to kmem the moment it appears.
            self.dax.forget_id(_device_name(plan.before))
        if plan.before and not plan.before.enabled:
            plan = self._woken(plan, plan.before)
        name: Optional[str] = None
        if plan.argv:
            if plan.region_align:
                self.dax.sysfs.write(f"{NODES}/{plan.region.name}/align", hex(plan.region_align))
            name = self.ndctl.create(what, plan.argv)
        after = self._after(plan, name)
        if after.mode != plan.mode or not after.enabled:
            state = "enabled" if after.enabled else "disabled"
            raise HotpmemError(
                what, f"ndctl answered success, but {after.name} is {after.mode} and {state}", "dmesg says why", namespace=after.to_dict()
            )
        if plan.mode == "devdax" and self.dax.driver_of(after.chardev) == "kmem":
            raise HotpmemError(
                what,
                f"kmem took {after.chardev} at once, by an id left behind",
                "Hot-remove it (memblock_offline, dax_kmem), then try again",
            )
        return after

    def _woken(self, plan: Plan, before: Namespace) -> Plan:
        """Enable a disabled namespace: only then it shows what it is and what is on it. Returns the plan for what is left to do."""
        try:
            self._enable(self._what(plan), before.name)
        except HotpmemError:
            # ndctl may still convert what no driver takes; but nobody has seen what is lost.
            if not (plan.argv and plan.forced):
                raise
            return plan
        again = self.plan(self.namespaces.read(before.name), plan.mode, plan.mapping, plan.align)
        self.allow(again, plan.forced)
        return again

    def _enable(self, what: str, name: str) -> None:
        """By its info block, or else as raw: the driver refuses a namespace whose info block is for a device of another size."""
        force_raw = f"{NODES}/{name}/force_raw"
        try:
            self.ndctl.enable(what, name)
        except HotpmemError:
            if not self.dax.sysfs.exists(force_raw):
                raise
            self._need_drivers("raw")
            self.dax.sysfs.write(force_raw, "1")
            try:
                self.ndctl.enable(what, name)
            finally:
                self.dax.sysfs.write(force_raw, "0")

    def _what(self, plan: Plan) -> str:
        return f"Cannot make {plan.before.name if plan.before else plan.region.name} {plan.mode}"

    def _after(self, plan: Plan, name: Optional[str]) -> Namespace:
        """The namespace after a conversion: on labelled regions its name may have changed, its start has not."""
        if name:
            return self.namespaces.read(name)
        return self.namespaces.reread(plan.before) if plan.before else self.namespaces.find("", plan.region.name)

    def _leaked(self, now: Namespace) -> List[str]:
        leak = self.dax.leak_of(_device_name(now))
        return [leak.sentence] if leak else []

    def _refusals(self, now: Namespace) -> List[str]:
        if now.blockdev:
            # ndctl refuses these as well, whatever it is told: it opens the device exclusively first.
            return self.device_users.held(now.blockdev)
        if now.chardev and self.dax.driver_of(now.chardev) == "kmem":
            return [f"{now.chardev} is in use as System RAM: hot-remove it first (memblock_offline, then dax_kmem with state: devdax)"]
        return []

    def _losses(self, now: Namespace, plan: Plan) -> List[str]:
        device = now.blockdev or now.chardev
        losses: List[str] = []
        if device:
            losses += self.device_users.openers([device])
            image = self.image_of(f"/dev/{device}")
            if image:
                losses.append(f"the state image on /dev/{device} ({image}), which has not been restored")
        if now.blockdev:
            signature = self.device_users.signature(now.blockdev)
            if signature:
                losses.append(f"{signature} on /dev/{now.blockdev}")
        if plan.region.labelled and now.size % _LABEL_STEP:
            losses.append(
                f"{now.name} itself: its size ({format_size(now.size)}, {now.size} bytes) is no multiple of 16 MiB, "
                "and on a labelled DIMM such a namespace may be lost at the next start"
            )
        return losses

    def _need_drivers(self, mode: str) -> None:
        """Load what udev would load, for machines without it. What is built in has its driver already."""
        for module in _MODULES[mode]:
            bus = DAX_BUS if module == "device_dax" else "/sys/bus/nd"
            if self.dax.sysfs.exists(f"{bus}/drivers/{module}"):
                continue
            if module == "device_dax":
                self.dax.need_driver(module)
            else:
                self.ndctl.runner.check(
                    ["modprobe", module], f"Cannot make a namespace {mode}", f"Install the kernel module {module}", timeout=60
                )
