# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollout, the times it expects, and its input variables."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import estimate, inputs, plan, state, windows

START = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
RUN = "run-1"


def cycles(*down: float) -> list[dict]:
    return [{"down_seconds": one, "seconds": one * 10, "saved_bytes": 1e9, "save_seconds": 0.5} for one in down]


def make(seen: list[plan.Seen], before: state.Run | None = None, **settings: object) -> plan.Plan:
    return plan.make(replace(inputs.Settings(), **settings), seen, before, run=RUN, start=START, forks=5)


def test_each_host_is_in_a_batch_or_named() -> None:
    seen = [
        plan.Seen("a", kernel="1"),
        plan.Seen("b", refused="no kernel is loadable"),
        plan.Seen("c", unreachable="no route"),
        plan.Seen("d", kernel="1", needs={"kernel": True}),
    ]
    made = make(seen, batches=[(1, False), (50, True)], only_when="kernel")
    assert made.batches == [["d"]] and set(made.left_out) == {"a"} and set(made.refused) == {"b"} and set(made.unreachable) == {"c"}
    table = plan.rows(made, seen)
    assert [row[2] for row in table] == ["d", "b", "a", "c"] and table[1][-1] == "refused: no kernel is loadable"


@pytest.mark.parametrize(
    "only_when, needs, left_out",
    [
        ("always", {}, False),
        ("kernel", {"kernel": False, "packages": ["libc6"]}, True),
        ("kernel", {"kernel": True}, False),
        ("kernel", {"kernel": None}, True),
        ("packages", {"packages": ["libc6"]}, False),
        ("packages", {"kernel": True, "packages": []}, False),
        ("packages", {"kernel": False, "packages": []}, True),
    ],
)
def test_hosts_that_need_no_reboot(only_when: str, needs: dict, left_out: bool) -> None:
    assert bool(make([plan.Seen("a", needs=needs)], only_when=only_when).left_out) is left_out


# What the journal says of a host, what the host says, and what is done with it: begin, finish, done, recorded, failed or refused.
@pytest.mark.parametrize(
    "host, seen, retry, found",
    [
        (state.Host(), {}, False, "begin"),
        (state.Host(begun=True, outcome="kept"), {}, False, "done"),
        (state.Host(begun=True, outcome="cold"), {}, True, "done"),
        (state.Host(begun=True, outcome="failed"), {}, False, "failed"),
        (state.Host(begun=True, outcome="failed"), {}, True, "begin"),
        (state.Host(begun=True, outcome="refused"), {}, False, "begin"),
        (state.Host(begun=True, boot_id="1"), {"boot_id": "1"}, False, "begin"),
        (state.Host(begun=True, boot_id="1"), {"boot_id": "2"}, False, "finish"),
        (state.Host(begun=True, boot_id="1"), {"boot_id": "2", "refused": "a restore runs"}, False, "finish"),
        (state.Host(begun=True, boot_id="1"), {"boot_id": "1", "refused": "a handoff holds this host"}, False, "refused"),
        (state.Host(begun=True, boot_id="1"), {"boot_id": "2", "mark": {"run": RUN, "boot_id": "2", "outcome": "cold"}}, False, "recorded"),
        (state.Host(begun=True, boot_id="1"), {"boot_id": "2", "mark": {"run": "other", "boot_id": "2"}}, False, "finish"),
        # A mark of a boot that is over says nothing of this one.
        (state.Host(begun=True, boot_id="1"), {"boot_id": "3", "mark": {"run": RUN, "boot_id": "2", "outcome": "kept"}}, False, "finish"),
    ],
)
def test_a_run_that_resumes_looks_at_each_host_first(host: state.Host, seen: dict, retry: bool, found: str) -> None:
    before = state.Run(hosts={"a": host}, fleet=["a"])
    made = make([plan.Seen("a", **seen)], before, retry_failed=retry)
    where = {
        "finish": made.finish,
        "begin": [name for name in made.hosts if name not in made.finish],
        "done": made.done,
        "recorded": made.recorded,
        "failed": made.failed,
        "refused": made.refused,
    }
    assert [name for name, hosts in where.items() if "a" in hosts] == [found]


@pytest.mark.parametrize("resumes", [0, 1, 2, 3])
@pytest.mark.parametrize("named", ["again", "refused"])
def test_a_rebooted_host_is_never_rebooted_again_however_often_the_controller_dies(named: str, resumes: int) -> None:
    """Each start plans to finish it, or finds it busy, and dies before its turn."""
    looked = {"event": "run_resumed", "fleet": ["a"], "again": ["a"] if named == "again" else [], "finish": ["a"]}
    looked["refused"] = {"a": "a restore runs"} if named == "refused" else {}
    begun = {"event": "host_begun", "host": "a", "boot_id": "1"}
    before = state.replay([begun, *[looked] * resumes])
    assert make([plan.Seen("a", boot_id="2")], before).finish == ["a"]
    marked = plan.Seen("a", boot_id="2", mark={"run": RUN, "boot_id": "2", "outcome": "kept"})
    assert make([marked], before).recorded == {"a": "kept"}
    # A failed host that is tried again is rebooted again, also when the first start of the retry died.
    failed = state.replay([begun, {"event": "host_ended", "host": "a", "outcome": "failed"}, *[looked] * resumes])
    again = make([plan.Seen("a", boot_id="2")], failed, retry_failed=True)
    assert again.hosts == ["a"] and again.finish == []


