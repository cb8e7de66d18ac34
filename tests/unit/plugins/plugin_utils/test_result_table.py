# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table and the numbers at the end of a rollout."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hotpmem.fleet.plugins.filter.rollout_stats import rollout_stats
from ansible_collections.hotpmem.fleet.plugins.filter.rollout_table import rollout_table
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.result_table import host_results, percentile, percentiles

PLAN = {
    "event": "run_planned",
    "batches": [["a"], ["b", "c"], ["d"]],
    "refused": {"r": "kexec is not installed. Run: apt install kexec-tools"},
    "unreachable": {"u": "Connection refused"},
    "left_out": {"l": "same kernel"},
}
JOURNAL = [
    PLAN,
    {"event": "host_begun", "host": "a", "batch": 1},
    {"event": "host_ended", "host": "a", "outcome": "kept", "down_seconds": 2.345, "seconds": 41},
    {"event": "host_begun", "host": "b", "batch": 2},
    {"event": "host_begun", "host": "c", "batch": 2},
    {"event": "host_ended", "host": "b", "outcome": "failed", "seconds": 300, "msg": "no answer", "next": "look at\x1b[2J its console"},
]


def outcomes(events):
    return {result["host"]: result["outcome"] for result in host_results(events)}


def test_outcomes_from_the_journal():
    assert outcomes(JOURNAL) == {
        "a": "kept", "b": "failed", "c": "lost", "d": "not begun", "r": "refused", "u": "unreachable", "l": "left out",
    }  # fmt: skip


def test_a_resumed_run_counts_once():
    resumed = {"event": "run_resumed", "batches": [["b"], ["c"]], "refused": {"d": "it is in use"}, "left_out": {"a": "done in this run"}}
    again = [
        *JOURNAL,
        resumed,
        {"event": "host_begun", "host": "c", "batch": 2},
        {"event": "host_ended", "host": "c", "outcome": "cold", "down_seconds": 4, "seconds": 50},
    ]
    found = {result["host"]: result for result in host_results(again)}
    assert outcomes(again) == {**outcomes(JOURNAL), "c": "cold", "d": "refused"}
    assert (found["a"]["batch"], found["c"]["batch"], found["c"]["next"]) == (1, 2, "")


def test_the_table():
    lines = rollout_table(JOURNAL).splitlines()
    assert lines[0].split() == ["host", "batch", "outcome", "down", "seconds", "what", "next"]
    assert [line.split()[0] for line in lines[1:]] == ["l", "a", "d", "r", "u", "c", "b"]
    assert "2.35 s     41 s" in lines[2]
    assert lines[4].endswith("kexec is not installed. Run: apt install kexec-tools")
    assert lines[-1].endswith("look at\\x1b[2J its console") and "\x1b" not in "".join(lines)
    assert lines[5].endswith("Then run the playbook again with -e retry_failed=true.")


def test_stats():
    assert rollout_stats(JOURNAL) == {
        "hosts": 7,
        "counts": {
            "left out": 1, "kept": 1, "cold": 0, "not begun": 1, "refused": 1, "unreachable": 1, "lost": 1, "back": 0, "failed": 1,
        },
        "failed_hosts": ["b", "c", "u"],
        "refused_hosts": ["r"],
        "hosts_not_begun": ["d"],
        "down_seconds": {"p50": 2.345, "p95": 2.345, "p99": 2.345, "max": 2.345},
    }  # fmt: skip


def test_of_nothing():
    assert rollout_table([]).split() == ["host", "batch", "outcome", "down", "seconds", "what", "next"]
    assert rollout_stats([])["down_seconds"] == {"p50": None, "p95": None, "p99": None, "max": None}


@pytest.mark.parametrize("given", [None, "text", {"a": 1}, ["text"], 3])
def test_what_is_not_a_journal_is_refused(given):
    with pytest.raises(AnsibleFilterError, match="is not a list of dicts"):
        rollout_table(given)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        (range(1, 101), 50, 50),
        (range(1, 101), 95, 95),
        (range(1, 101), 99, 99),
        ([1, 2], 50, 1),
        ([3, 1, 2], 50, 2),
        ([7], 99, 7),
        ([1, 2, 3, 4, 5, 6], 95, 6),
        ([], 50, None),
        ([5, 6], 0, 5),
    ],
)
def test_percentile(values, percent, expected):
    assert percentile(values, percent) == expected


def test_percentiles_leave_out_what_is_not_known():
    assert percentiles([None, 1.0, True, float("nan"), 3.0, "4"]) == {"p50": 1.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
