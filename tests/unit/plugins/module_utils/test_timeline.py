# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline: arithmetic on cycles, checked against a cycle whose every moment is known."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._image import timeline as tl

RATE = 2_000_000_000
START = 500 * RATE  # the counter when the new kernel's clock begins


def at(seconds):
    """A reading, seconds after the kernel's start."""
    return {"cycles": START + round(seconds * RATE), "boottime_ns": round(seconds * 1e9), "cycles_per_second": 0}


OLD = {"preflight": -30.0, "stopping": -10.0, "units_stopped": -9.5, "saved": -9.3, "jump": -7.0}
IMAGE = {"marks": {name: START + round(seconds * RATE) for name, seconds in OLD.items()}, "cycles_per_second": RATE}
TIMES = {"userspace_start": 3_000_000_000, "units_starting": 5_750_000_000, "units_ready": 6_000_000_000, "hot_added": 20_000_000_000}


def test_a_whole_cycle():
    found = tl.marks_of(IMAGE, at(5.0), at(21.0), TIMES)
    assert found["cycles_per_second"] == RATE and found["marks"]["kernel_start"] == START
    told = tl.summary(found["marks"], RATE)
    assert [(phase["mark"], phase["seconds"], phase["down"]) for phase in told["phases"]] == [
        ("stopping", 20.0, False),
        ("units_stopped", 0.5, True),
        ("saved", 0.2, True),
        ("jump", 2.3, True),
        ("kernel_start", 7.0, True),
        ("userspace_start", 3.0, True),
        ("restored", 2.0, True),
        ("units_starting", 0.75, True),
        ("units_ready", 0.25, True),
        ("hot_added", 14.0, False),
    ]
    assert told["down_seconds"] == 16.0 == sum(phase["seconds"] for phase in told["phases"] if phase["down"])
    assert told["slowest"] == "kexec: purgatory, decompression"
    text = tl.lines({"boot_id": "b", "boot_id_before": "a", "method": "systemd", "timeline": {**told, "systemd": {"kernel": 2.5}}})
    assert text[0] == "boot b, from a by systemd"
    assert any("7.000 s  <- slowest" in line for line in text) and text[-1] == "  measured by systemd: kernel 2.500 s"
    assert any(line.endswith("20.000 s  (up)") for line in text) and any(
        "down, stop to ready" in line and "16.000" in line for line in text
    )


def test_a_unit_that_did_not_wait_for_the_restore_begins_no_phase():
    marks = tl.marks_of(IMAGE, at(5.0), at(21.0), dict(TIMES, units_starting=4_000_000_000))["marks"]
    told = tl.summary(marks, RATE)
    assert next(phase["seconds"] for phase in told["phases"] if phase["mark"] == "units_ready") == 1.0


def test_what_an_initrd_restored_is_no_phase():
    """Units waited for what their restore unit took, not for the restore that ended long before."""
    waited = dict(TIMES, restoring=5_250_000_000, restored=5_500_000_000)
    told = tl.summary(tl.marks_of(IMAGE, at(3.5), at(21.0), waited)["marks"], RATE)
    listed = {phase["mark"]: phase["seconds"] for phase in told["phases"]}
    assert (listed["restoring"], listed["restored"], listed["units_starting"]) == (2.25, 0.25, 0.25)
    assert told["down_seconds"] == 16.0 == sum(phase["seconds"] for phase in told["phases"] if phase["down"])
    told = tl.summary(tl.marks_of(IMAGE, at(2.5), at(21.0), TIMES)["marks"], RATE)
    listed = {phase["mark"]: phase["seconds"] for phase in told["phases"]}
    assert "restored" not in listed and listed["units_starting"] == 2.75


def test_a_missing_mark_joins_its_neighbour():
    marks = tl.marks_of(IMAGE, at(5.0), at(21.0), TIMES)["marks"]
    del marks["jump"]
    told = tl.summary(marks, RATE)
    assert next(phase["seconds"] for phase in told["phases"] if phase["mark"] == "kernel_start") == 9.3
    assert told["down_seconds"] == 16.0


@pytest.mark.parametrize(
    "late",
    [
        {"saved": 22.0},  # the counter reads less now than then
        {"saved": 22.0, "jump": 22.1},
        {"saved": 3.0},  # it has passed that value again, and no jump to this kernel was marked
        {"saved": 0.001},
        {"saved": 3.0, "jump": 3.1},  # a jump that this kernel does not come from
    ],
)
def test_a_counter_that_began_again_spans_nothing(late):
    image = {"marks": {name: START + round(seconds * RATE) for name, seconds in {"stopping": -1.0, **late}.items()}}
    found = tl.marks_of(image, at(5.0), at(21.0), TIMES)
    assert found["counter_restarted"] and found["clock_correction_ms"] == 0
    told = tl.summary(found["marks"], RATE)
    assert "saved" not in found["marks"] and told["down_seconds"] is None
    assert any("the cycle counter started again" in line for line in tl.lines({"timeline": {**found, **told}}))


