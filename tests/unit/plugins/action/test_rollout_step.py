# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of a rollout: what it writes into a real journal, and whether the run goes on. Only the clock and the host are played."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hotpmem.fleet.plugins.action import rollout_step as rs
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import inputs, journal

START = datetime(2026, 11, 27, 11, tzinfo=timezone.utc)
WINDOW = [{"from": "12:00", "to": "13:00"}]
BOOT = "11111111-2222-3333-4444-555555555555"


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        monkeypatch.setattr(journal, "now", lambda: START + timedelta(seconds=self.seconds))
        monkeypatch.setattr(rs.time, "monotonic", lambda: self.seconds)
        monkeypatch.setattr(rs.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Told(list):
    def display(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def step(tmp_path: Path, clock: Clock) -> Callable[..., Any]:
    """Makes the action for a run of the hosts a and b, whose hosts answer."""
    book = journal.Journal(tmp_path / "default/run-1.jsonl")
    book.create()
    counts = {"left": 2, "done": 0, "failed": 0, "refused": 0, "spent": 0, "warned": 0}
    book.append("run_planned", fleet=["a", "b"], batches=[["a", "b"]], counts=counts)
    told = Told()

    def make(settings: dict[str, Any] | None = None, **args: Any) -> Any:
        one = rs.ActionModule.__new__(rs.ActionModule)
        one.args = {**{name: option.get("default") for name, option in rs.SPEC.items()}, "plan": {"seconds": 4.0}, **args}
        one.settings, problems = inputs.read(settings or {})
        assert not problems
        one.host, one.fleet, one.book, one.lines, one._display = args.get("host", "a"), 2, book, [], told
        one._low_level_execute_command = lambda command: {"stdout": f"{BOOT}\n6.1\n", "stderr": "", "rc": 0}
        return one

    return make


def names(one: Any) -> list[str]:
    return [line["event"] for line in one.book.read()[0]]


def test_a_batch_waits_for_its_window_in_slices(step: Callable[..., Any], clock: Clock) -> None:
    """Between the slices, the lease of the fleet is renewed."""
    settings = {"windows": WINDOW, "outside_window": "wait"}
    slices = 0
    while (found := (one := step(settings, hosts=["a"], slice=600.0))._batch())["again"]:
        slices += 1
        assert not found["stop"] and names(one) == ["run_planned"]
    assert slices == 5 and clock.seconds == 3600 and found == {"again": False, "stop": False, "batch": 1, "of": 1, "held": {}}
    assert names(one) == ["run_planned", "batch_begun"]
    assert all("waiting for the window that opens at" in text for text in one._display) and len(one._display) <= 7


def test_without_a_slice_it_waits_to_the_end_and_says_so_once(step: Callable[..., Any], clock: Clock) -> None:
    one = step({"windows": WINDOW, "outside_window": "wait"}, hosts=["a"])
    assert one._window() == {} and clock.seconds == 3600 and len(one._display) == 1 and names(one) == ["run_planned"]


@pytest.mark.parametrize("outside", ["stop", "wait"])
def test_a_host_is_not_begun_after_the_window_has_closed(step: Callable[..., Any], clock: Clock, outside: str) -> None:
    """To wait here would keep the hosts of the batch that were begun waiting."""
    clock.seconds = 2 * 3600 - 3.0  # 3 s are left, and it takes 4 s
    one = step({"windows": WINDOW, "outside_window": outside})
    found = one._begin()
    assert (found["go"], found["reason"]) == (False, "window") and names(one) == ["run_planned"] and clock.seconds == 2 * 3600 - 3.0
    clock.seconds -= 2
    assert step({"windows": WINDOW})._begin()["go"] is True


def test_the_last_batch_spends_the_warning_budget(step: Callable[..., Any]) -> None:
    for host in "ab":
        step(host=host)._begin()
        one = step({"warning_budget": 1}, host=host, outcome="cold" if host == "b" else "kept")
        one._end()
    found = step({"warning_budget": 1})._finish()
    assert found["latched"] == found["spent"] == "The warning budget of 1 is spent by b." and found["left"] == [] and not found["failures"]
    assert found["lines"][-2:] == [
        found["latched"],
        'No further run begins until you clear this: ansible-playbook hotpmem.fleet.rollout_clear -e reason="..."',
    ]
    # The run ends with the last step, and not before.
    assert names(one)[-1] == "budget_spent"
    step()._close()
    assert names(one)[-1] == "run_ended" and one.book.read()[0][-1]["counts"]["cold"] == 1


def test_a_run_with_hosts_left_is_not_latched(step: Callable[..., Any]) -> None:
    found = step()._finish()
    assert found["left"] == ["a", "b"] and found["latched"] == "" and "go on with the hosts that were not begun" in found["lines"][-1]


def test_a_host_that_does_not_answer_at_its_turn(step: Callable[..., Any]) -> None:
    one = step()

    def away(command: str) -> None:
        raise rs.AnsibleConnectionFailure("No route to host")

    one._low_level_execute_command = away
    found = one._begin()
    assert found["go"] is False and found["reason"] == "unreachable"
    begun, ended, spent = one.book.read()[0][1:]
    assert begun["boot_id"] is None and ended["outcome"] == "failed" and spent["event"] == "budget_spent"
    assert ended["msg"] == "a does not answer: No route to host. It was not rebooted." and "-e retry_failed=true" in ended["next"]


def test_a_lease_that_is_taken_over_is_recorded(step: Callable[..., Any]) -> None:
    one = step(msg="The lease was taken over, because take_over was set.", lease={"run": "run-0", "owner": "bob@laptop"})
    one._lease()
    line = one.book.read()[0][-1]
    assert (line["event"], line["run"], line["lease"]["run"]) == ("lease_taken_over", "run-1", "run-0")
