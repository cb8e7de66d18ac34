# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a run, and what is read from it."""

from __future__ import annotations

import json
import os
import stat
from multiprocessing import get_context
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import journal as j
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import state


@pytest.fixture
def book(tmp_path: Path) -> j.Journal:
    one = j.Journal(tmp_path / "rollouts/default/20261127T101500.000Z-abc.jsonl")
    one.create()
    return one


def plan(book: j.Journal, *hosts: str, again: bool = False, **fields: object) -> None:
    counts = {"left": len(hosts), "done": 0, "failed": 0, "refused": 0, "spent": 0, "warned": 0}
    book.append("run_resumed" if again else "run_planned", fleet=list(hosts), batches=[[host] for host in hosts], counts=counts, **fields)


def test_only_the_user_can_read_it(book: j.Journal) -> None:
    assert stat.S_IMODE(os.stat(book.path).st_mode) == 0o600 and stat.S_IMODE(os.stat(book.path.parent).st_mode) == 0o700
    with pytest.raises(j.JournalError, match="File exists"):
        book.create()


@pytest.mark.parametrize("torn", ["", '{"time":', '{"event":"host_ended"', "x" * 200_000])
def test_half_a_line_does_not_count_and_goes_with_the_next_one(book: j.Journal, torn: str) -> None:
    plan(book, "a")
    with open(book.path, "a", encoding="utf-8") as file:
        file.write(torn)
    events, was_torn = book.read()
    assert [one["event"] for one in events] == ["run_planned"] and was_torn is bool(torn)
    book.append("host_begun", host="a")
    events, was_torn = book.read()
    assert [one["event"] for one in events] == ["run_planned", "host_begun"] and not was_torn


def test_every_cut_of_a_journal_can_be_continued(book: j.Journal) -> None:
    plan(book, "a", "b")
    for host in ("a", "b"):
        book.append("host_begun", host=host, boot_id="1")
        book.append("host_ended", host=host, outcome="kept")
    whole = book.path.read_bytes()
    for cut in range(len(whole)):
        book.path.write_bytes(whole[:cut])
        before, _torn = book.read()
        line = book.append("host_phase", host="a", phase="gates")
        assert book.read()[0] == [*before, line]
        assert line["tally"] == j.advance(before[-1]["tally"] if before else {}, line)


def test_a_damaged_line_in_the_middle_is_an_error(book: j.Journal) -> None:
    plan(book, "a")
    with open(book.path, "a", encoding="utf-8") as file:
        file.write("[]\n")
    with pytest.raises(j.JournalError, match="line 2 of the journal"):
        book.read()


def test_the_tail_is_found_behind_a_long_line(book: j.Journal) -> None:
    plan(book, *[f"a-host-with-a-long-name-{number}" for number in range(10_000)])
    assert book.append("host_begun", host="a")["tally"]["left"] == 9_999
    assert book.tail()["event"] == "host_begun"


def _write(path: str, worker: int) -> None:
    for number in range(40):
        j.Journal(Path(path)).append("host_ended", host=f"{worker}-{number}", outcome="failed")


