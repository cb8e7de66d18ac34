# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stops everything that may change the state of the items, and makes sure that it has stopped."""

from __future__ import annotations

import os
import time
from typing import AbstractSet, Any, Callable, Dict, List, Mapping, Sequence

from .._host.errors import HotpmemError
from .._host.open_files import FileUser, file_users, manager_of
from .._host.sysfs import Sysfs
from .._host.systemd import Services
from .._host.unit_set import Unit, UnitSet, read_units, stops_with
from .node_settings import Kept, Settings
from .removed_at_stop import PROPERTIES, removed_by

# How a service must not end: it may have left its files half written (systemd.exec(5), $SERVICE_RESULT).
DIRTY = ("timeout", "exit-code", "signal", "core-dump", "watchdog", "oom-kill")
# The types of units that have our drop-ins. A mount comes before hotpmem-restore.service, so it can not come after it as well.
ORDERED = (".service", ".socket", ".timer", ".path")
# The drop-in of the role node_agent: after the restore, and before the save at shutdown.
DROPIN = "60-hotpmem-node.conf"
# The drop-in of the role unit_guard on the units that items name, on hosts that have its timer.
GUARD, GUARD_TIMER = "50-hotpmem-pending.conf", "/etc/systemd/system/hotpmem-cold-start.timer"
# The units of the agent are enabled. Without them nothing needs the drop-ins.
ENABLED = "/etc/systemd/system/multi-user.target.wants/hotpmem-restore.service"
_POLL = 0.05  # seconds between two looks at the open files


