# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the events of a rollout become on a screen or in a log."""

from __future__ import annotations

import os
import sys

import pytest
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import words
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.progress import Progress
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.screen import in_place

NOW = 1_800_000_000.0
STATE = {"name": "nightly", "run": "R1", "batch": 1, "of": 3, "done": 0, "failed": 0, "left": 6}


def texts(event, state=None, progress=None, now=NOW):
    return [line.text for line in (progress or Progress()).apply(event, state, now)]


PLANNED = {
    "event": "run_planned",
    "run": "R1",
    "batches": [["a"], ["b", "c"], ["d", "e", "f"]],
    "expected_seconds": 260,
    "refused": {"x": "kexec is not installed.\nRun: apt install kexec-tools"},
    "unreachable": {"y": "Connection refused"},
    "left_out": {"z": "same kernel"},
}


def test_the_plan_names_whom_it_refuses_and_why():
    shown = texts(PLANNED, STATE)
    assert shown[0] == "rollout nightly begins: 6 hosts in 3 batches (1, 2, 3), about 4 min; run R1"
    assert shown[1:4] == ["x: refused", "    kexec is not installed.", "    Run: apt install kexec-tools"]
    assert shown[4:] == ["y: does not answer: Connection refused", "left out: z"]
    assert texts({**PLANNED, "event": "run_resumed"}, STATE)[0].startswith("rollout nightly goes on: 6 hosts")


@pytest.mark.parametrize(
    ("event", "expected", "tones"),
    [
        ({"event": "batch_begun", "batch": 2, "of": 3, "hosts": ["b", "c"]}, ["batch 2 of 3: b, c"], ["plain"]),
        ({"event": "batch_begun", "batch": 3, "of": 3, "hosts": [f"n{n}" for n in range(12)]},
         ["batch 3 of 3: n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more"], ["plain"]),
        ({"event": "host_begun", "host": "b", "kernel": "6.1", "expected_down_seconds": 2.5},
         ["b: begins (kernel 6.1, expected down time 2.50 s)"], ["plain"]),
        ({"event": "host_phase", "host": "b", "phase": "handoff"}, ["b: handoff"], ["plain"]),
        ({"event": "host_drained", "host": "b", "hook": "haproxy"}, ["b: drained by haproxy"], ["plain"]),
        ({"event": "hook", "host": "b", "point": "before_host", "name": "silence", "outcome": "passed"},
         ["b: hook silence at before_host: passed"], ["plain"]),
        ({"event": "hook", "host": "b", "point": "before_host", "name": "quorum", "outcome": "vetoed", "msg": "2 of 3 are up"},
         ["b: hook quorum at before_host: vetoed: 2 of 3 are up"], ["bad"]),
        ({"event": "hook", "host": None, "point": "before_run", "name": "mail", "outcome": "ignored", "msg": "one\ntwo"},
         ["hook mail at before_run: ignored", "    one", "    two"], ["warn"] * 3),
        ({"event": "host_ended", "host": "b", "outcome": "kept", "seconds": 41, "down_seconds": 2.345, "kernel": "6.1"},
         ["b: kept, 41 s, down 2.35 s, kernel 6.1"], ["good"]),
        ({"event": "host_ended", "host": "b", "outcome": "cold", "msg": "the image is damaged", "next": "hotpmem-node outcome"},
         ["b: cold", "    the image is damaged", "    next: hotpmem-node outcome"], ["warn"] * 3),
        ({"event": "host_ended", "host": "b", "outcome": "failed", "msg": "one\ntwo", "next": "do this", "warnings": ["slow"]},
         ["b: FAILED", "    one", "    two", "    next: do this", "b: warning: slow"], ["bad"] * 4 + ["warn"]),
        ({"event": "budget_spent", "kind": "failure", "count": 1, "allowed": 1, "hosts": ["b"]},
         ["the failure budget is spent: 1 of 1 (b)", "    What is under way ends, then the run stops.",
          '    next: ansible-playbook hotpmem.fleet.rollout_clear -e reason="..."'], ["bad"] * 3),
        ({"event": "run_stopped", "reason": "window", "msg": "the window is closed", "next": "run it again at 22:00"},
         ["the run stops (window): the window is closed", "    next: run it again at 22:00"], ["bad"] * 2),
        ({"event": "run_ended", "counts": {"kept": 5, "cold": 0, "failed": 1}},
         ["rollout default ended after 00:00: 5 kept, 1 failed"], ["plain"]),
        ({"event": "of_tomorrow", "host": "b"}, [], []),
        ({}, [], []),
    ],
)  # fmt: skip
def test_events(event, expected, tones):
    lines = Progress().apply(event, None, NOW)
    assert [line.text for line in lines] == expected and [line.tone for line in lines] == tones


