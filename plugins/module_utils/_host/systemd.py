# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts and stops units with systemctl, and finds out whether and how the machine is shutting down."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from .errors import HotpmemError
from .programs import Runner

# The targets of a shutdown (systemd.special(7)) and our names for them. After kexec, reboot and
# soft-reboot the host starts again.
_ENDS = {
    "kexec.target": "kexec",
    "reboot.target": "reboot",
    "soft-reboot.target": "soft-reboot",
    "poweroff.target": "poweroff",
    "halt.target": "halt",
}
_ASK = 20.0  # seconds that systemd may take to answer a query
_ANSWERS = "Check that systemd answers: systemctl is-system-running"


def unit_names(value: str) -> List[str]:
    """The units in a property of ``systemctl show``, which quotes a name with a backslash: ``"srv-my\\\\x2dstate.mount"``."""
    return shlex.split(value)


@dataclass(frozen=True)
class Stopped:
    """What became of units that were stopped.

    began: when the first of them became inactive, in ns of CLOCK_MONOTONIC; 0 when no unit was active in
    this boot. A unit that was already stopped has an earlier time. results: the Result of each unit.
    """

    began: int
    results: Dict[str, str]


class Services:
    """Starts, stops and queries units by name.

    timeout: seconds that one start or stop of all units may take. None waits without limit.
    """

    def __init__(self, runner: Runner, timeout: Optional[float] = 90.0) -> None:
        self.runner = runner
        self.timeout = timeout

    def stop(self, units: Sequence[str], down: Sequence[str] = ()) -> Stopped:
        """Stop units with one command, so that systemd keeps the order among them.

        down: units that were down when the caller looked. They are stopped as well, because something may have started them since. They
        have a result only if they ended now.

        Raises HotpmemError when systemctl fails or a unit still runs, and TimedOut at the deadline.
        """
        asked = [*units, *down]
        if not asked:
            return Stopped(0, {})
        what = f"Cannot stop {', '.join(asked)}"
        todo = "See systemctl status for the reason. If the units only need more time, increase hotpmem_stop_timeout"
        since = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.runner.check(["systemctl", "stop", *asked], what, todo, timeout=self.timeout)
        found = self.show(["ActiveState", "ActiveExitTimestampMonotonic", "Result"], asked)
        left = [unit for unit, one in zip(asked, found) if one.get("ActiveState") not in ("inactive", "failed")]
        if left:
            said = f"after systemctl stop, these units still run or were started again: {', '.join(left)}"
            todo = "Find out what starts them: systemctl list-dependencies --reverse shows the units that need them"
            raise HotpmemError(what, said, todo, units=left)
        exits = {unit: int(one.get("ActiveExitTimestampMonotonic") or 0) for unit, one in zip(asked, found)}
        began = min((exits[unit] for unit in units if exits[unit]), default=0) * 1000
        return Stopped(began, {unit: one.get("Result", "") for unit, one in zip(asked, found) if unit in units or exits[unit] >= since})

    def start(self, units: Sequence[str]) -> None:
        """Start units. Raises HotpmemError when a unit does not start, and TimedOut at the deadline."""
        if units:
            todo = f"See journalctl -u for the reason, then run: systemctl start {' '.join(units)}"
            self.runner.check(["systemctl", "start", *units], f"Cannot start {', '.join(units)}", todo, timeout=self.timeout)

    def active(self, units: Sequence[str]) -> List[str]:
        """Return the units that run, start or stop at this moment."""
        return [unit for unit, state in self.states(units) if state not in ("inactive", "failed")]

    def failed(self, units: Sequence[str]) -> List[str]:
        """Return the units that are in the state ``failed``."""
        return [unit for unit, state in self.states(units) if state == "failed"]

    def states(self, units: Sequence[str]) -> List[Tuple[str, str]]:
        """Return each unit with its ActiveState. Raises HotpmemError when systemd does not answer for all of them.

        A unit that systemd does not know is ``inactive``.
        """
        found = self.show(["ActiveState"], units) if units else []
        return [(unit, one.get("ActiveState", "")) for unit, one in zip(units, found)]

    def stopping(self) -> bool:
        """Return True while the machine shuts down."""
        return self.runner.run(["systemctl", "is-system-running"], timeout=_ASK).stdout.strip() == "stopping"

    def end(self) -> str:
        """Return the kind of shutdown that is in progress, or the empty string.

        The kinds are kexec, reboot, poweroff, halt and soft-reboot. They come from the job list, because
        the manager's state only shows that the machine is shutting down.
        """
        done = self.runner.run(["systemctl", "list-jobs", "--no-legend", "--plain", "--full", "--no-pager"], timeout=_ASK)
        for line in done.stdout.splitlines():
            fields = line.split()
            if len(fields) >= 3 and fields[2] == "start" and fields[1] in _ENDS:
                return _ENDS[fields[1]]
        return ""

    def properties(self, names: Sequence[str], unit: str = "") -> Dict[str, str]:
        """Return properties of a unit, or of the manager when unit is empty."""
        return self.show(names, [unit] if unit else [])[0]

    def show(self, names: Sequence[str], units: Sequence[str]) -> List[Dict[str, str]]:
        """Return the properties of each unit, in the order of units. Without units, return those of the manager.

        A path stands for its mount unit. Raises HotpmemError when systemctl fails, or answers for more or fewer units.
        """
        about = f"the units {', '.join(units)}" if units else "the system"
        what = f"Cannot ask systemd about {about}"
        blocks = self._blocks([], names, units, what)
        if len(blocks) != max(1, len(units)):
            raise HotpmemError(what, f"systemctl show answered for {len(blocks)} of {len(units)} units", _ANSWERS, units=list(units))
        return blocks

    def loaded(self, names: Sequence[str]) -> List[Dict[str, str]]:
        """Return the properties of all units that systemd has in memory, also of those that have ended. Raises HotpmemError."""
        # Without --all, newer versions leave out units that are inactive.
        return self._blocks(["--all"], names, ["*"], "Cannot ask systemd about its units")

    def _blocks(self, options: Sequence[str], names: Sequence[str], patterns: Sequence[str], what: str) -> List[Dict[str, str]]:
        """One dict for each block of ``systemctl show``. A unit without any of the properties is an empty one."""
        argv = ["systemctl", "show", *options, *[f"--property={name}" for name in names], "--", *patterns]
        text = self.runner.check(argv, what, _ANSWERS, timeout=_ASK).stdout.strip("\n")
        return [dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
