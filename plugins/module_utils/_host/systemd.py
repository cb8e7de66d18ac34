# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting and stopping units through systemctl, and knowing whether and how the machine is on its way down."""

from __future__ import annotations

from typing import Dict, List, Sequence

from .errors import HotpmemError
from .programs import Runner

# What systemd calls the end that is asked for, and what we call it. kexec, reboot and soft-reboot go on; the others end.
_ENDS = {
    "kexec.target": "kexec",
    "reboot.target": "reboot",
    "soft-reboot.target": "soft-reboot",
    "poweroff.target": "poweroff",
    "halt.target": "halt",
}
_ASK = 20.0  # seconds for a question to the manager


class Services:
    """Units by name. timeout: seconds that starting or stopping all of them may take."""

    def __init__(self, runner: Runner, timeout: float = 90.0) -> None:
        self.runner = runner
        self.timeout = timeout

    def stop(self, units: Sequence[str]) -> int:
        """Stop units, all at once: their own order holds among them. Raises HotpmemError when one still runs.

        Returns when the first of them ceased to be active, in ns of CLOCK_MONOTONIC, which may be long ago; 0 when none ever was.
        """
        if not units:
            return 0
        what = f"Cannot stop {', '.join(units)}"
        todo = "systemctl status says why it does not stop; raise stop_timeout when it only needs longer"
        self.runner.check(["systemctl", "stop", *units], what, todo, timeout=self.timeout)
        found = self.show(["ActiveState", "ActiveExitTimestampMonotonic"], units)
        left = [unit for unit, one in zip(units, found) if one.get("ActiveState") not in ("inactive", "failed")]
        if left:
            raise HotpmemError(what, f"{', '.join(left)} runs again, or still: something started it", "Find what starts it", units=left)
        exits = [int(one.get("ActiveExitTimestampMonotonic") or 0) for one in found]
        return min((at for at in exits if at), default=0) * 1000

    def start(self, units: Sequence[str]) -> None:
        """Start units. Raises HotpmemError when one does not run then."""
        if units:
            todo = f"systemctl start {' '.join(units)}; journalctl -u says why it failed"
            self.runner.check(["systemctl", "start", *units], f"Cannot start {', '.join(units)}", todo, timeout=self.timeout)

    def active(self, units: Sequence[str]) -> List[str]:
        """Those of units that run, or are on their way up or down."""
        if not units:
            return []
        states = self.runner.run(["systemctl", "is-active", *units], timeout=_ASK).stdout.split()
        return [unit for unit, state in zip(units, states) if state not in ("inactive", "failed", "unknown")]

    def failed(self, units: Sequence[str]) -> List[str]:
        """Those of units that ended in failure."""
        if not units:
            return []
        states = self.runner.run(["systemctl", "is-active", *units], timeout=_ASK).stdout.split()
        return [unit for unit, state in zip(units, states) if state == "failed"]

    def stopping(self) -> bool:
        """True while the machine shuts down."""
        return self.runner.run(["systemctl", "is-system-running"], timeout=_ASK).stdout.strip() == "stopping"

    def end(self) -> str:
        """How the machine is going down (kexec, reboot, poweroff, halt, soft-reboot), or the empty string.

        The job list tells: the state of the manager says only that it stops.
        """
        done = self.runner.run(["systemctl", "list-jobs", "--no-legend", "--plain", "--full", "--no-pager"], timeout=_ASK)
        for line in done.stdout.splitlines():
            fields = line.split()
            if len(fields) >= 3 and fields[2] == "start" and fields[1] in _ENDS:
                return _ENDS[fields[1]]
        return ""

    def properties(self, names: Sequence[str], unit: str = "") -> Dict[str, str]:
        """Properties of a unit, or of the manager."""
        return self.show(names, [unit] if unit else [])[0]

    def show(self, names: Sequence[str], units: Sequence[str]) -> List[Dict[str, str]]:
        """Properties of each unit, in their order; without units, of the manager. A path stands for its mount unit."""
        argv = ["systemctl", "show", *[f"--property={name}" for name in names], *units]
        blocks = self.runner.run(argv, timeout=_ASK).stdout.strip().split("\n\n")
        return [dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line) for block in blocks]
