# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the measurements of instructions.py: phases in millions of instructions, the file, the table. Touches no machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from two_cpus import MEBI, Spans

METHODS = ("handoff", "handoff_dax", "systemctl_kexec", "ansible_reboot", "handoff_two_cpus")
# The mark at the end of a phase (_image/timeline.py), and what the phase is called here.
PHASES = {
    "units_stopped": "stop",
    "saved": "save",
    "jump": "shutdown",
    "kernel_start": "kexec",
    "userspace_start": "kernel",
    "restoring": "userspace",
    "restored": "restore",
    "units_starting": "other_units",
    "units_ready": "start",
}
PLAIN_PHASES = ("shutdown", "kernel", "userspace")
SPREAD = 0.02
GOAL_MINSN, GOAL_SHARE = 1600, 0.4
# What the shell's times prints: 1m2.345678s of user, then of system time; a line for itself, and one for its programs.
_TIMES = re.compile(r"^(\d+)m(\d+\.\d+)s (\d+)m(\d+\.\d+)s$", re.MULTILINE)
_MESSAGE = re.compile(r"^\[ *(\d+\.\d{6})\] (.*)$")


@dataclass(frozen=True)
class Round:
    """One way through a boot: each phase in millions of instructions, with its waits; and all waits from the kernel's start to ready.

    beside_ms: CPU time of the restore in the initrd. With a second CPU, it works beside systemd. The machine has only one.
    spans, share: of a machine with two CPUs, how busy they were in each phase, and the busier CPU's part of what both did.
    """

    phases: dict[str, float]
    waits_ms: float = 0.0
    beside_ms: float = 0.0
    spans: dict[str, Spans] = field(default_factory=dict)
    share: float = 0.5

    @property
    def total(self) -> float:
        """From the stop of the unit until it is ready, without waits. A wait of 1 ms has counted as a million instructions."""
        return sum(self.phases.values()) - self.waits_ms

    @property
    def once(self) -> float:
        """The same with what two CPUs do at the same time counted once. With one CPU, a guess: the restore beside systemd, until a unit
        waits for it."""
        if self.spans:
            return self._once(self.share)
        systemd = max(self.phases.get("userspace", 0.0) - self.beside_ms, 0.0)
        return self.total - min(self.beside_ms, systemd)

    @property
    def once_low(self) -> float:
        """With two CPUs: as if each had done half of what both did."""
        return self._once(0.5)

    def _once(self, share: float) -> float:
        return sum(span.once(share) for span in self.spans.values())


@dataclass
class Counted:
    """Everything that was measured. machines: what the lab says of each. kernel: for each method, the longest steps of the last boot's
    kernel."""

    mib: int
    machines: list[dict[str, object]] = field(default_factory=list)
    rounds: dict[str, list[Round]] = field(default_factory=lambda: {method: [] for method in METHODS})
    kernel: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def handoff_phases(cycle: Mapping[str, Any]) -> dict[str, float]:
    """The phases of a recorded cycle, from its marks: in this machine one cycle of the counter is one instruction."""
    marks = cycle["timeline"]["marks"]
    names = ["stopping", *(mark for mark in PHASES if mark in marks)]
    return {PHASES[end]: round((marks[end] - marks[begin]) / MEBI, 3) for begin, end in zip(names, names[1:])}


def plain_phases(
    before: Mapping[str, int], stopping_us: int, after: Mapping[str, int], userspace_us: int, ready_us: int
) -> dict[str, float]:
    """The same for a boot that kept nothing.

    before, after: ``cycles`` and ``boottime_ns`` of one moment in each of the two boots. The counter runs on through kexec, and in QEMU
    through a reset as well. The other arguments are us of CLOCK_MONOTONIC in the boot they belong to.
    """
    start = after["cycles"] - after["boottime_ns"]
    stopping = before["cycles"] - before["boottime_ns"] + stopping_us * 1000
    ends = [stopping, start, start + userspace_us * 1000, start + ready_us * 1000]
    return {name: round((end - begin) / MEBI, 3) for name, begin, end in zip(PLAIN_PHASES, ends, ends[1:])}


def stopped_at(journal: Iterable[str], message_id: str, unit: str) -> int:
    """When systemd last said this of the unit, in us of CLOCK_MONOTONIC, from journalctl -o json. Raises ValueError without it."""
    entries = [json.loads(line) for line in journal if line.strip()]
    found = [entry for entry in entries if entry.get("MESSAGE_ID") == message_id and entry.get("UNIT") == unit]
    if not found:
        raise ValueError(f"the journal of the boot before does not say when {unit} stopped")
    return int(found[-1].get("_SOURCE_MONOTONIC_TIMESTAMP") or found[-1]["__MONOTONIC_TIMESTAMP"])


def waits_ms(stat: str) -> float:
    """How long the one CPU was idle since the kernel started, by the first line of a /proc/stat (proc_stat(5)): 10 ms are its unit."""
    return sum(int(field) for field in stat.split()[4:6]) * 10.0


def beside_ms(said: str) -> float:
    """The CPU time in the log of the restore in the initrd (restore.sh), in steps of 10 ms; 0 when the initrd did not restore."""
    times = [pair for line in _TIMES.findall(said) for pair in (line[:2], line[2:])]
    return round(sum(60e3 * int(minutes) + 1e3 * float(seconds) for minutes, seconds in times), 3)


def kernel_steps(messages: Iterable[str], most: int = 15) -> list[dict[str, Any]]:
    """The longest times between two messages of the kernel, the longest first, until systemd begins. messages: of dmesg."""
    matches = [match for match in map(_MESSAGE.match, messages) if match]
    times = []
    for match in matches:
        if match[2].startswith("systemd["):
            break
        times.append((float(match[1]), match[2]))
    steps = [
        {"minsn": round((after[0] - before[0]) * 1000, 1), "after": before[1][:80], "until": after[1][:80]}
        for before, after in zip(times, times[1:])
    ]
    return sorted(steps, key=lambda step: -step["minsn"])[:most]