def test_hosts_that_are_under_way_come_first() -> None:
    before = state.Run(hosts={"c": state.Host(begun=True, boot_id="1")}, fleet=["a", "b", "c"])
    made = make([plan.Seen("a"), plan.Seen("b"), plan.Seen("c", boot_id="2")], before, batches=[(2, False)])
    assert made.batches == [["c", "a"], ["b"]]


def test_times_come_from_the_history() -> None:
    seen = [plan.Seen("a", history=cycles(1, 2, 9)), plan.Seen("b", history=cycles(4)), plan.Seen("c")]
    made = make(seen, batches=[(1, False), (2, False)])
    assert made.expected["a"].down == 2 and made.expected["c"].down is None
    assert made.seconds == {"a": 20, "b": 40, "c": 30}  # c takes what the fleet takes
    assert made.times == [(START, START + timedelta(seconds=20)), (START + timedelta(seconds=20), START + timedelta(seconds=60))]


def test_a_batch_waits_for_the_next_window() -> None:
    open_at, problems = windows.parse([{"from": "11:00", "to": "12:01"}])
    made = make([plan.Seen(name, history=cycles(4)) for name in "ab"], batches=[(1, False)], windows=open_at)
    assert not problems and made.times[0][0] == START and made.times[1][0] == START + timedelta(hours=23)


def test_a_host_that_no_window_holds_is_refused() -> None:
    short, _problems = windows.parse([{"from": "11:00", "to": "11:10"}])
    made = make([plan.Seen("a", history=cycles(61)), plan.Seen("b", history=cycles(2))], windows=short)
    assert made.hosts == ["b"] and "No window of hotpmem_windows is long enough" in made.refused["a"]


@pytest.mark.parametrize("count, forks, seconds", [(1, 5, 10), (5, 5, 10), (6, 5, 20), (0, 5, 0)])
def test_a_large_batch_goes_in_waves(count: int, forks: int, seconds: float) -> None:
    assert estimate.batch_seconds([10.0] * count, forks, 0) == seconds


@pytest.mark.parametrize(
    "history, cycle, said",
    [
        (cycles(1, 1, 1), {"down_seconds": 2.0}, []),
        (cycles(1, 1, 1), {"down_seconds": 2.1}, ["down for 2.1 s"]),
        (cycles(1, 1), {"down_seconds": 9.0}, []),
        (cycles(1, 1, 1), {"saved_bytes": 1e9, "save_seconds": 1.1}, ["909 MB/s"]),
        (cycles(1, 1, 1), {"saved_bytes": 1e9, "save_seconds": 0.9}, []),
        (cycles(1, 1, 1), {"down_seconds": None, "saved_bytes": 0, "save_seconds": True}, []),
    ],
)
def test_far_behind_its_own_history(history: list[dict], cycle: dict, said: list[str]) -> None:
    found = estimate.behind(history, cycle)
    assert len(found) == len(said) and all(words in one for words, one in zip(said, found))


@pytest.mark.parametrize("seconds, words", [(None, "-"), (0.84, "0.8 s"), (59, "59 s"), (600, "10 min"), (9000, "2 h 30 min")])
def test_duration(seconds: float | None, words: str) -> None:
    assert estimate.duration(seconds) == words


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("batches", 0, "hotpmem_batches: 0 would never let a host begin"),
        ("batches", [1, "200%"], "hotpmem_batches: 200% is more than 100 %"),
        ("batches", [], "hotpmem_batches: [] is not a list of sizes"),
        ("batches", [1, "many"], "hotpmem_batches: 'many' is neither"),
        ("failure_budget", 0, "hotpmem_failure_budget: 0 would never"),
        ("failure_budget", "101%", "hotpmem_failure_budget: 101% is more"),
        ("warning_budget", -3, "hotpmem_warning_budget: -3 is neither"),
        ("order", "random", "hotpmem_order: unknown word 'random'"),
        ("only_when", "sometimes", "hotpmem_only_when: unknown word"),
        ("on_bad_kernel", "ignore", "hotpmem_on_bad_kernel: unknown word"),
        ("outside_window", "go", "hotpmem_outside_window: unknown word"),
        ("rollout", "../x", "hotpmem_rollout: '../x' is not a name"),
        ("soak", "a while", "hotpmem_soak: 'a while' is not a number"),
        ("soak", -1, "hotpmem_soak: -1 is not a number of at least 0"),
        ("order", "node1,node2", "hotpmem_order: unknown word 'node1,node2'. Use one of: inventory, name, shuffle, or a list of hosts"),
        ("domain_limit", 0, "hotpmem_domain_limit: 0 is not a whole number of at least 1"),
        ("domain_limit", 1.5, "hotpmem_domain_limit: 1.5 is not a whole number of at least 1"),
        ("windows", 7, "hotpmem_windows: it is not a list"),
        ("confirm", "maybe", "confirm: 'maybe' is neither true nor false"),
        ("resume", "maybe", "resume: 'maybe' is neither"),
        ("retry_failed", 2, "retry_failed: 2 is neither"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: object, said: str) -> None:
    problems = inputs.read({name: value})[1]
    assert len(problems) == 1 and problems[0].startswith(said), problems


