# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts a namespace to another mode, or creates one.

A plan lists the changes, the losses that need force, and the reasons that forbid the conversion. The
converter applies the plan and then reads the namespace again to check the result.
"""

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
    """The plan of a conversion.

    before: the namespace to convert, or None to create one. changes: the steps, in words; empty when
    there is nothing to do. destroys: the losses; they need force. refuses: the reasons that forbid the
    conversion; force does not override them. region_align: the alignment to set for the region, in
    bytes; 0 leaves it unchanged. mapping, align (bytes): as requested. forced: the value of force that
    allow() got.
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
    """Return the region alignment that ndctl needs to convert a namespace of this size, or 0 to
    leave it unchanged.

    size and the result: bytes. ndctl rejects a size that is not a multiple of the region's ``align``,
    which is 16 MiB after each boot. Without labels, the start of the region must be a multiple as well.
    """
    align = region.align
    if not align or region.start is None:
        return 0
    start = 0 if region.labelled else region.start
    while align > _SMALLEST_ALIGN and (start % align or size % align):
        align //= 2
    return align if align != region.align else 0


def refuse_lost_uuid(now: Namespace, mode: str) -> None:
    """Raise HotpmemError when the operator named the namespace by its UUID.

    A conversion gives the namespace a new UUID, so the next run would not find it.
    """
    if now.asked_by_uuid:
        raise HotpmemError(
            f"Cannot convert {now.name} to {mode}",
            f"it was selected by its UUID ({now.asked}), but a conversion gives it a new UUID, and the next run would not find it",
            f"Use {now.lasting} instead, which does not change",
            lasting=now.lasting,
        )


def differences(now: Namespace, mode: str, mapping: str, align: int) -> List[str]:
    """Return the requested changes, in words.

    align: bytes. An empty mapping or an align of 0 requests no change.
    """
    changes = [] if now.mode == mode else [f"{now.mode} -> {mode}"]
    if not changes and mode in ("devdax", "fsdax"):
        if mapping and now.map and mapping != now.map:
            changes.append(f"map {now.map} -> {mapping}")
        if align and now.align and align != now.align:
            changes.append(f"align {now.align:#x} -> {align:#x}")
    return changes


def _device_name(namespace: Namespace) -> str:
    """Return the name of its dax device, or the name that the device would get."""
    return namespace.chardev or namespace.name.replace("namespace", "dax")


