#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the instructions of a down time: of handoffs that keep memcached's state, of a plain kexec, and of Ansible's reboot.

The lab machine runs with --accel icount: one CPU, whose clocks advance 1 ns for each instruction. What else runs on this host does not
change them. Only while the CPU is idle, as when it waits for its disk, they follow the host's clock: the kernel counts that time, and it is
taken off. From the stop of memcached until it is ready, nobody talks to the machine.

Usage: instructions.py [--mib 256] [--rounds 3] [--name instructions]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "lab")]

from downtime import AGENT, HERE, JOURNAL, LATER, LOAD, METHODS, READY, UNIT, Bench, begin, end, has_road, run, say
from downtime_report import STOPPING, Measured
from hotlab import lab, machine
from instructions_report import (
    Counted,
    Round,
    as_json,
    beside_ms,
    goals,
    handoff_phases,
    kernel_steps,
    plain_phases,
    stopped_at,
    table,
    waits_ms,
)

HELPER = "/usr/local/sbin/pmem-state"
# As soon as memcached is ready, the shell that has waited for it keeps what the kernel says of idle time. It starts no program for it.
KEEP_WAITS = READY.replace("exit 0", 'read -r line </proc/stat; echo "$$line" >/run/stat-at-ready; exit 0')
STAMPS = """systemctl show --value --property=UserspaceTimestampMonotonic
systemctl show --value --property=ActiveEnterTimestampMonotonic memcached.service
"""


class Counter(Bench):
    """The machine, and what is counted on it."""

    title = "instructions"
    # What is counted does not depend on the host, so a busy one may take its time.
    patience = 10
    # That thread sleeps for up to a second, and memcached waits for it when it stops: a stop would take what chance says.
    more_for_memcached = "-o no_lru_maintainer"

    def __init__(self, options: argparse.Namespace, counted: Counted) -> None:
        super().__init__(options, Measured(options.mib))
        self.counted = counted

    def spec(self) -> machine.Spec:
        return machine.Spec("6.1", "nfit", "grub", "2G", 1, "icount")

    def up(self) -> None:
        """Start the machine. GRUB does not wait for anybody, as the image sets it up: its five seconds would count as instructions."""
        home = lab.up(self.options.name, 1, self.spec())
        self.counted.machine = json.loads((home / "lab.json").read_text())["spec"]

    def through_boot(self, what: str, start: Callable[[], object]) -> None:
        """One way through a boot, during which nobody talks to the machine."""
        boots = self.boots()
        self.close_connections()
        start()
        self.wait(lambda: self.boots() > boots, f"the end of the boot of {what}")
        self.finish_boot()

    def keep(self, method: str, phases: dict[str, float], restore: str = "") -> None:
        """Keep the phases of one round. restore: what the restore in the initrd said."""
        found = Round(phases, waits_ms(self.ssh("cat /run/stat-at-ready")), beside_ms(restore))
        self.counted.rounds[method].append(found)
        self.counted.kernel[method] = kernel_steps(self.ssh("dmesg").splitlines())
        say(
            f"{method}: {found.total:.0f} million instructions, {found.beside_ms:.0f} of them beside systemd, "
            f"and {found.waits_ms:.0f} ms of waits: " + ", ".join(f"{name} {value:.0f}" for name, value in phases.items())
        )

    def handoff(self, method: str) -> None:
        """The agent's handoff."""
        self.through_boot(method, lambda: self.ssh(f"{AGENT} handoff --detach --method {METHODS[method]}"))
        phases = handoff_phases(self.cycle())
        checked = self.cache_items("check /root/manifest.json")
        if checked["kept"] != checked["items"]:
            raise ValueError(f"the handoff kept {checked['kept']} of {checked['items']} items")
        self.keep(method, phases, self.ssh("cat /run/hotpmem/early.log"))

    def clock(self) -> dict[str, int]:
        """The cycle counter and CLOCK_BOOTTIME of one moment, from the helper."""
        return dict(json.loads(self.ssh(f"{HELPER} cycles --json"))["clock"])

    def plain(self, method: str, start: Callable[[], object]) -> None:
        """A boot that keeps nothing. Both boots are asked once for their clocks."""
        before = self.clock()
        self.through_boot(method, start)
        after = self.clock()
        stopping = stopped_at(self.ssh(f"{JOURNAL} -b -1").splitlines(), STOPPING, UNIT)
        userspace, ready = map(int, self.ssh(STAMPS).split())
        self.keep(method, plain_phases(before, stopping, after, userspace, ready))

    def measure_all(self) -> None:
        """All rounds of a method in a row: they need no turns, because what else runs on this host does not change them."""
        for method in ("handoff", "handoff_dax"):
            if method == "handoff_dax" and not has_road():
                continue
            self.set_up("dax" if method == "handoff_dax" else "raw")
            self.ssh(KEEP_WAITS)
            say(f"{method}: a warm-up")
            self.handoff(method)
            self.counted.rounds[method].clear()
            for _number in range(self.options.rounds):
                self.handoff(method)
        self.set_up("plain")
        self.ssh(KEEP_WAITS)
        for _number in range(self.options.rounds):
            self.ssh(LOAD)
            self.plain("systemctl_kexec", lambda: self.ssh(LATER))
        for _number in range(self.options.rounds):
            self.plain("ansible_reboot", lambda: self.play(HERE / "reboot.yml"))


def main() -> int:
    options = begin(__doc__, Counter.title)
    counted = Counted(options.mib)
    whole = run(Counter(options, counted))
    end(options.out, {**as_json(counted), "complete": whole}, table(counted), goals(counted))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