@pytest.mark.parametrize("early_ms, restored", [(1.3, 5.0), (1.3, None), (40.0, 5.0)])
def test_clocks_that_disagree_keep_the_timeline(early_ms, restored):
    """CLOCK_BOOTTIME runs a little fast here, so that the kernel seems to have started before the jump to it."""
    jump = START + round(early_ms / 1000 * RATE)
    image = {"marks": {**IMAGE["marks"], "jump": jump}}
    found = tl.marks_of(image, restored and {**at(restored), "cycles_per_second": RATE}, {**at(21.0), "cycles_per_second": RATE}, TIMES)
    assert found["marks"]["kernel_start"] == jump and not found["counter_restarted"]
    assert found["clock_correction_ms"] == early_ms
    told = tl.summary(found["marks"], RATE)
    assert told["down_seconds"] == 16.0
    assert all(phase["seconds"] >= 0 for phase in told["phases"])
    assert any(f"{early_ms:.3f} ms before the jump" in line for line in tl.lines({"timeline": {**found, **told}}))


def test_no_correction_is_told_when_there_is_none():
    found = tl.marks_of(IMAGE, at(5.0), at(21.0), TIMES)
    assert (found["clock_correction_ms"], found["counter_restarted"]) == (0, False)
    text = "\n".join(tl.lines({"timeline": {**found, **tl.summary(found["marks"], RATE)}}))
    assert "jump" not in text and "counter" not in text


def test_the_down_time_of_each_unit():
    ready = {"db.service": 4.0, "cache.service": 6.0, "backup.service": 0}
    found = tl.marks_of(IMAGE, at(5.0), at(21.0), TIMES)
    told = tl.summary(found["marks"], RATE)
    units = tl.unit_times({name: round(seconds * 1e9) for name, seconds in ready.items()}, found["marks"], RATE)
    assert units == [
        {"unit": "db.service", "down_seconds": 14.0, "ready": True},
        {"unit": "cache.service", "down_seconds": 16.0, "ready": True},
        {"unit": "backup.service", "down_seconds": None, "ready": False},
    ]
    text = "\n".join(tl.lines({"timeline": {**found, **told, "units": units}}))
    assert "down, stop to ready" in text and "db.service" in text and "14.000 s" in text
    assert "left out: backup.service was not ready" in text
    # Without the mark of the stop, or with one unit, there is nothing more to say.
    del found["marks"]["stopping"]
    assert tl.unit_times({"db.service": 4_000_000_000}, found["marks"], RATE)[0]["down_seconds"] is None
    text = tl.lines({"timeline": {**told, "units": units[:1]}})
    assert not any("db.service" in line for line in text)


def test_no_unit_is_ready():
    times = {name: at for name, at in TIMES.items() if not name.startswith("units")}
    found = tl.marks_of(IMAGE, at(5.0), at(21.0), times)
    assert tl.unit_times({"a.service": 0}, found["marks"], RATE) == [{"unit": "a.service", "down_seconds": None, "ready": False}]


@pytest.mark.parametrize(
    "first, second, rate",
    [
        (at(5), at(21), RATE),
        (at(5), at(5.5), 0),
        (at(5), dict(at(5.5), cycles_per_second=7), 7),
        (dict(at(5), cycles_per_second=9), None, 9),
        (None, None, 0),
        (at(21), at(5), 0),
    ],
)
def test_frequency(first, second, rate):
    assert tl.frequency(first, second) == rate


def test_without_a_counter():
    found = tl.marks_of({}, None, None, TIMES)
    assert (found["marks"], found["cycles_per_second"], found["counter_restarted"]) == ({}, 0, False)
    assert tl.summary({}, 0) == {"phases": [], "down_seconds": None, "slowest": None}
    assert "no phases: the host has no usable cycle counter" in tl.lines({"timeline": {}})[1]


def test_systemd_times():
    printed = {
        "FirmwareTimestampMonotonic": "0",
        "LoaderTimestampMonotonic": "0",
        "InitRDTimestampMonotonic": "1500000",
        "UserspaceTimestampMonotonic": "4000000",
        "FinishTimestampMonotonic": "9250000",
    }
    assert tl.systemd_times(printed) == {"kernel": 1.5, "initrd": 2.5, "userspace": 5.25}
    assert tl.systemd_times({**printed, "InitRDTimestampMonotonic": "0", "FinishTimestampMonotonic": "0"}) == {"kernel": 4.0}
    assert tl.systemd_times({}) == {}
