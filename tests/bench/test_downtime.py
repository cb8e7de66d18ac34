# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of downtime.py, and what is read from the machine for them."""

from __future__ import annotations

import json

import pytest
from downtime import last_task
from downtime_report import STARTED, STOPPING, Handoff, Measured, as_json, exchanges, goals, own_seconds, table

UNIT = "memcached.service"
CYCLE = {
    "restore_seconds": 20.0,
    "timeline": {
        "phases": [
            {"mark": "stopping", "seconds": 9.0},
            {"mark": "units_stopped", "seconds": 0.5},
            {"mark": "saved", "seconds": 1.0},
            {"mark": "restoring", "seconds": 20.0},
            {"mark": "restored", "seconds": 0.75},
            {"mark": "units_ready", "seconds": 0.25},
            {"mark": "hot_added", "seconds": 8.0},
        ]
    },
}


def journal(*entries: tuple[str, str]) -> list[str]:
    """Lines of journalctl -o json: (identifier or message id, message)."""
    lines = []
    for what, message in entries:
        entry = {"MESSAGE": message, "SYSLOG_IDENTIFIER": "systemd" if len(what) == 32 else what}
        if len(what) == 32:
            entry.update(MESSAGE_ID=what, UNIT=UNIT)
        lines.append(json.dumps(entry))
    return [*lines, ""]


BEFORE = [("sshd", "Accepted publickey for root"), (STOPPING, "Stopping"), (STARTED, "Started"), ("sshd", "Disconnected from user root")]
END = [(STOPPING, "Stopping"), ("sshd", "Received signal 15; terminating.")]
BEGIN = [("sshd", "Server listening on 0.0.0.0 port 22."), (STARTED, "Started"), ("sshd", "Accepted publickey for root")]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (BEFORE + END, BEGIN, []),
        (BEFORE + END + [("sshd", "Connection from 10.0.2.2")], BEGIN, ["Connection from 10.0.2.2"]),
        (BEFORE + END, [("sshd-session", "Accepted publickey"), *BEGIN], ["Accepted publickey"]),
        (BEFORE[:1], BEGIN, None),
        (END, BEGIN[:1], None),
    ],
)
def test_what_sshd_said_between_stop_and_answer(before, after, expected) -> None:
    assert exchanges(journal(*before), journal(*after), UNIT) == expected


def test_own_phases_are_stop_save_restore_start() -> None:
    assert own_seconds(CYCLE) == 2.5


def measured() -> Measured:
    one = Measured(256, skipped={"handoff_dax": "why"})
    one.gaps.update(handoff=[20.0, 22.0], systemctl_kexec=[30.0, 31.0], ansible_reboot=[70.0, 80.0])
    one.handoffs = [Handoff("handoff", 20.0, 20.1, 2.5, 18, 18, []), Handoff("handoff", 22.0, 21.9, 3.0, 18, 18, [])]
    return one


def missed(one: Measured) -> list[str]:
    return [sentence for met, sentence in goals(one) if not met]


def test_the_file() -> None:
    value = as_json(measured())
    assert value["client_ms"] == {
        "handoff": [20000.0, 22000.0],
        "handoff_systemd": [],
        "handoff_dax": [],
        "systemctl_kexec": [30000.0, 31000.0],
        "ansible_reboot": [70000.0, 80000.0],
    }
    assert value["own_share"] == 0.1364
    assert value["timeline_minus_client_ms"] == [100.0, -100.0]
    assert value["ssh_exchanges"] == [0, 0]
    json.dumps(value)


def test_all_goals_met() -> None:
    assert missed(measured()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gap": 31.0}, "beside systemctl_kexec"),
        ({"own": 4.0}, "own phases"),
        ({"timeline": 20.3}, "timeline less client: +300, -100 ms"),
        ({"kept": 17}, "all items kept: after 1 of 2"),
        ({"exchanges": ["Accepted"]}, "in 1 of 2"),
        ({"exchanges": None}, "in 1 of 2"),
    ],
)
def test_a_goal_missed(change, words) -> None:
    one = measured()
    first = Handoff(**{**vars(one.handoffs[0]), **change})
    one.handoffs[0] = first
    if "gap" in change:
        one.gaps["handoff"] = [31.0, 31.0]
    assert words in " ".join(missed(one))


def test_a_run_that_ended_early_misses_everything() -> None:
    one = Measured(256)
    assert all(not met for met, _sentence in goals(one))
    assert as_json(one)["own_share"] == 0.0
    assert "not measured" in "\n".join(table(one))


def test_the_table_says_why_a_row_is_empty() -> None:
    text = "\n".join(table(measured()))
    assert "handoff_dax      not measured: why" in text
    assert "18 of 18, 0" in text


def test_the_task_a_playbook_has_done() -> None:
    assert last_task("") == "no task yet"
    assert last_task("PLAY [x]\nTASK [a : One] ****\nok: [node1]\nTASK [Two] ***\n") == "TASK [Two]"