def spread(totals: Sequence[float]) -> float:
    """How far the largest is above the smallest, as a share of it."""
    return max(totals) / min(totals) - 1 if totals else 0.0


def restless(rounds: Sequence[Round]) -> str:
    """The phase whose numbers are furthest apart, for a method whose totals are."""
    apart = {name: max(values) - min(values) for name, values in _by_phase(rounds).items()}
    name = max(apart, key=lambda one: apart[one])
    waits = [one.waits_ms for one in rounds]
    return f"{name} is {apart[name]:.0f} apart, with its waits; the waits of the new boots are {min(waits):.0f} to {max(waits):.0f} ms"


def _by_phase(rounds: Sequence[Round]) -> dict[str, list[float]]:
    return {name: [one.phases.get(name, 0.0) for one in rounds] for name in rounds[-1].phases} if rounds else {}


def as_json(counted: Counted) -> dict[str, Any]:
    """What build/bench/instructions.json holds. Phases are medians, with their waits; totals are without."""
    methods = {
        method: {
            "total_minsn": [round(one.total, 1) for one in rounds],
            "phases": {name: round(median(values), 1) for name, values in _by_phase(rounds).items()},
            "waits_ms": [round(one.waits_ms) for one in rounds],
            "beside_minsn": [round(one.beside_ms) for one in rounds],
            "once_minsn": [round(one.once, 1) for one in rounds],
            "spread": round(spread([one.total for one in rounds]), 4),
            "kernel_steps": counted.kernel.get(method, []),
            **(_two_cpus(rounds) if any(one.spans for one in rounds) else {}),
        }
        for method, rounds in counted.rounds.items()
    }
    return {"machines": counted.machines, "state_mib": counted.mib, **methods}


def _two_cpus(rounds: Sequence[Round]) -> dict[str, Any]:
    """What only a machine with two CPUs has. spans: medians."""
    return {
        "once_low_minsn": [round(one.once_low, 1) for one in rounds],
        "share": [round(one.share, 3) for one in rounds],
        "spans": {
            name: {
                **{key: round(median(getattr(one.spans[name], key) for one in rounds), 1) for key in ("idle", "one", "both")},
                "once_low": round(median(one.spans[name].once(0.5) for one in rounds), 1),
                "once": round(median(one.spans[name].once(one.share) for one in rounds), 1),
            }
            for name in rounds[-1].spans
        },
    }


def table(counted: Counted) -> Iterator[str]:
    """The totals, then the phases of each method."""
    yield f"from the stop of memcached until it is ready, {counted.mib} MiB of state, millions of instructions"
    yield f"  {'method':<16} {'median':>8} {'spread':>8}   rounds"
    for method, rounds in counted.rounds.items():
        totals = [one.total for one in rounds]
        if totals:
            yield f"  {method:<16} {median(totals):8.0f} {spread(totals):8.1%}   " + "  ".join(f"{total:.0f}" for total in totals)
        else:
            yield f"  {method:<16} not measured: the run ended before it"
    for method, rounds in counted.rounds.items():
        if rounds:
            waits = ", ".join(f"{one.waits_ms:.0f}" for one in rounds)
            yield f"  {method}, ms of waits: {waits}. Phases with them: " + ", ".join(
                f"{name} {median(values):.0f}" for name, values in _by_phase(rounds).items()
            )
        if any(one.spans for one in rounds):
            each = ", ".join(f"{one.once_low:.0f} to {one.once:.0f}" for one in rounds)
            yield f"  {method}, what two CPUs would take: {each}. Medians: " + ", ".join(
                f"{name} {span['once_low']:.0f} to {span['once']:.0f}" for name, span in _two_cpus(rounds)["spans"].items()
            )
        if any(one.beside_ms for one in rounds):
            beside, once = (", ".join(f"{value:.0f}" for value in values) for values in zip(*((one.beside_ms, one.once) for one in rounds)))
            yield f"  {method}, the restore beside systemd: {beside}. With two CPUs, what overlaps counted once: {once}"


def goals(counted: Counted) -> Iterator[tuple[bool, str]]:
    """(met, sentence). A goal without what it compares is missed."""
    for method, rounds in counted.rounds.items():
        totals = [one.total for one in rounds]
        met = len(totals) > 1 and spread(totals) <= SPREAD
        words = f"{spread(totals):.1%} apart" if len(totals) > 1 else "not measured twice"
        why = "" if met or len(totals) < 2 else f" ({restless(rounds)})"
        yield met, f"{method}: rounds within {SPREAD:.0%} of each other: {words}{why}"
    two, ours, theirs = (
        [one.once for one in counted.rounds.get(method, [])] for method in ("handoff_two_cpus", "handoff", "systemctl_kexec")
    )
    words = "not measured"
    if two or ours:
        words = f"{median(two or ours):.0f} million instructions, what overlaps on two CPUs counted once"
        words += f" ({'as measured on two' if two else 'a guess from one'})"
    yield bool(two or ours) and median(two or ours) <= GOAL_MINSN, f"handoff: {words}; wanted at most {GOAL_MINSN}"
    if not {"handoff", "systemctl_kexec"} <= set(counted.rounds):
        return
    ratio = median(ours) / median(theirs) if ours and theirs else None
    words = "not measured" if ratio is None else f"{ratio:.2f} of it"
    yield ratio is not None and ratio < GOAL_SHARE, f"handoff beside systemctl kexec: {words}, wanted below {GOAL_SHARE}"
