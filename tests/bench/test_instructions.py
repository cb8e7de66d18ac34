# SPDX-License-Identifier: GPL-3.0-or-later
"""What instructions.py makes of a cycle, of journals and of the kernel's messages."""

from __future__ import annotations

import dataclasses
import json
from xml.etree import ElementTree

import pytest
from downtime_report import STARTED, STOPPING
from instructions_chart import svg
from instructions_report import (
    Counted,
    Round,
    as_json,
    beside_ms,
    goals,
    handoff_phases,
    kernel_steps,
    plain_phases,
    restless,
    spread,
    stopped_at,
    table,
    waits_ms,
)
from two_cpus import Spans, boot_spans, busier, save_spans, switches

UNIT = "memcached.service"


def test_phases_of_a_handoff_are_counted_in_cycles() -> None:
    marks = {"preflight": 1, "stopping": 10_000_000, "units_stopped": 57_000_000, "saved": 358_000_000, "jump": 381_000_000}
    after = {"kernel_start": 381_500_000, "userspace_start": 1_450_000_000, "restoring": 2_000_000_000, "units_ready": 2_500_000_000}
    phases = handoff_phases({"timeline": {"marks": {**marks, **after, "hot_added": 9_000_000_000}}})
    assert phases == {"stop": 47, "save": 301, "shutdown": 23, "kexec": 0.5, "kernel": 1068.5, "userspace": 550, "start": 500}
    assert Round(phases).total == 2490


def test_phases_of_a_plain_boot_span_two_boots() -> None:
    before = {"cycles": 5_000_000_000, "boottime_ns": 4_000_000_000}  # the kernel before started at 1,000 million
    after = {"cycles": 20_000_000_000, "boottime_ns": 12_000_000_000}  # this one at 8,000 million
    phases = plain_phases(before, 6_000_000, after, 1_500_000, 3_250_000)
    assert phases == {"shutdown": 1000, "kernel": 1500, "userspace": 1750}


def test_the_last_stop_in_the_journal_counts() -> None:
    entries = [
        {"MESSAGE_ID": STOPPING, "UNIT": UNIT, "__MONOTONIC_TIMESTAMP": "5"},
        {"MESSAGE_ID": STARTED, "UNIT": UNIT, "__MONOTONIC_TIMESTAMP": "6"},
        {"MESSAGE_ID": STOPPING, "UNIT": UNIT, "_SOURCE_MONOTONIC_TIMESTAMP": "7", "__MONOTONIC_TIMESTAMP": "8"},
        {"MESSAGE_ID": STOPPING, "UNIT": "other.service", "__MONOTONIC_TIMESTAMP": "9"},
    ]
    lines = [*map(json.dumps, entries), ""]
    assert stopped_at(lines, STOPPING, UNIT) == 7
    assert stopped_at(lines[:1], STOPPING, UNIT) == 5
    with pytest.raises(ValueError, match="does not say when"):
        stopped_at(lines[1:2], STOPPING, UNIT)


def test_the_restore_beside_systemd_is_in_the_log_of_the_initrd() -> None:
    said = "cache restored\nin this CPU time:\n0m0.020000s 0m0.030000s\n0m0.110000s 1m0.250000s\n"
    assert beside_ms(said) == 60410
    assert beside_ms("the initrd left the restore to this unit: it has no device\n") == 0


def test_what_overlaps_counts_once() -> None:
    phases = {"save": 300.0, "userspace": 1300.0, "start": 200.0}
    assert Round(phases, 100, 400).total == 1700 and Round(phases, 100, 400).once == 1300
    # Systemd is done before the restore is: only as much as it did overlaps.
    assert Round(phases, 100, 1000).once == 1400
    assert Round(phases, 100).once == 1700
    rounds = Counted(256)
    rounds.rounds["handoff"] = [Round(phases, 100, 400), Round(phases, 100, 410)]
    made = as_json(rounds)["handoff"]
    assert made["beside_minsn"] == [400, 410] and made["once_minsn"] == [1300, 1290]
    assert "  handoff, the restore beside systemd: 400, 410. With two CPUs, what overlaps counted once: 1300, 1290" in table(rounds)