class Converter:
    """Plans and applies conversions.

    image_of: returns a description of the image on a device that has not been restored, or "".
    """

    def __init__(self, namespaces: Namespaces, dax: Dax, device_users: DeviceUsers, ndctl: Ndctl, image_of: Callable[[str], str]) -> None:
        self.namespaces = namespaces
        self.dax = dax
        self.device_users = device_users
        self.ndctl = ndctl
        self.image_of = image_of

    def plan_named(self, wanted: str, region: str, mode: str, mapping: str = "", align: int = 0, *, label: str = "") -> Plan:
        """Return the plan for the namespace that an operator names, or for a new namespace in an
        empty region.

        Changes nothing. wanted: as for Namespaces.find(). region: name or start address. align: bytes.
        label: the name of a new namespace. Raises HotpmemError unless exactly one namespace matches.
        """
        place = self.namespaces.region(region) if region else None
        if place and not wanted and not [one for one in self.namespaces.all() if one.region == place.name]:
            return self._creation(place, mode, mapping, align, label)
        now = self.namespaces.find(wanted, place.name if place else "")
        if label and now.label != label:
            said = f"the namespace already exists and {f'is named {now.label}' if now.label else 'has no name'}"
            todo = "Omit the option name, which applies only to a new namespace. To select an existing one, use the option namespace"
            raise HotpmemError(f"Cannot name {now.name} {label}", said, todo, namespace=now.to_dict())
        return self.plan(now, mode, mapping, align)

    def plan(self, now: Namespace, mode: str, mapping: str = "", align: int = 0) -> Plan:
        """Return the plan for a conversion. Changes nothing.

        align: bytes. An empty mapping or an align of 0 requests no change. Raises HotpmemError when the
        operator selected the namespace by its UUID.
        """
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
        """Return the plan for a new namespace in an empty region.

        With labels, the size is a multiple of 16 MiB: at the next boot, the region has this alignment
        again, whatever its alignment is now.
        """
        what = f"Cannot create a namespace in {place.name}"
        if label and not place.labelled:
            todo = "Omit the option name, or write labels with ndctl init-labels, which destroys the contents of the DIMM"
            raise HotpmemError(what, f"the region has no labels that could store the name {label}", todo, region=place.to_dict())
        size = align_down(place.available, _LABEL_STEP) if place.labelled else 0
        if place.labelled and not size:
            said = f"only {format_size(place.available)} are free, but a namespace on a labelled DIMM needs a multiple of 16 MiB"
            raise HotpmemError(what, said, "Use another region. The module pmem_info lists the regions", region=place.to_dict())
        argv = create_argv(mode, region=place.name, mapping=mapping, align=align, size=size, label=label)
        words = (
            f"create a {mode} namespace{' of ' + format_size(size) if size else ''} in {place.name}{', named ' + label if label else ''}"
        )
        if size and place.available > size:
            left = format_size(place.available - size)
            words += f"; {left} are left over, because with labels only a multiple of 16 MiB is certain to survive a reboot"
        return Plan(place, None, mode, argv, align_for(place, size or place.size), [words])

    def allow(self, plan: Plan, force: bool) -> None:
        """Raise HotpmemError when the plan must not be applied.

        force: accept the losses in ``destroys``.
        """
        plan.forced = force
        what = self._what(plan)
        if plan.refuses:
            leaked = any("leaked" in reason for reason in plan.refuses)
            raise HotpmemError(
                what,
                "; ".join(plan.refuses),
                LEAK_TODO if leaked else "The namespace must not be in use. force: true does not override this",
                refuses=plan.refuses,
                destroys=plan.destroys,
            )
        if plan.destroys and not force:
            said = "the conversion would destroy " + "; ".join(plan.destroys)
            raise HotpmemError(
                what, said, "To discard this, set force: true (playbook post_boot: -e hotpmem_force=true)", destroys=plan.destroys
            )

    def apply(self, plan: Plan) -> Namespace:
        """Apply the plan, and return the namespace as it is afterwards.

        Raises HotpmemError when it is not as planned.
        """
        what = self._what(plan)
        if not plan.changes:
            return self.namespaces.read(plan.before.name) if plan.before else self.namespaces.find("", plan.region.name)
        self._need_drivers(plan.mode)
        if plan.before:
            # With a stale ID in its list, kmem would bind to the next device of this name as soon
            # as it appears.
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
            said = f"ndctl reported success, but {after.name} is {after.mode} and {state}"
            raise HotpmemError(what, said, "See dmesg for the reason", namespace=after.to_dict())
        if plan.mode == "devdax" and self.dax.driver_of(after.chardev) == "kmem":
            raise HotpmemError(
                what,
                f"kmem bound to {after.chardev} immediately, because its list of device IDs still contained this name",
                "Hot-remove the device with the modules memblock_offline and dax_kmem, then try again",
            )
        return after

    def _woken(self, plan: Plan, before: Namespace) -> Plan:
        """Enable a disabled namespace, and return the plan for the remaining steps.

        Only an enabled namespace shows its mode and its contents, so the plan is made and allowed again.
        """
        try:
            self._enable(self._what(plan), before.name)
        except HotpmemError:
            # ndctl may convert a namespace even if no driver binds to it. But its contents are
            # unknown, so this needs force.
            if not (plan.argv and plan.forced):
                raise
            return plan
        again = self.plan(self.namespaces.read(before.name), plan.mode, plan.mapping, plan.align)
        self.allow(again, plan.forced)
        return again

    def _enable(self, what: str, name: str) -> None:
        """Enable a namespace as its info block says, or else as raw.

        The driver rejects a namespace whose info block belongs to a device of another size
        (drivers/nvdimm/pfn_devs.c).
        """
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
        if not plan.before:
            return f"Cannot create a {plan.mode} namespace in {plan.region.name}"
        return f"Cannot convert {plan.before.name} to {plan.mode}"

    def _after(self, plan: Plan, name: Optional[str]) -> Namespace:
        """Read the namespace after a conversion.

        In a labelled region, its name may have changed, but not its start.
        """
        if name:
            return self.namespaces.read(name)
        return self.namespaces.reread(plan.before) if plan.before else self.namespaces.find("", plan.region.name)

    def _leaked(self, now: Namespace) -> List[str]:
        leak = self.dax.leak_of(_device_name(now))
        return [leak.sentence] if leak else []

    def _refusals(self, now: Namespace) -> List[str]:
        if now.blockdev:
            # ndctl also refuses these, even with --force, because it first opens the device with O_EXCL.
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
                f"{now.name} itself, because its size ({format_size(now.size)}, {now.size} bytes) is not a multiple of 16 MiB, "
                "and on a labelled DIMM such a namespace may be lost at the next boot"
            )
        return losses

    def _need_drivers(self, mode: str) -> None:
        """Load the drivers that udev would load, for a host without udev.

        A built-in driver is already present.
        """
        for module in _MODULES[mode]:
            bus = DAX_BUS if module == "device_dax" else "/sys/bus/nd"
            if self.dax.sysfs.exists(f"{bus}/drivers/{module}"):
                continue
            if module == "device_dax":
                self.dax.need_driver(module)
            else:
                self.ndctl.runner.check(
                    ["modprobe", module], f"Cannot load the driver for {mode} namespaces", f"Install the kernel module {module}", timeout=60
                )
