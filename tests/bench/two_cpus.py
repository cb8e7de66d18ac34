# SPDX-License-Identifier: GPL-3.0-or-later
"""What two real CPUs would take for what an emulator that counts instructions ran on two CPUs in turns. Touches no machine.

The clock of that machine is the sum of both CPUs' instructions, and idle time. While one CPU is busy, the clock counts what it does. While
both are busy, each did a part of what the clock counts; at the same time, that takes as long as the larger part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MEBI = 1_000_000
# Of a trace with trace_clock=x86-tsc: CPU, flags, cycles, and the process that the CPU turns to.
_SWITCH = re.compile(r"\[(\d+)\] +\S+ +(\d+): sched_switch: .* next_pid=(\d+) ")
_ENTRIES = re.compile(r"entries-in-buffer/entries-written: (\d+)/(\d+) ")


@dataclass(frozen=True)
class Spans:
    """Millions of instructions in which no CPU was busy, one, or both."""

    idle: float
    one: float
    both: float

    def once(self, share: float) -> float:
        """What two CPUs would take, without waits. share: the busier CPU's part of what both did; 0.5 is the least it can be."""
        return self.one + share * self.both


@dataclass(frozen=True)
class Switch:
    """At that count of cycles, the CPU turned to a process, or became idle."""

    cycles: int
    cpu: int
    idle: bool


def switches(trace: Iterable[str]) -> list[Switch]:
    """The switches of a trace (/sys/kernel/tracing/trace with sched:sched_switch). Raises ValueError when the kernel dropped some."""
    found = []
    for line in trace:
        if match := _SWITCH.search(line):
            found.append(Switch(int(match[2]), int(match[1]), match[3] == "0"))
        elif (kept := _ENTRIES.search(line)) and kept[1] != kept[2]:
            raise ValueError(f"the trace of the boot has only {kept[1]} of {kept[2]} events; its buffer is too small")
    if not found:
        raise ValueError("the trace of the boot has no sched_switch")
    return sorted(found, key=lambda switch: switch.cycles)


def spans(found: Sequence[Switch], begin: int, end: int) -> Spans:
    """How busy both CPUs were between these two counts of cycles of one boot.

    Until its first switch, CPU 0 is busy with the start of the kernel, and CPU 1 has not started.
    """
    idle = {0: False, 1: True}
    cycles = [0, 0, 0]
    now = begin
    for switch in found:
        if switch.cycles >= end:
            break
        if switch.cycles > now:
            cycles[list(idle.values()).count(False)] += switch.cycles - now
            now = switch.cycles
        idle[switch.cpu] = switch.idle
    cycles[list(idle.values()).count(False)] += end - now
    none, one, both = (round(value / MEBI, 3) for value in cycles)
    return Spans(none, one, both)


def boot_spans(trace: Iterable[str], marks: Mapping[str, int], phases: Mapping[str, str]) -> dict[str, Spans]:
    """The spans of each phase from kernel_start on. phases: by the mark at their end, in their order."""
    found = switches(trace)
    names = [mark for mark in phases if mark in marks]
    names = names[names.index("kernel_start") :]
    return {phases[end]: spans(found, marks[begin], marks[end]) for begin, end in zip(names, names[1:])}


def save_spans(minsn: float, elapsed_ms: float, cpu_ms: float) -> Spans:
    """The spans of the phase of the save, which is not traced. elapsed_ms, cpu_ms: of the same save by itself.

    While both CPUs are busy, the clock and with it the CPU time of each thread go on for both. So that time is in cpu_ms twice.
    """
    both = min(max(cpu_ms - elapsed_ms, 0.0), minsn)
    return Spans(0.0, round(minsn - both, 3), round(both, 3))


def busier(counts: Sequence[int]) -> float:
    """The part of the busier CPU, from how far each came with the same loop in the same time."""
    return max(counts) / sum(counts)