def test_all_problems_are_said_at_once() -> None:
    assert len(inputs.read({"batches": [0, "x"], "order": "x", "failure_budget": "0%", "windows": [{}]})[1]) >= 6


def test_text_of_the_command_line() -> None:
    raw = {
        "batches": "[1, 10%, '25%']",
        "failure_budget": "5%",
        "soak": "30",
        "retry_failed": "true",
        "resume": "no",
        "order": '["b", "a"]',
    }
    settings, problems = inputs.read({**raw, "domain_limit": "2", "warning_budget": "none", "windows": "", "only_when": ""})
    assert not problems and settings.batches == [(1, False), (10, True), (25, True)] and settings.failure_budget == (5, True)
    assert settings.soak == 30 and settings.retry_failed and not settings.resume and settings.order == ["b", "a"]
    assert settings.domain_limit == 2 and settings.warning_budget is None and settings.only_when == "always"
    assert inputs.read({"batches": "1,2,50%"})[0].batches == [(1, False), (2, False), (50, True)]
    assert inputs.read({"batches": "25%"})[0].batches == [(25, True)]


@pytest.mark.parametrize("budget, fleet, allowed", [((1, False), 100, 1), ((5, True), 100, 5), ((5, True), 10, 1), ((100, True), 3, 3)])
def test_how_many_failures_are_allowed(budget: tuple[int, bool], fleet: int, allowed: int) -> None:
    assert inputs.Settings(failure_budget=budget).allowed(fleet) == allowed


@pytest.mark.parametrize(
    "pattern, unknown",
    [
        ("node1,web", []),
        ("node9", ["node9"]),
        ("node1:!nodd2", ["nodd2"]),
        ("web:&node1", []),
        ("node*", []),
        ("~node[0-9]", []),
        ("node[1:3]", []),
        ("@retry.txt", []),
        ("all,localhost", []),
    ],
)
def test_unknown_names_of_a_pattern(pattern: str, unknown: list[str]) -> None:
    found = inputs.unknown_names("--limit", pattern, {"node1", "node2", "web"})
    assert (", ".join(unknown) in found[0]) if unknown else found == []


def test_the_fleet_must_have_what_the_settings_name() -> None:
    settings = inputs.Settings(order=["a", "z"], failure_domain="rack")
    problems = inputs.of_the_fleet(settings, ["a", "b"], {"a": {"rack": 0}, "b": {}})
    assert problems[0].startswith("hotpmem_order: z: ") and problems[1].startswith(
        "hotpmem_failure_domain: the variable rack is not set for b."
    )


def test_removed_variables_name_the_new_ones() -> None:
    problems = inputs.removed({"hotpmem_serial", "hotpmem_max_fail_percentage", "other"})
    assert ["hotpmem_batches" in problems[0], "hotpmem_failure_budget" in problems[1], len(problems)] == [True, True, 2]


def test_a_new_run_says_how_the_last_one_ended() -> None:
    ended = state.Run(ended="2026-11-27T11:56:00Z", hosts={"a": state.Host(begun=True, outcome="kept")})
    assert plan.before_it("run-0", ended, START) == (
        "The last run run-0 ended 4 min ago, with every host done. This is a new run, which reboots the hosts again."
    )
    ended.hosts["b"], ended.refused = state.Host(begun=True, outcome="failed"), {"c": "no"}
    assert "ended 4 min ago, with 1 failed and 1 refused. This" in plan.before_it("run-0", ended, START)
    left = state.Run(batches=[["a"]])
    assert plan.before_it("run-0", left, START) == "The last run run-0 has not ended, and 1 host of it was not begun. This is a new run."


@pytest.mark.parametrize(
    "counted, allowed, limit, said",
    [
        ({}, 1, "", ""),
        ({"a": "unreachable"}, 2, "", ""),
        ({"a": "failed"}, 1, "", ""),  # this one has a latch
        ({"a": "unreachable"}, 1, "", "--limit 'all:!a', or allow more failures with -e hotpmem_failure_budget=2."),
        ({"a": "failed", "b": "unreachable", "c": "unreachable"}, 3, "web", "leave them out with --limit 'web:!b:!c', or"),
    ],
)
def test_a_budget_that_is_spent_in_the_plan(counted: dict[str, str], allowed: int, limit: str, said: str) -> None:
    found = plan.spent_already(counted, allowed, limit)
    assert bool(found) is bool(said) and said in found


def test_the_note_of_a_host_that_is_begun() -> None:
    seen = [plan.Seen("a", note="its settings are updated first: road is 'dax'")]
    assert plan.rows(make(seen), seen)[0][-1] == seen[0].note
