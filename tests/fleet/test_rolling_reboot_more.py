# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""rolling_reboot over hosts that do not exist: what takes longer. make test-fleet runs these."""

from __future__ import annotations

import json
import os
import pty
import select
import sys
from collections.abc import Callable

import pytest
from fleet import Fleet, said


def test_all_goes_well(fleet: Callable[..., Fleet]) -> None:
    """The plan, the batches, the journal and the marks; and a second run is a new run."""
    one = fleet(4)
    done = one.rolling_reboot(hotpmem_batches='[1, "75%"]')
    assert done.returncode == 0, done.stdout
    assert one.reboots() == dict.fromkeys(one.names, 1) and one.ended() == {name: ["kept"] for name in one.names}
    events = [line["event"] for line in one.events()]
    assert events[0] == "run_planned" and events[-1] == "run_ended" and events.count("batch_begun") == 2
    assert [line["hosts"] for line in one.events("batch_begun")] == [["node1"], ["node2", "node3", "node4"]]
    run = one.events("run_planned")[0]["run"]
    assert all(one.read(name)["mark"]["run"] == run and one.read(name)["mark"]["outcome"] == "kept" for name in one.names)
    last = one.events("host_ended")[-1]["tally"]
    assert (last["done"], last["left"], last["under_way"], last["failed"]) == (4, 0, 0, 0)
    assert all(not line.get("warnings") and line["down_seconds"] == 0.8 for line in one.events("host_ended"))
    assert "4 of 4 hosts will be rebooted, in batches of 1, 3." in said(done)
    again = one.rolling_reboot("--limit", "node2")
    assert again.returncode == 0 and one.reboots()["node2"] == 2 and len(one.journals()) == 2


@pytest.mark.parametrize("answer, code, reboots", [("yes\r", 0, 1), ("no\r", 2, 0), (None, 2, 0)])
def test_confirmation(fleet: Callable[..., Fleet], answer: str | None, code: int, reboots: int) -> None:
    """In a terminal the operator types yes. Without a terminal nothing is rebooted."""
    one = fleet(1)
    words = one.words()
    if answer is None:
        done = one.run(words)
        assert done.returncode == code and "use '-e confirm=false'" in said(done)
    else:
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(one.where)
            os.execve(sys.executable, [sys.executable, "-m", "ansible", "playbook", *words], one.environment())  # noqa: S606
        output, answered = b"", False
        while True:
            # The prompt throws away what was typed before it is ready, so an answer without an effect is typed again.
            readable = select.select([terminal], [], [], 2)[0]
            if not readable and b"Type yes to begin" in output and b"Begin the run" not in output:
                os.write(terminal, answer.encode())
                answered = True
            try:
                output += os.read(terminal, 4096) if readable else b""
            except OSError:  # its end, on Linux
                break
        os.close(terminal)
        assert answered and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code, output.decode()
    assert one.reboots() == {"node1": reboots} and bool(one.journals()) is bool(reboots)


def test_the_budget_decides_and_not_the_batch(fleet: Callable[..., Fleet]) -> None:
    """With serial: 1 Ansible ends the run at the first host that fails, whatever max_fail_percentage says (#5073, #6781, #7019)."""
    one = fleet(5, node1={"handoff": "fails"}, node3={"handoff": "refused"}, node4={"down": "cache"})
    done = one.rolling_reboot(hotpmem_batches="1", hotpmem_failure_budget="3")
    assert done.returncode == 2
    assert one.ended() == {"node1": ["failed"], "node2": ["kept"], "node3": ["failed"], "node4": ["failed"]}
    assert one.reboots() == {"node1": 0, "node2": 1, "node3": 0, "node4": 1, "node5": 0}
    spent = one.events("budget_spent")[0]
    assert (spent["count"], spent["allowed"], spent["hosts"]) == (3, 3, ["node1", "node3", "node4"])
    assert "Cannot save: it changed" in said(done) and "item cache does not fit" in said(done)


@pytest.mark.parametrize("module", ["command", "pmem_info", "rollout_facts"])
def test_a_host_that_stops_answering_is_a_failure_of_the_host(fleet: Callable[..., Fleet], module: str) -> None:
    """A batch in which all hosts are unreachable would end all plays, and nobody would undrain them or say what happened."""
    one = fleet(2)
    one.inventory(hotpmem_batches=[1], hotpmem_failure_budget=2)
    if module == "rollout_facts":
        one.script("node1", unreachable=True)
    else:
        one.script("node1", unreachable=module)
    done = one.rolling_reboot()
    assert done.returncode == 2 and one.reboots()["node2"] == 1, done.stdout
    if module == "rollout_facts":
        assert "node1" in one.events("run_planned")[0]["unreachable"] and "node1 was not rebooted. The host did not answer" in said(done)
    else:
        assert one.ended() == {"node1": ["failed"], "node2": ["kept"]} and "No route to host" in one.events("host_ended")[0]["msg"]


def test_unreachable_in_the_plan_counts_as_failed(fleet: Callable[..., Fleet]) -> None:
    """It spends the default budget before anything begins. What the operator is told to do works, word by word."""
    one = fleet(3, node3={"unreachable": True})
    done = one.rolling_reboot()
    assert done.returncode == 2 and set(one.reboots().values()) == {0} and one.journals() == []  # so nothing is latched
    assert "unreachable: The host did not answer: Failed to connect to node3" in said(done)
    todo = "leave it out with --limit 'all:!node3', or allow more failures with -e hotpmem_failure_budget=2."
    assert "The failure budget of 1 is spent before the first host" in said(done) and todo in said(done)
    assert one.rolling_reboot("--limit", "all:!node3", hotpmem_batches="[3]").returncode == 0
    assert list(one.reboots().values()) == [1, 1, 0]
    done = one.rolling_reboot(hotpmem_failure_budget="2", hotpmem_batches="[3]")
    assert done.returncode == 2 and list(one.reboots().values()) == [2, 2, 0] and "1 unreachable" in said(done)
    assert one.events("run_planned")[1]["counts"]["spent"] == 1


