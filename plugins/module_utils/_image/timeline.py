# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes the duration of each phase of a cycle, from marks on both sides of the kexec.

A mark is a value of the CPU's cycle counter, which continues to count during kexec. The marks of the
previous boot are in the image (docs/image-format.md). The marks of this boot are CLOCK_BOOTTIME
values (clock_gettime(2)). A reading of both clocks converts them to cycles. CLOCK_BOOTTIME starts at
kernel_start, so kernel_start is the cycles of a reading minus its nanoseconds in cycles.

That kernel_start has an error: CLOCK_BOOTTIME is steered by NTP, while the counter is not. adjtimex(2)
allows 500 ppm, and a clock daemon may go further by changing the tick. An emulator may also count
cycles by another clock. So kernel_start may lie a little before the jump, which really came first.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from .huge_pages import words

# (the mark at the end of the phase, the name of the phase), in the order of a cycle. A phase starts
# where the previous phase ends.
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
UP = ("stopping", "hot_added")  # phases in which the services run: they do not count as down time
_STEADY_NS = 10_000_000  # error of kernel_start that does not depend on the age of a reading
_DRIFT = 100  # and that of 1 in so many ns of CLOCK_BOOTTIME at the reading
_MOST_NS = 1_000_000_000  # together at most this: between two resets a boot has to get to its handoff
_GAP = 1_000_000_000  # minimum ns between two readings, to compute the frequency from them


def frequency(first: Optional[Mapping[str, Any]], second: Optional[Mapping[str, Any]]) -> int:
    """Return the frequency of the cycle counter in this boot, in cycles per second, or 0 when it is
    unknown.

    first, second: readings of the counter and the clock. When they are too close together, the
    frequency that a reading itself contains is used.
    """
    if first and second:
        span: int = second["boottime_ns"] - first["boottime_ns"]
        cycles: int = second["cycles"] - first["cycles"]
        if span >= _GAP and cycles > 0:
            return cycles * 1_000_000_000 // span
    for one in (second, first):
        if one and one.get("cycles_per_second"):
            return int(one["cycles_per_second"])
    return 0


def marks_of(
    image: Mapping[str, Any], restored: Optional[Mapping[str, Any]], now: Optional[Mapping[str, Any]], times: Mapping[str, int]
) -> Dict[str, Any]:
    """Return ``marks`` (name -> cycles), ``cycles_per_second``, ``counter_restarted`` and
    ``clock_correction_ms``.

    The marks are empty without a usable counter. counter_restarted: firmware reset the host, so the
    marks of the previous boot were left out. clock_correction_ms: kernel_start was this long before the
    jump, and was set to the jump; normally 0.

    image: the restored image, with the marks of the previous boot. restored: the reading at the end of
    the restore. now: a later reading. times: further marks of this boot, name -> ns of CLOCK_BOOTTIME.
    A ``restored`` in times replaces that of the reading, because the units waited until then.
    """
    rate = frequency(restored, now)
    reading = now or restored
    if not rate or not reading:
        return {"marks": {}, "cycles_per_second": 0, "counter_restarted": False, "clock_correction_ms": 0.0}
    start = reading["cycles"] - reading["boottime_ns"] * rate // 1_000_000_000
    marks = {name: int(cycles) for name, cycles in (image.get("marks") or {}).items()}
    last = max(marks.values(), default=0)
    early = max(last - start, 0)
    restarted = last > reading["cycles"] or early > _most_early(marks, (restored or reading)["boottime_ns"], rate)
    if restarted:
        # Firmware reset the host. No phase can span the two boots.
        marks, early = {}, 0
    marks["kernel_start"] = start + early
    if restored:
        marks["restored"] = int(restored["cycles"])
    for name, at in times.items():
        marks[name] = start + at * rate // 1_000_000_000
    if marks.get("restored", start) < marks.get("userspace_start", start):
        marks.pop("restored", None)  # an initrd restored the items, and no unit waited for it
    if marks.get("units_starting", 0) < marks.get("restored", 0):
        marks.pop("units_starting", None)  # the first unit uses no item, so no phase starts there
    return {
        "marks": marks,
        "cycles_per_second": rate,
        "counter_restarted": restarted,
        "clock_correction_ms": round(early * 1000 / rate, 3),
    }