def test_many_workers_count_exactly(book: j.Journal) -> None:
    plan(book, "a")
    workers = [get_context("fork").Process(target=_write, args=(str(book.path), number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    spent = [one["tally"]["spent"] for one in book.read()[0]]
    assert spent == list(range(161))  # one host, and only one, sees each number


def test_a_journal_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(j.JournalError, match="No further host is begun without it"):
        j.Journal(tmp_path / "missing.jsonl").append("host_begun", host="a")
    (tmp_path / "file").write_text("")
    with pytest.raises(j.JournalError, match="hotpmem_journal_dir"):
        j.Journal(tmp_path / "file/default/1.jsonl").create()


def test_newest(tmp_path: Path) -> None:
    assert j.newest(tmp_path, "default") is None
    for name in ("20261127T101500.000Z-fff", "20261127T101500.001Z-000"):
        j.Journal(tmp_path / f"default/{name}.jsonl").create()
    (tmp_path / "default/notes.txt").write_text("")
    found = j.newest(tmp_path, "default")
    assert found and found.run == "20261127T101500.001Z-000" and found.rollout == "default"


@pytest.mark.parametrize(
    "given, environment, found",
    [
        ("/srv/j", {}, "/srv/j"),
        ("", {"XDG_STATE_HOME": "/state", "HOME": "/home/a"}, "/state/hotpmem/rollouts"),
        ("", {"HOME": "/home/a"}, "/home/a/.local/state/hotpmem/rollouts"),
        ("~no-such-user/j", {}, "~no-such-user/j"),
    ],
)
def test_directory(given: str, environment: dict[str, str], found: str) -> None:
    assert str(j.directory(given, environment)) == found


# What a run is, from its events: host_begun and host_ended are written as "begin a" and "end a failed".
def events(*steps: str) -> list[dict]:
    found: list[dict] = [{"event": "run_planned", "fleet": ["a", "b"], "batches": [["a"], ["b"]]}]
    for step in steps:
        word, *rest = step.split()
        if word == "begin":
            found.append({"event": "host_begun", "host": rest[0], "boot_id": "1", "kernel": "old", "batch": 1})
        elif word == "end":
            found.append({"event": "host_ended", "host": rest[0], "outcome": rest[1], "kernel": rest[2] if len(rest) > 2 else "old"})
        elif word == "limit":
            found.append({"event": "run_resumed", "fleet": rest, "batches": [[host] for host in rest], "again": rest})
        elif word == "resume":
            found.append({"event": "run_resumed", "fleet": ["a", "b"], "batches": [rest], "again": rest})
        elif word == "away":
            found.append({"event": "run_resumed", "fleet": ["a", "b"], "batches": [], "unreachable": dict.fromkeys(rest, "no route")})
        else:
            found.append({"event": word, "host": rest[0] if rest else None, "reason": rest[0] if rest else ""})
    return found


@pytest.mark.parametrize(
    "steps, counted",
    [
        ([], {}),
        (["begin a"], {"a": "lost"}),
        (["begin a", "end a kept"], {}),
        (["begin a", "end a cold"], {}),
        (["begin a", "end a refused"], {}),
        (["begin a", "end a failed"], {"a": "failed"}),
        (["begin a", "end a back", "begin b"], {"a": "back", "b": "lost"}),
        (["begin a", "end a failed", "budget_cleared"], {}),
        (["begin a", "end a failed", "budget_cleared", "begin b", "end b failed"], {"b": "failed"}),
        (["begin a", "end a failed", "resume a", "begin a", "end a kept"], {}),
        (["begin a", "resume a"], {}),
        (["away a"], {"a": "unreachable"}),
        (["away a", "budget_cleared", "away a"], {}),
        (["away a", "budget_cleared", "away b"], {"b": "unreachable"}),
        (["away a", "limit b"], {}),
        (["away a", "resume a", "begin a", "end a kept"], {}),
        # A host that nobody can look at any more is forgiven when the budget is cleared, until it is begun again.
        (["begin a", "limit b"], {"a": "lost"}),
        (["begin a", "budget_cleared", "limit b"], {}),
        (["begin a", "budget_cleared", "away a"], {}),
        (["begin a", "budget_cleared", "resume a", "begin a"], {"a": "lost"}),
    ],
)
def test_what_counts_against_the_budget(steps: list[str], counted: dict[str, str]) -> None:
    assert state.spent(state.replay(events(*steps))) == counted


@pytest.mark.parametrize(
    "steps, not_begun, not_looked_at",
    [
        ([], ["a", "b"], []),
        (["limit a", "begin a", "end a kept"], ["b"], []),
        (["limit a", "begin a", "end a kept", "resume b"], ["b"], []),
        (["limit a", "limit b", "begin b", "end b kept"], ["a"], []),
        (["limit a", "resume"], [], []),  # the whole plan has left b out, with a reason
        (["begin a", "limit b", "begin b", "end b kept"], [], ["a"]),
        (["begin a", "budget_cleared", "limit b", "begin b"], [], []),
        (["begin a", "end a kept", "host_drained a", "limit b", "begin b"], [], ["a"]),
        (["begin a", "host_drained a", "resume b"], ["b"], []),
    ],
)
def test_a_plan_with_a_limit_forgets_no_host(steps: list[str], not_begun: list[str], not_looked_at: list[str]) -> None:
    run = state.replay(events(*steps))
    assert run.not_begun == not_begun and run.not_looked_at == not_looked_at


@pytest.mark.parametrize(
    "steps, again",
    [
        (["begin a", "end a kept"], False),
        (["begin a", "end a cold"], False),
        (["begin a"], True),
        (["host_undrained a"], False),  # an earlier run had left it drained
        (["begin a", "end a failed"], True),
        (["begin a", "end a refused"], True),
        (["away a"], True),
        (["begin a", "end a kept", "away a"], False),
        (["away a", "limit b", "begin b", "end b kept"], True),
        (["away a", "resume b", "begin b", "end b kept"], False),
    ],
)
def test_which_run_is_opened_again(steps: list[str], again: bool) -> None:
    assert state.replay(events(*steps)).can_be_tried_again is again


def test_a_latch_holds_until_it_is_cleared() -> None:
    assert state.replay(events("budget_spent", "run_ended")).latched
    assert not state.replay(events("budget_spent", "run_ended", "budget_cleared")).latched
    assert state.replay(events("run_stopped bad_kernel")).latched
    assert not state.replay(events("run_stopped window")).latched


def test_drained_until_undrained() -> None:
    run = state.replay(events("begin a", "host_drained a"))
    assert run.drained == ["a"] and run.lost == ["a"]
    assert state.replay(events("begin a", "host_drained a", "resume b")).drained == ["a"]
    assert state.replay(events("begin a", "host_drained a", "resume a", "begin a")).drained == ["a"]
    assert state.replay(events("begin a", "host_drained a", "host_undrained a")).drained == []


@pytest.mark.parametrize(
    "steps, bad",
    [
        (["begin a", "end a failed new"], ("new", "a")),
        (["begin a", "end a back new"], ("new", "a")),
        (["begin a", "end a failed old"], None),
        (["begin a", "end a kept new", "begin b", "end b failed new"], None),
        (["begin a", "end a failed new", "budget_cleared"], None),
    ],
)
def test_a_bad_kernel(steps: list[str], bad: tuple[str, str] | None) -> None:
    assert state.replay(events(*steps)).bad_kernel() == bad


def test_the_whole_journal_is_one_object_a_line(book: j.Journal) -> None:
    plan(book, "ä", owner="änn@x\ny")
    lines = book.path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["owner"] == "änn@x\ny"