# Linux 6.1, shortened. CPU 0 is the kernel's start until 100 million, then idle; CPU 1 begins at 150, CPU 0 goes on at 200.
TRACE = """# tracer: nop
#
# entries-in-buffer/entries-written: 6/6   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
          <idle>-0       [000] d..2. 90000000: sched_switch: prev_comm=swapper/0 prev_pid=0 prev_prio=120 prev_state=R ==> \
next_comm=swapper/0 next_pid=1 next_prio=120
         systemd-1       [000] d..2. 100000000: sched_switch: prev_comm=swapper/0 prev_pid=1 prev_prio=120 prev_state=D ==> \
next_comm=swapper/0 next_pid=0 next_prio=120
          <idle>-0       [001] d..2. 150000000: sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> \
next_comm=cpuhp/1 next_pid=19 next_prio=120
          <idle>-0       [000] d..2. 200000000: sched_switch: prev_comm=swapper/0 prev_pid=0 prev_prio=120 prev_state=R ==> \
next_comm=swapper/0 next_pid=1 next_prio=120
         cpuhp/1-19      [001] d..2. 260000000: sched_switch: prev_comm=cpuhp/1 prev_pid=19 prev_prio=120 prev_state=S ==> \
next_comm=swapper/1 next_pid=0 next_prio=120
          <idle>-0       [001] d..2. 290000000: sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> \
next_comm=a =b next_pid=70 next_prio=120
"""
MARKS = {"saved": 1, "kernel_start": 20_000_000, "userspace_start": 220_000_000, "units_ready": 300_000_000, "hot_added": 900_000_000}


def test_a_trace_says_how_busy_two_cpus_were() -> None:
    found = boot_spans(
        TRACE.splitlines(), MARKS, {"saved": "save", "kernel_start": "kexec", "userspace_start": "kernel", "units_ready": "start"}
    )
    assert found == {"kernel": Spans(idle=50, one=130, both=20), "start": Spans(idle=0, one=30, both=50)}
    assert found["start"].once(0.5) == 55 and found["start"].once(0.62) == pytest.approx(61)


def test_a_trace_that_lost_events_is_refused() -> None:
    with pytest.raises(ValueError, match="only 6 of 9 events"):
        switches(TRACE.replace("6/6", "6/9").splitlines())
    with pytest.raises(ValueError, match="no sched_switch"):
        switches(TRACE.splitlines()[:6])


def test_the_cpu_time_of_a_save_has_what_both_did_twice() -> None:
    assert save_spans(304, 300, 580) == Spans(idle=0, one=24, both=280)
    assert save_spans(304, 300, 299) == Spans(idle=0, one=304, both=0)
    assert save_spans(304, 300, 900).one == 0


def test_two_cpus_are_reported_as_a_range() -> None:
    assert busier([60, 40]) == busier([40, 60]) == 0.6
    spans = {"save": Spans(0, 20, 280), "kernel": Spans(10, 900, 100)}
    found = Round({"save": 300, "kernel": 1010}, 10, spans=spans, share=0.6)
    assert (found.total, found.once_low, found.once) == (1300, 1110, pytest.approx(1148))
    rounds = Counted(256)
    rounds.rounds = {"handoff_two_cpus": [found, dataclasses.replace(found, share=0.7)]}
    made = as_json(rounds)["handoff_two_cpus"]
    assert made["once_low_minsn"] == [1110, 1110] and made["once_minsn"] == [1148, 1186] and made["share"] == [0.6, 0.7]
    assert made["spans"]["kernel"] == {"idle": 10, "one": 900, "both": 100, "once_low": 950, "once": 965}
    words = "  handoff_two_cpus, what two CPUs would take: 1110 to 1148, 1110 to 1186. Medians: save 160 to 202, kernel 950 to 965"
    assert words in table(rounds)
    # A run of this method alone has no other goals, and what was measured goes before the guess.
    assert [sentence.partition(":")[0] for _met, sentence in goals(rounds)] == ["handoff_two_cpus", "handoff"]
    rounds.rounds["handoff"] = counted([1700], []).rounds["handoff"]
    words = "handoff: 1167 million instructions, what overlaps on two CPUs counted once (as measured on two); wanted at most 1600"
    assert (True, words) in goals(rounds)


