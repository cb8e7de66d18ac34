# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the time of a cycle went, across kexec: marks in cycles of a counter that runs through it.

The image brings the marks of the boot before (docs/image-format.md). This boot's own are clock readings, made cycles by two readings of
both: CLOCK_BOOTTIME begins at kernel_start, so kernel_start is a reading's cycles less its nanoseconds in cycles.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

# (mark at its end, what the phase is called), in the order of a cycle; each begins where the one before it ended.
PHASES = (
    ("stopping", "prepare (services up)"),
    ("units_stopped", "stop units"),
    ("saved", "save"),
    ("jump", "shut down the rest"),
    ("kernel_start", "kexec: purgatory, decompression"),
    ("userspace_start", "kernel and initrd"),
    ("restoring", "userspace until the restore"),
    ("restored", "restore"),
    ("units_starting", "other units before ours"),
    ("units_ready", "start units"),
    ("hot_added", "hot-add (services up)"),
)
UP = ("stopping", "hot_added")  # phases in which the services run: no part of the down time
_GAP = 1_000_000_000  # ns that two readings must lie apart to tell the frequency


def frequency(first: Optional[Mapping[str, Any]], second: Optional[Mapping[str, Any]]) -> int:
    """Cycles a second in this boot from two readings of counter and clock; their own word when they lie too close. 0: unknown."""
    if first and second:
        span = second["boottime_ns"] - first["boottime_ns"]
        if span >= _GAP and second["cycles"] > first["cycles"]:
            return (second["cycles"] - first["cycles"]) * 1_000_000_000 // span
    for one in (second, first):
        if one and one.get("cycles_per_second"):
            return int(one["cycles_per_second"])
    return 0


def marks_of(
    image: Mapping[str, Any], restored: Optional[Mapping[str, Any]], now: Optional[Mapping[str, Any]], times: Mapping[str, int]
) -> Dict[str, Any]:
    """``marks`` (name -> cycles) and ``cycles_per_second``; empty marks when the counter can't be had.

    image: the image of the restore, with its marks. restored: the restore's reading, at its end. now: a later one. times: further moments
    of this boot, name -> ns of CLOCK_BOOTTIME; a ``restored`` among them counts: units waited until then.
    """
    rate = frequency(restored, now)
    reading = now or restored
    if not rate or not reading:
        return {"marks": {}, "cycles_per_second": 0}
    start = reading["cycles"] - reading["boottime_ns"] * rate // 1_000_000_000
    marks = {name: int(cycles) for name, cycles in (image.get("marks") or {}).items()}
    # A counter that began again was no kexec: firmware reset it, and nothing spans the two boots.
    if any(cycles > start for cycles in marks.values()):
        marks = {}
    marks["kernel_start"] = start
    if restored:
        marks["restored"] = int(restored["cycles"])
    for name, at in times.items():
        marks[name] = start + at * rate // 1_000_000_000
    if marks.get("restored", start) < marks.get("userspace_start", start):
        marks.pop("restored")  # by an initrd, and no unit waited for it
    if marks.get("units_starting", 0) < marks.get("restored", 0):
        marks.pop("units_starting", None)  # a unit that uses no item was first: no phase begins there
    return {"marks": marks, "cycles_per_second": rate}


def phases(marks: Mapping[str, int], rate: int) -> List[Dict[str, Any]]:
    """name, mark, seconds, down (whether the services were down), in order. A phase whose begin or end is missing joins its neighbour."""
    found: List[Dict[str, Any]] = []
    before = marks.get("preflight")
    for mark, name in PHASES:
        if mark not in marks or not rate:
            continue
        if before is not None:
            found.append({"name": name, "mark": mark, "seconds": round((marks[mark] - before) / rate, 6), "down": mark not in UP})
        before = marks[mark]
    return found


def summary(marks: Mapping[str, int], rate: int) -> Dict[str, Any]:
    """phases, down_seconds (from the stop until the units are ready, or null), and slowest: the longest phase of the down time."""
    listed = phases(marks, rate)
    down: Optional[float] = None
    if "stopping" in marks and "units_ready" in marks and rate:
        down = round((marks["units_ready"] - marks["stopping"]) / rate, 6)
    slow = [phase for phase in listed if phase["down"]]
    return {
        "phases": listed,
        "down_seconds": down,
        "slowest": max(slow, key=lambda phase: phase["seconds"])["name"] if slow else None,
    }


def systemd_times(properties: Mapping[str, str]) -> Dict[str, float]:
    """Seconds that systemd's manager counts itself: firmware, loader, kernel, initrd, userspace. What it doesn't know is left out.

    Its *TimestampMonotonic properties are microseconds from the start of the kernel; firmware and loader count backwards from there.
    """
    stamps = {name: int(text) for name, text in properties.items() if text.isdigit()}
    initrd, user, end = (stamps.get(f"{name}TimestampMonotonic", 0) for name in ("InitRD", "Userspace", "Finish"))
    times = {name.lower(): stamps.get(f"{name}TimestampMonotonic", 0) / 1e6 for name in ("Firmware", "Loader")}
    times["kernel"] = (initrd or user) / 1e6
    if initrd:
        times["initrd"] = (user - initrd) / 1e6
    if end:
        times["userspace"] = (end - user) / 1e6
    return {name: round(seconds, 6) for name, seconds in times.items() if seconds > 0}


def lines(cycle: Mapping[str, Any]) -> List[str]:
    """A cycle for people."""
    timeline = cycle.get("timeline") or {}
    listed = timeline.get("phases") or []
    out = [f"boot {cycle.get('boot_id') or '?'}, from {cycle.get('boot_id_before') or '?'} by {cycle.get('method') or '?'}"]
    if not listed:
        return [*out, "no phases: there is no cycle counter, or the cycle did not go through kexec"]
    width = max(len(phase["name"]) for phase in listed)
    slowest = timeline.get("slowest")
    for phase in listed:
        note = "  <- slowest" if phase["name"] == slowest and phase["down"] else ""
        out.append(f"  {phase['name']:<{width}}  {phase['seconds']:9.3f} s{'' if phase['down'] else '  (up)'}{note}")
    if timeline.get("down_seconds") is not None:
        out.append(f"  {'down, stop to ready':<{width}}  {timeline['down_seconds']:9.3f} s")
    systemd = timeline.get("systemd") or {}
    if systemd:
        out.append("  systemd says: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in systemd.items()))
    return out