def test_what_a_screen_shows_anyway_is_a_step():
    quiet = ["host_begun", "host_phase", "host_drained", "host_undrained"]
    assert all(line.step for name in quiet for line in Progress().apply({"event": name, "host": "a", "phase": "drain"}, None, NOW))
    assert not any(line.step for line in Progress().apply(PLANNED, STATE, NOW))


@pytest.mark.parametrize("key", ["msg", "next", "kernel"])
def test_a_host_cannot_write_to_the_terminal(key):
    shown = texts({"event": "host_ended", "host": "a\x1b[2J", "outcome": "failed", key: "\x1b]0;title\x07\x9b31m\r"})
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for line in shown for character in line)
    assert any("\\x1b]0;title\\x07\\x9b31m\\x0d" in line for line in shown)


def test_the_region_says_where_each_host_is():
    progress = Progress()
    texts(PLANNED, STATE, progress)
    for host in ("b", "c"):
        texts({"event": "host_begun", "host": host}, {**STATE, "batch": 2, "done": 1, "left": 5}, progress, NOW + 10)
    texts({"event": "host_phase", "host": "c", "phase": "handoff"}, None, progress, NOW + 40)
    assert progress.region(NOW + 60, 80, 24) == [
        "rollout nightly  batch 2 of 3  [###-----------------] 1 of 6 hosts, 0 failed",
        "  elapsed 01:00, about 5 min left",
        "  b  begin       00:50  host   00:50",
        "  c  handoff     00:20  host   00:50",
    ]
    assert all(len(line) < 40 for line in progress.region(NOW + 60, 40, 24))
    assert progress.region(NOW + 60, 80, 3)[2] == "  2 more; all under way: 1 begin, 1 handoff"


@pytest.mark.parametrize(
    ("state", "now", "left"),
    [
        ({"done": 2, "left": 4, "expected_end": "2027-01-15T08:05:00Z"}, NOW + 60, "about 4 min left"),
        # The plan is over: the pace counts.
        ({"done": 2, "left": 4, "expected_end": "2027-01-15T08:00:01+00:00"}, NOW + 100, "about 3 min left"),
        ({"done": 0, "left": 4, "expected_end": "2027-01-15T08:00:00"}, NOW + 100, "2 min over the plan"),
        ({"done": 0, "left": 4, "expected_end": "soon"}, NOW + 100, ""),
        ({"done": 6, "left": 0}, NOW + 100, ""),
    ],
)
def test_time_left(state, now, left):
    progress = Progress()
    texts({"event": "batch_begun", "hosts": []}, {**STATE, **state}, progress)
    assert progress.time_left(now) == left


def calls_for(hosts: int) -> tuple[int, int]:
    """How many functions are called, and how many lines are printed, for a rollout of so many hosts in four batches."""
    calls = printed = 0

    def count(_frame, what, _argument):
        nonlocal calls
        calls += what in ("call", "c_call")

    names = [f"node{number}" for number in range(hosts)]
    size = hosts // 4
    batches = [names[at : at + size] for at in range(0, hosts, size)]
    progress = Progress()
    sys.setprofile(count)
    try:
        printed += len(progress.apply({"event": "run_planned", "batches": batches}, {"left": hosts, "of": 4}, NOW))
        for batch in batches:
            for event in ("host_begun", "host_phase", "host_phase", "host_ended"):
                for name in batch:
                    printed += len(progress.apply({"event": event, "host": name, "phase": event, "outcome": "kept"}, {"done": 1}, NOW))
                    progress.region(NOW, 80, 24)
    finally:
        sys.setprofile(None)
    return calls, printed


def test_a_host_costs_the_same_in_a_fleet_of_any_size():
    (small, few), (large, many) = calls_for(200), calls_for(2000)
    assert many <= 10 * few and large < 12 * small


@pytest.mark.parametrize(
    ("environment", "wanted", "expected"),
    [
        ({"TERM": "xterm"}, "auto", True),
        ({"TERM": "xterm"}, "lines", False),
        ({"TERM": "dumb"}, "auto", False),
        ({}, "auto", False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "auto", False),
        ({"TERM": "xterm", "CI": "true"}, "auto", False),
    ],
)
def test_where_lines_change_in_place(environment, wanted, expected):
    parent, child = os.openpty()
    try:
        assert in_place(child, environment, wanted) is expected
    finally:
        os.close(parent)
        os.close(child)
    with open(os.devnull, "wb") as file:
        assert not in_place(file.fileno(), environment, wanted)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.421, "0.42 s"), (12.34, "12.3 s"), (310.4, "310 s"), (None, "-"), (float("nan"), "-"), (True, "-")]
)
def test_short(seconds, text):
    assert words.short(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (240, "4 min"), (7800, "2 h 10 min"), (7200, "2 h")])
def test_about(seconds, text):
    assert words.about(seconds) == text
