#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the instructions of a down time: of handoffs that keep memcached's state, of a plain kexec, and of Ansible's reboot.

The lab machine runs with --accel icount: one CPU, whose clocks advance 1 ns for each instruction. What else runs on this host does not
change them. Only while the CPU is idle, as when it waits for its disk, they follow the host's clock: the kernel counts that time, and it is
taken off. From the stop of memcached until it is ready, nobody talks to the machine.

A second machine has two CPUs, which take turns. A trace of its scheduler says how busy they were (two_cpus.py).

Usage: instructions.py [--mib 256] [--rounds 3] [--name instructions] [--only METHOD]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "lab")]

from downtime import AGENT, HERE, JOURNAL, LATER, LOAD, READY, UNIT, Bench, begin, end, has_road, run, say
from downtime_report import STOPPING, Measured
from hotlab import lab, machine
from instructions_report import (
    METHODS,
    PHASES,
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
from two_cpus import Spans, boot_spans, busier, save_spans

HELPER = "/usr/local/sbin/pmem-state"
# As soon as memcached is ready, the shell that has waited for it keeps what the kernel says of idle time. It starts no program for it.
KEEP_WAITS = READY.replace("exit 0", 'read -r line </proc/stat; echo "$$line" >/run/stat-at-ready; exit 0')
# And here it ends the trace of the boot.
END_TRACE = READY.replace("exit 0", "echo 0 >/sys/kernel/tracing/tracing_on; exit 0")
TRACED = ["trace_event=sched:sched_switch", "trace_clock=x86-tsc", "trace_buf_size=24M"]
# The save of a handoff by itself, to the same device: how long it takes, and how much CPU time its threads take.
SAVE = """import json, resource, subprocess, time

def cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

def save():
    begin = time.monotonic(), cpu()
    subprocess.run("HELPER save --force --json --device /dev/pmem0 --item".split() + [item], check=True, stdout=subprocess.DEVNULL)
    return [round((end - was) * 1000, 3) for was, end in zip(begin, (time.monotonic(), cpu()))]

item = "memcached=/srv/state/memcached"
subprocess.run(["HELPER", "prepare", "--item", item], check=True, stdout=subprocess.DEVNULL)
print(json.dumps([save() for _ in range(3)]))
"""
# How far each of two CPUs comes with the same loop in the same time.
SPIN = """import json, os, time

begin, ends = time.monotonic() + 0.2, []
for cpu in (0, 1):
    end, write = os.pipe()
    ends.append(end)
    if os.fork() == 0:
        os.sched_setaffinity(0, {cpu})
        time.sleep(begin - time.monotonic())
        count = 0
        while time.monotonic() < begin + 1.5:
            for _ in range(1000):
                count += 1
        os.write(write, str(count).encode())
        os._exit(0)
print(json.dumps([int(os.read(end, 99)) for end in ends]))
"""
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
        self.counted.machines.append(json.loads((home / "lab.json").read_text())["spec"])

    def through_boot(self, what: str, start: Callable[[], object]) -> None:
        """One way through a boot, during which nobody talks to the machine."""
        boots = self.boots()
        self.close_connections()
        start()
        self.wait(lambda: self.boots() > boots, f"the end of the boot of {what}")
        self.finish_boot()

    def keep(self, method: str, found: Round) -> None:
        """Keep one round, and what the kernel said in its boot."""
        self.counted.rounds[method].append(found)
        self.counted.kernel[method] = kernel_steps(self.ssh("dmesg").splitlines())
        say(
            f"{method}: {found.total:.0f} million instructions, {found.beside_ms:.0f} of them beside systemd, "
            f"and {found.waits_ms:.0f} ms of waits: " + ", ".join(f"{name} {value:.0f}" for name, value in found.phases.items())
        )

    def waits(self) -> float:
        """How long the CPU was idle in the new boot until memcached was ready."""
        return waits_ms(self.ssh("cat /run/stat-at-ready"))

    def handed_over(self, method: str) -> dict[str, Any]:
        """The cycle of the agent's handoff."""
        self.through_boot(method, lambda: self.ssh(f"{AGENT} handoff --detach --method fast"))
        cycle = self.cycle()
        checked = self.cache_items("check /root/manifest.json")
        if checked["kept"] != checked["items"]:
            raise ValueError(f"the handoff kept {checked['kept']} of {checked['items']} items")
        return cycle

    def handoff(self, method: str) -> None:
        """A round of it."""
        phases = handoff_phases(self.handed_over(method))
        self.keep(method, Round(phases, self.waits(), beside_ms(self.ssh("cat /run/hotpmem/early.log"))))

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
        self.keep(method, Round(plain_phases(before, stopping, after, userspace, ready), self.waits()))

    def handoffs(self, method: str, setting: str, when_ready: str) -> None:
        """A warm-up and all rounds. when_ready: puts the shell in place that waits for memcached."""
        self.set_up(setting)
        self.ssh(when_ready)
        say(f"{method}: a warm-up")
        self.handoff(method)
        self.counted.rounds[method].clear()
        for _number in range(self.options.rounds):
            self.handoff(method)

    def measure_all(self) -> None:
        """All rounds of a method in a row: they need no turns, because what else runs on this host does not change them."""
        wanted = self.counted.rounds
        if "handoff" in wanted:
            self.handoffs("handoff", "raw", KEEP_WAITS)
        if "handoff_dax" in wanted and has_road():
            self.handoffs("handoff_dax", "dax", KEEP_WAITS)
        if {"systemctl_kexec", "ansible_reboot"} & set(wanted):
            self.set_up("plain")
            self.ssh(KEEP_WAITS)
        for _number in range(self.options.rounds if "systemctl_kexec" in wanted else 0):
            self.ssh(LOAD)
            self.plain("systemctl_kexec", lambda: self.ssh(LATER))
        for _number in range(self.options.rounds if "ansible_reboot" in wanted else 0):
            self.plain("ansible_reboot", lambda: self.play(HERE / "reboot.yml"))


class TwoCpus(Counter):
    """The machine whose two CPUs are counted: a handoff on the road raw."""

    method = "handoff_two_cpus"
    # The first two are the collection's own.
    more_settings: Mapping[str, object] = {"hotpmem_jump_arguments": ["quiet", "cryptomgr.notests", *TRACED]}

    def __init__(self, options: argparse.Namespace, counted: Counted) -> None:
        super().__init__(argparse.Namespace(**{**vars(options), "name": f"{options.name}-two-cpus"}), counted)
        self.saves: list[list[float]] = []

    def spec(self) -> machine.Spec:
        return machine.Spec("6.1", "nfit", "grub", "2G", 2, "icount")

    def measure_save(self) -> None:
        """The save by itself, three times. The namespace becomes a device for it, as in a handoff."""
        self.ssh(f"set -e\n{AGENT} hot-remove\nsystemctl stop {UNIT}")
        self.saves = json.loads(self.ssh("python3 -", 120, SAVE.replace("HELPER", HELPER).encode()))
        self.ssh(f"set -e\n{HELPER} invalidate --device /dev/pmem0\n{AGENT} hot-add\nsystemctl start {UNIT}")
        say(f"{self.method}: saves by themselves, elapsed and CPU time in ms: {self.saves}")

    def handoff(self, method: str) -> None:
        """A round of it, with the busier CPU's share of that boot."""
        cycle = self.handed_over(method)
        phases = handoff_phases(cycle)
        trace = self.ssh("cat /sys/kernel/tracing/trace", 300).splitlines()
        spans = {name: Spans(0.0, value, 0.0) for name, value in phases.items()}
        elapsed, cpu = (median(values) for values in zip(*self.saves))
        spans["save"] = save_spans(phases["save"], elapsed, cpu)
        spans |= boot_spans(trace, cycle["timeline"]["marks"], PHASES)
        share = busier(json.loads(self.ssh("python3 -", 120, SPIN.encode())))
        waits = sum(span.idle for span in spans.values())
        found = Round(phases, waits, spans=spans, share=share)
        self.keep(method, found)
        say(f"{method}: two CPUs would take {found.once_low:.0f} to {found.once:.0f} million; the busier one has {share:.0%} of the turns")

    def measure_all(self) -> None:
        self.set_up("raw")
        self.measure_save()
        self.handoffs(self.method, "raw", END_TRACE)


def main() -> int:
    options = begin(__doc__, Counter.title, METHODS)
    counted = Counted(options.mib)
    if options.only:
        counted.rounds = {options.only: []}
    machines = [Counter] if set(counted.rounds) - {TwoCpus.method} else []
    machines += [TwoCpus] if TwoCpus.method in counted.rounds else []
    whole = all([run(each(options, counted)) for each in machines])
    end(options.out, {**as_json(counted), "complete": whole}, table(counted), goals(counted))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