def test_waits_are_idle_time_with_and_without_io() -> None:
    assert waits_ms("cpu  154 35 235 3 41 0 2 0 0 0\n") == 440
    assert Round({"save": 100, "kernel": 900}, 440).total == 560


def test_the_longest_steps_of_a_kernel_end_where_systemd_begins() -> None:
    messages = [
        "[    0.000000] Linux version 6.1",
        "[    0.010000] tsc: Fast TSC calibration failed",
        "no message of the kernel",
        "[    0.110000] Calibrating delay loop",
        "[    0.111000] Run /init as init process",
        "[    0.500000] systemd[1]: systemd 252 running in system mode",
        "[    9.000000] late",
    ]
    assert kernel_steps(messages, 2) == [
        {"minsn": 100.0, "after": "tsc: Fast TSC calibration failed", "until": "Calibrating delay loop"},
        {"minsn": 10.0, "after": "Linux version 6.1", "until": "tsc: Fast TSC calibration failed"},
    ]


def test_spread_and_where_it_comes_from() -> None:
    assert spread([]) == 0
    assert spread([100, 101, 103]) == pytest.approx(0.03)
    rounds = [Round({"save": 100, "kernel": 900}, 5), Round({"save": 101, "kernel": 950}, 60)]
    assert restless(rounds) == "kernel is 50 apart, with its waits; the waits of the new boots are 5 to 60 ms"


def counted(handoff: list[float], kexec: list[float]) -> Counted:
    found = Counted(256)
    found.rounds["handoff"] = [Round({"save": 100, "kernel": total - 90}, 10) for total in handoff]
    found.rounds["systemctl_kexec"] = [Round({"shutdown": 0, "kernel": total}) for total in kexec]
    return found


def test_the_file_has_totals_and_medians() -> None:
    said = as_json(counted([1500, 1510, 1520], [4000]))
    assert said["handoff"]["total_minsn"] == [1500, 1510, 1520]
    assert said["handoff"]["phases"] == {"save": 100, "kernel": 1420}
    assert said["handoff"]["waits_ms"] == [10, 10, 10]
    assert said["systemctl_kexec"]["total_minsn"] == [4000] and said["ansible_reboot"]["total_minsn"] == []


def test_goals_are_met_and_missed() -> None:
    met = dict((sentence, met) for met, sentence in goals(counted([1500, 1510, 1520], [4000, 4010])))
    wanted = {
        "handoff: rounds within 2% of each other: 1.3% apart": True,
        "systemctl_kexec: rounds within 2% of each other: 0.2% apart": True,
        "ansible_reboot: rounds within 2% of each other: not measured twice": False,
        "handoff: 1510 million instructions, what overlaps on two CPUs counted once (a guess from one); wanted at most 1600": True,
        "handoff beside systemctl kexec: 0.38 of it, wanted below 0.4": True,
    }
    assert wanted.items() <= met.items()
    met = dict((sentence, met) for met, sentence in goals(counted([1500, 1700], [])))
    wanted = {
        "handoff: rounds within 2% of each other: 13.3% apart (kernel is 200 apart, with its waits; "
        "the waits of the new boots are 10 to 10 ms)": False,
        "handoff beside systemctl kexec: not measured, wanted below 0.4": False,
    }
    assert wanted.items() <= met.items()


def test_the_table_has_a_line_for_each_method() -> None:
    lines = list(table(counted([1500, 1510, 1520], [4000])))
    assert "  handoff              1510     1.3%   1500  1510  1520" in lines
    assert "  ansible_reboot   not measured: the run ended before it" in lines
    assert "  handoff, ms of waits: 10, 10, 10. Phases with them: save 100, kernel 1420" in lines


def test_the_chart_has_a_bar_for_each_method_that_was_measured() -> None:
    drawn = ElementTree.fromstring(svg(as_json(counted([1500, 1510, 1520], [3000]))))  # noqa: S314
    texts = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"handoff, road raw", "systemctl kexec", "1520", "3000"} <= set(texts) and "Ansible's reboot" not in texts
    widths = [float(one.get("width")) for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "24"]
    assert len(widths) == 3 and widths[0] + widths[1] == pytest.approx(widths[2] * 1520 / 3000, rel=0.001)
