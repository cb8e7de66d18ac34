# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stops everything that may change the state of the items, and makes sure that it has stopped."""

from __future__ import annotations

import os
import time
from typing import Callable, List

from .._host.errors import HotpmemError
from .._host.open_files import file_users
from .._host.sysfs import Sysfs
from .._host.systemd import Services
from .._host.unit_set import Unit, read_units, stops_with
from .node_settings import Settings

# How a service must not end: it may have left its files half written (systemd.exec(5), $SERVICE_RESULT).
DIRTY = ("timeout", "exit-code", "signal", "core-dump", "watchdog", "oom-kill")
_POLL = 0.05  # seconds between two looks at the open files


class StateUnits:
    """The units of the items, and every unit that stops with them or would start them again.

    clock, pause: for the wait. running: the names that ran when find() looked, in the order of systemd's answer.
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

    def missing(self) -> List[str]:
        """The reasons against units that systemd does not know; empty when it knows all of them. Raises HotpmemError."""
        units = self.settings.units
        unknown = [name for name, unit in zip(units, read_units(self.services.show, units)) if not unit.loaded]
        return [
            f"the unit {kept.unit} of the item {kept.name} does not exist (systemctl cat {kept.unit} shows what systemd knows)"
            for kept in self.settings.items
            if kept.unit in unknown
        ]

    def other_users(self) -> List[str]:
        """The reasons against processes that have files of an item open, and that stopping the units would not end."""
        own = {unit.name for unit in self.find()}
        return [
            f"{user.words}, and does not stop with the units of the items"
            for user in file_users(self.sysfs, self._paths())
            if user.unit not in own
        ]

    def _paths(self) -> List[str]:
        return [os.path.realpath(self.sysfs.path(kept.path)) for kept in self.settings.items]

    def find(self) -> List[Unit]:
        """Look which units run. Raises HotpmemError when systemd does not answer."""
        found = stops_with(self.services.show, self.settings.units) if self.settings.units else []
        self.running = [unit.name for unit in found if unit.runs]
        return found

    def stop(self) -> int:
        """Stop the units that find() saw running, with one command. Returns the time of the first stop in ns of CLOCK_MONOTONIC, or 0.

        Raises HotpmemError when one does not stop, or did not end well: then it may have left its files half written.
        """
        stopped = self.services.stop(self.running)
        dirty = {unit: result for unit, result in stopped.results.items() if result in DIRTY}
        if dirty:
            listed = ", ".join(f"{unit} ended with the result {result}" for unit, result in dirty.items())
            raise HotpmemError(
                f"Cannot save the state of {', '.join(dirty)}",
                f"{listed}, so its files may be half written",
                "See systemctl status of the unit. If it only needs more time to stop, increase its TimeoutStopSec=",
                dirty=dirty,
            )
        return stopped.began

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