def test_unreachable_at_its_turn(fleet: Callable[..., Fleet]) -> None:
    one = fleet(2, node1={"unreachable": "command"})
    done = one.rolling_reboot(hotpmem_batches="1")
    assert done.returncode == 2 and set(one.reboots().values()) == {0} and one.ended() == {"node1": ["failed"]}
    ended = one.events("host_ended")[0]
    assert "No route to host" in ended["msg"] and "It was not rebooted." in ended["msg"] and "-e retry_failed=true" in ended["next"]
    assert "rollout_clear" in said(done) and one.events("budget_spent")


def test_refused_hosts_are_named_and_do_not_count(fleet: Callable[..., Fleet]) -> None:
    one = fleet(3, node1={"refuse": "no kernel is loadable"})
    settings = json.loads((one.hosts / "node.json").read_text())
    one.script("node2", settings=json.dumps({**settings, "road": "dax"}))
    done = one.rolling_reboot(hotpmem_batches="[1]")
    assert done.returncode == 2 and list(one.reboots().values()) == [0, 0, 1] and one.ended() == {"node3": ["kept"]}
    refused = one.events("run_planned")[0]["refused"]
    differs = "Its settings differ from the inventory: road is 'dax' on the host and 'raw' in the inventory."
    assert refused["node1"] == "no kernel is loadable" and refused["node2"].startswith(differs)
    text = said(done).replace("''", "'")
    assert "node1 was refused and not rebooted: no kernel is loadable" in text and f"refused: {differs}" in text
    # The host's turn brings them up to date.
    done = one.rolling_reboot("--check", "--limit", "node2", hotpmem_sync_settings="true")
    assert "1 of 1 hosts will be rebooted" in said(done) and "its settings are updated first: road is" in said(done)


def test_a_cold_start_spends_the_warning_budget(fleet: Callable[..., Fleet]) -> None:
    one = fleet(4, node1={"cold": "cache"})
    slow = {**one.read("node2"), "down": 9.0}
    one.write("node2", slow)
    done = one.rolling_reboot(hotpmem_batches="1", hotpmem_warning_budget="2")
    assert one.ended() == {"node1": ["cold"], "node2": ["kept"]} and done.returncode == 2
    assert "The warning budget of 2 is spent by node1, node2. No further run begins until you clear this" in said(done)
    assert "The service was down for 9.0 s" in one.events("host_ended")[1]["warnings"][0]
    assert one.events("budget_spent")[0]["kind"] == "warning" and one.events("run_stopped")


def test_a_warning_budget_that_the_last_batch_spends(fleet: Callable[..., Fleet]) -> None:
    one = fleet(1, node1={"cold": "cache"})
    done = one.rolling_reboot(hotpmem_warning_budget="1")
    assert done.returncode == 2 and one.events()[-1]["event"] == "run_ended" and not one.events("run_stopped")
    assert "The warning budget of 1 is spent by node1. No further run begins until you clear this" in said(done)
    assert "is under way" not in said(done) and one.rolling_reboot().returncode == 2 and one.reboots() == {"node1": 1}
    assert one.clear().returncode == 0 and "with every host done. This is a new run" in said(one.rolling_reboot("--check"))


def test_failure_domains_and_order(fleet: Callable[..., Fleet]) -> None:
    one = fleet(6)
    one.inventory({name: {"rack": "ab"[number % 2]} for number, name in enumerate(one.names)})
    done = one.rolling_reboot(hotpmem_batches="[3]", hotpmem_failure_domain="rack", hotpmem_order='["node3"]')
    assert done.returncode == 0, done.stdout
    assert [line["hosts"] for line in one.events("batch_begun")] == [["node3", "node2"], ["node1", "node4"], ["node5", "node6"]]


def test_outside_the_window_nothing_begins(fleet: Callable[..., Fleet]) -> None:
    one = fleet(2)
    closed = '[{"days": ["%s"], "from": "00:00", "to": "00:30"}]' % ("thu" if _weekday() not in (3, 4) else "mon")
    done = one.rolling_reboot(hotpmem_windows=closed)
    assert done.returncode == 0 and set(one.reboots().values()) == {0} and one.events("run_stopped")[0]["reason"] == "window"
    assert "The next one opens at" in said(done) and "2 not begun" in said(done)
    done = one.rolling_reboot(hotpmem_windows='[{"from": "00:00", "to": "24:00"}]')  # no latch: the run goes on
    assert done.returncode == 0 and set(one.reboots().values()) == {1} and len(one.journals()) == 1


def _weekday() -> int:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).weekday()


def test_a_second_controller_run_is_refused(fleet: Callable[..., Fleet]) -> None:
    one = fleet(2, node1={"slow": 6})
    first = one.start(one.words(confirm="false"))
    try:
        while not one.events("host_begun"):
            assert first.poll() is None
        second = one.rolling_reboot()
        assert second.returncode == 2 and "is under way" in said(second)
    finally:
        first.communicate(timeout=120)
    assert first.returncode == 0 and one.reboots() == {"node1": 1, "node2": 1}