def _most_early(marks: Mapping[str, int], age: int, rate: int) -> int:
    """Return how many cycles kernel_start may lie before the last mark of the previous boot.

    age: ns of CLOCK_BOOTTIME at the reading. A kernel that nothing jumped to may not lie before it at all.
    """
    return min(_STEADY_NS + age // _DRIFT, _MOST_NS) * rate // 1_000_000_000 if "jump" in marks else 0


def phases(marks: Mapping[str, int], rate: int) -> List[Dict[str, Any]]:
    """Return the phases in order, as dicts of name, mark, seconds and down (True while the services
    are down).

    rate: cycles per second. A phase whose start or end mark is missing is merged with the next phase.
    """
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
    """Return phases, down_seconds and slowest. rate: cycles per second.

    down_seconds: from the stop of the units until they are ready, or None when a mark is missing.
    slowest: the name of the longest phase in the down time, or None.
    """
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


def unit_times(ready: Mapping[str, int], marks: Mapping[str, int], rate: int) -> List[Dict[str, Any]]:
    """Return ``unit``, ``ready`` and ``down_seconds`` of each unit, in the order of ready.

    ready: unit -> ns of CLOCK_BOOTTIME when systemd called it active, or 0 when it did not. That is so
    for a oneshot service, which is never active, and for a unit that failed. marks: with ``units_ready``,
    the last of these times. rate: cycles per second. down_seconds: from the stop of the units until this
    one was ready, or None when one of the two is unknown.
    """
    last = max(ready.values(), default=0)
    known = rate and "stopping" in marks and "units_ready" in marks
    whole = (marks["units_ready"] - marks["stopping"]) / rate if known else None
    return [
        {"unit": unit, "ready": bool(at), "down_seconds": round(whole - (last - at) / 1e9, 6) if at and whole is not None else None}
        for unit, at in ready.items()
    ]


def through_firmware(method: Optional[str]) -> bool:
    """True when firmware led to the boot after a save. method: as the record of the save names it."""
    return method == "firmware" or "(reboot)" in str(method)


def systemd_times(properties: Mapping[str, str]) -> Dict[str, float]:
    """Return the seconds of firmware, loader, kernel, initrd and userspace, as systemd measured them.

    Unknown parts are left out. properties: the *TimestampMonotonic properties of the manager
    (org.freedesktop.systemd1(5)), in microseconds from the start of the kernel. Those of firmware and
    loader count backwards from it.
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
    """Return a cycle as lines of text for an operator."""
    timeline = cycle.get("timeline") or {}
    listed = timeline.get("phases") or []
    out = [f"boot {cycle.get('boot_id') or '?'}, from {cycle.get('boot_id_before') or '?'} by {cycle.get('method') or '?'}"]
    if not listed:
        return [*out, "no phases: the host has no usable cycle counter, or the cycle did not use kexec"]
    width = max(len(phase["name"]) for phase in listed)
    slowest = timeline.get("slowest")
    for phase in listed:
        note = "  <- slowest" if phase["name"] == slowest and phase["down"] else ""
        out.append(f"  {phase['name']:<{width}}  {phase['seconds']:9.3f} s{'' if phase['down'] else '  (up)'}{note}")
    if timeline.get("down_seconds") is not None:
        out.append(f"  {'down, stop to ready':<{width}}  {timeline['down_seconds']:9.3f} s")
    units = timeline.get("units") or []
    if len(units) > 1:
        out += [f"    {one['unit']:<{width - 2}}  {one['down_seconds']:9.3f} s" for one in units if one["down_seconds"] is not None]
    if cycle.get("prepare"):
        out.append(f"  before the stop: {words(cycle['prepare'])}")
    missing = [one["unit"] for one in units if not one["ready"]]
    if missing:
        out.append(f"  left out: {', '.join(missing)} {'was' if len(missing) == 1 else 'were'} not ready at the hot-add")
    if timeline.get("counter_restarted"):
        out.append("  the cycle counter started again (a reset through firmware), so nothing is known of the time before the kernel")
    if timeline.get("clock_correction_ms"):
        out.append(
            f"  the clock put the start of the kernel {timeline['clock_correction_ms']:.3f} ms before the jump; the jump was taken instead"
        )
    systemd = timeline.get("systemd") or {}
    if systemd:
        out.append("  measured by systemd: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in systemd.items()))
    return out