class StateUnits:
    """The units of the items, and every unit that stops with them or would start them again.

    clock, pause: for the wait. running: the names that ran when find() looked, in the order of systemd's answer. left_out: the items
    that must not be saved, by name, with the reason.
    """

    def __init__(
        self,
        sysfs: Sysfs,
        services: Services,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.sysfs = sysfs
        self.services = services
        self.settings = settings
        self.clock = clock
        self.pause = pause
        self.running: List[str] = []
        self.left_out: Dict[str, str] = {}
        self.set = UnitSet({}, {})

    def problems(self) -> List[str]:
        """Every reason against stopping the units and saving the items. Raises HotpmemError when systemd does not answer."""
        missing = self.missing(self.settings.items)
        if missing:
            return missing
        found = self.find()
        return [*self.unguarded(), *self._accepting(), *self._removed(), *self._other_users({unit.name for unit in found})]

    def missing(self, items: Sequence[Kept]) -> List[str]:
        """The reasons against units of these items that systemd does not know."""
        units = list(dict.fromkeys(kept.unit for kept in items if kept.unit))
        unknown = [name for name, unit in zip(units, read_units(self.services.show, units)) if not unit.loaded]
        reasons = []
        for kept in items:
            manager = manager_of(self.sysfs, kept.unit) if kept.unit in unknown else ""
            if manager:
                reasons.append(
                    f"the unit {kept.unit} of the item {kept.name} runs inside {manager}, so the systemd of the host can't stop it. "
                    f"Name {manager} as the unit of the item instead: it stops with all that runs inside it"
                )
            elif kept.unit in unknown:
                reasons.append(
                    f"the unit {kept.unit} of the item {kept.name} does not exist (systemctl cat {kept.unit} shows what systemd knows)"
                )
        return reasons

    def unguarded(self) -> List[str]:
        """The reasons against units that would start before the restore, or stop after the save at shutdown. find() comes first.

        Empty on a host where the units of the agent are not enabled.
        """
        if not self.sysfs.link(ENABLED):
            return []
        return [
            f"the unit {unit.name}, which starts and stops with the item {self.items_of(unit.name)[0].name}, lacks the drop-in "
            f"{' and '.join(self._lacks(unit))}, so at a boot it could start before its state is restored. Run the playbook provision"
            for unit in self.set
            if unit.loaded and unit.name.endswith(ORDERED) and self._lacks(unit)
        ]

    def _accepting(self) -> List[str]:
        """The reasons against sockets that start an instance for each connection. find() comes first."""
        return [
            f"the socket {unit.name}, which belongs to the item {self.items_of(unit.name)[0].name}, has Accept=yes. It starts a unit for "
            "each connection, and such a unit can't wait for its state. Use a service that accepts the connections itself (Accept=no)"
            for unit in self.set
            if unit.accepts
        ]

    def _removed(self) -> List[str]:
        """The reasons against items that systemd removes when one of their units stops. find() comes first."""
        names = [unit.name for unit in self.set if unit.loaded and unit.name.endswith((".service", ".mount"))]
        found = self.services.show(PROPERTIES, names) if names else []
        reasons = [
            (kept, unit, removed_by(unit, properties, kept.path) or removed_by(unit, properties, self.sysfs.real(kept.path)))
            for unit, properties in zip(names, found)
            # A mount takes the items of all units with it.
            for kept in (self.settings.items if unit.endswith(".mount") else self.items_of(unit))
        ]
        return [
            f"the item {kept.name} ({kept.path}) would be gone before the save: it is removed when {unit} stops, because {why}"
            for kept, unit, why in reasons
            if why
        ]

    def _lacks(self, unit: Unit) -> List[str]:
        """The names of our drop-ins that systemd has not read for the unit."""
        wanted = [DROPIN]
        if self._named_by(unit.name) and self.sysfs.exists(GUARD_TIMER):
            wanted.append(GUARD)
        present = {os.path.basename(path) for path in unit.dropins}
        return [name for name in wanted if name not in present]

    def _named_by(self, unit: str) -> List[Kept]:
        return [kept for kept in self.settings.items if kept.unit and self.set.named(kept.unit) == unit]

    def items_of(self, unit: str) -> List[Kept]:
        """The items that this unit may change, in their order. unit: a name of systemd. find() comes first."""
        return [kept for kept in self.settings.items if kept.unit and unit in self.set.of(kept.unit)]

    def describe(self) -> List[Dict[str, Any]]:
        """The units that need our drop-ins, for the role node_agent. find() comes first.

        kept: the items of the unit. named: the names of those items whose own unit it is. parts: the names of those that it belongs to
        as their own unit or as a part of it (PartOf=), so that its failure tells something about their state. lacks: the names of the
        drop-ins that systemd has not read; guarded: there are no such names.
        """
        return [
            {
                "name": unit.name,
                "kept": [kept.to_dict() for kept in self.items_of(unit.name)],
                "named": [kept.name for kept in self._named_by(unit.name)],
                "parts": [kept.name for kept in self.items_of(unit.name) if unit.name in self.set.parts(kept.unit)],
                "loaded": unit.loaded,
                "lacks": self._lacks(unit),
                "guarded": not self._lacks(unit),
            }
            for unit in self.set
            if unit.name.endswith(ORDERED)
        ]

    def skipped(self, names: Sequence[str]) -> List[str]:
        """The units that start with these units, and whose start a condition has prevented. find() comes first.

        names: units of items. systemd does not try again by itself when the condition holds no more.
        """
        wanted = {one for name in names for one in self.set.of(name)}
        units = [unit.name for unit in self.set if unit.name in wanted and not unit.runs]
        found = self.services.show(["ConditionResult", "ConditionTimestampMonotonic"], units) if units else []
        return [
            unit
            for unit, one in zip(units, found)
            if one.get("ConditionResult") == "no" and one.get("ConditionTimestampMonotonic") not in (None, "", "0")
        ]

    def to_start(self, names: Sequence[str]) -> List[str]:
        """These units, and those of their sets whose start a condition has prevented, in the order in which they start. find() comes first.

        names: units of items. A socket comes before its service: systemd refuses to start it afterwards (UnitSet).
        """
        wanted = [self.set.named(name) for name in names] + self.skipped(names)
        ordered = [unit.name for unit in self.set if unit.name in wanted]
        # The set leaves out targets, but an item may name one.
        return ordered + [name for name in dict.fromkeys(wanted) if name not in ordered]

    def _other_users(self, own: AbstractSet[str]) -> List[str]:
        """The reasons against processes that have files of an item open, and that stopping the units would not end."""
        users = file_users(self.sysfs, self._paths())
        return [f"{user.words}, and does not stop with the units of the items. {_advice(user)}" for user in users if user.unit not in own]

    @property
    def kept(self) -> List[Kept]:
        """The items to save: without those that are left out."""
        return [kept for kept in self.settings.items if kept.name not in self.left_out]

    def _paths(self) -> List[str]:
        return [os.path.realpath(self.sysfs.path(kept.path)) for kept in self.kept]

    def find(self) -> UnitSet:
        """Look which units run. Raises HotpmemError when systemd does not answer."""
        if self.settings.units:
            self.set = stops_with(self.services.show, self.settings.units)
        self.running = [unit.name for unit in self.set if unit.runs]
        return self.set

    def failed(self) -> List[str]:
        """The units of the items that were in the state ``failed`` when find() looked, themselves or a part of them."""
        states = {unit.name: unit.state for unit in self.set}
        return [name for name in self.settings.units if any(states.get(part) == "failed" for part in self.set.parts(name))]

    def stop(self) -> int:
        """Stop the units that find() saw running, with one command. Returns the time of the first stop in ns of CLOCK_MONOTONIC, or 0.

        A unit that did not end well may have left its files half written. Its items are left out when all of them have
        on_dirty_stop: cold. Otherwise, and when a unit does not stop, raises HotpmemError.
        """
        # Between find() and the record that keeps the units down, a client of a socket may have started what was down.
        down = [unit.name for unit in self.set if unit.loaded and not unit.runs and unit.name.endswith(ORDERED)]
        stopped = self.services.stop(self.running, down)
        dirty = dirty_results(stopped.results)
        refused = [unit for unit in dirty if {kept.on_dirty_stop for kept in self.items_of(unit)} != {"cold"}]
        if refused:
            listed = ", ".join(f"{unit} ended with the result {result}" for unit, result in dirty.items())
            raise HotpmemError(
                f"Cannot save the state of {', '.join(dirty)}",
                f"{listed}, so its files may be half written",
                "See systemctl status of the unit. If it only needs more time to stop, increase its TimeoutStopSec=. If its items may "
                "start without their state after such a stop, set on_dirty_stop: cold",
                dirty=dirty,
            )
        self._leave_out(dirty)
        return stopped.began

    def leave_out_dirty(self, since: int) -> None:
        """Leave out the items of units that did not end well after a time, whatever on_dirty_stop says. find() comes first.

        since: in microseconds of CLOCK_MONOTONIC. A unit that failed before has had its chance to be looked at.
        """
        units = [unit.name for unit in self.set]
        found = self.services.show(["Result", "InactiveEnterTimestampMonotonic"], units) if units else []
        ended = {
            unit: one.get("Result", "") for unit, one in zip(units, found) if int(one.get("InactiveEnterTimestampMonotonic") or 0) >= since
        }
        self._leave_out(dirty_results(ended))

    def _leave_out(self, dirty: Mapping[str, str]) -> None:
        for unit, result in dirty.items():
            for kept in self.items_of(unit):
                self.left_out.setdefault(
                    kept.name, f"{unit} ended with the result {result}, so the files of {kept.name} may be half written"
                )

    def wait_for_files(self, seconds: float) -> None:
        """Wait until no process has a file of an item open or mapped. seconds: of patience.

        Raises HotpmemError that names the processes and their units.
        """
        deadline = self.clock() + seconds
        while True:
            users = file_users(self.sysfs, self._paths())
            if not users:
                return
            if self.clock() >= deadline:
                break
            self.pause(_POLL)
        raise HotpmemError(
            "Cannot save the state",
            f"{seconds:g} s after the units were stopped, {'; '.join(user.words for user in users)}",
            "Stop these processes, or give the item the unit that they belong to",
            users=[{"pid": user.pid, "name": user.name, "unit": user.unit, "path": user.path} for user in users],
        )


def _advice(user: FileUser) -> str:
    """What to do about a process that does not stop with the units of the items."""
    if not user.unit.endswith(".service"):
        return "End it first"
    return f"Name {user.unit} as the unit of the item, or make it PartOf= that unit (docs/applications/units.md)"


def dirty_results(results: Mapping[str, str]) -> Dict[str, str]:
    """The units that did not end well, with their Result."""
    return {unit: result for unit, result in results.items() if result in DIRTY}
