# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""rolling_reboot, run by ansible-playbook over hosts that do not exist. What others' users ran into is named by its issue."""

from __future__ import annotations

from collections.abc import Callable

from fleet import Fleet, said


def test_check_mode_shows_the_plan_and_changes_nothing(fleet: Callable[..., Fleet]) -> None:
    one = fleet(4, node2={"refuse": "item cache does not fit"}, node3={"unreachable": True})
    newer = {**one.read("node1"), "newest": "6.1.0-9"}
    one.write("node1", newer)
    done = one.rolling_reboot("--check", hotpmem_only_when="kernel", confirm="true")
    text = said(done)
    assert done.returncode == 0, done.stdout
    assert "1 of 4 hosts will be rebooted" in text and "refused: item cache does not fit" in text
    assert "unreachable: The host did not answer" in text and "left out: The running kernel is the newest installed one." in text
    assert one.journals() == [] and set(one.reboots().values()) == {0}


def test_wrong_variables_are_all_said_before_a_host_is_asked(fleet: Callable[..., Fleet]) -> None:
    one = fleet(2)
    one.inventory(hotpmem_hooks={"before_host": [{"name": "mine", "tasks": "missing.yml"}]})
    done = one.rolling_reboot(
        "--limit",
        "node1,nodd2",
        hotpmem_batches="0",
        hotpmem_failure_budget="101%",
        hotpmem_order="sideways",
        hotpmem_windows='[{"days": [], "from": "22:00", "to": "23:00"}]',
        hotpmem_failure_domain="rack",
        hotpmem_serial="2",
        hotpmem_max_fail_percentage="0",
    )
    text = said(done)
    assert done.returncode == 2
    for name in ("batches", "failure_budget", "order", "failure_domain", "serial"):
        assert f"hotpmem_{name}: " in text, name
    assert "hotpmem_windows: window 1: it never opens" in text
    assert "hotpmem_hooks.before_host[0].tasks names the file 'missing.yml', which does not exist" in text
    assert "hotpmem_max_fail_percentage: this variable was removed" in text and "--limit: nodd2" in text
    one.inventory(hotpmem_order=["node1", "nodd3"])
    assert "hotpmem_order: nodd3: not among the 2 hosts" in said(one.rolling_reboot())
    assert one.read("node1")["calls"] == {} and one.journals() == []


def test_a_canary_that_fails_stops_the_run_until_it_is_cleared(fleet: Callable[..., Fleet]) -> None:
    """A budget over all batches (ansible #3609, proposals #133); hosts that were not begun are named (#12735) and done by the next run."""
    one = fleet(3, node1={"down": "cache"})
    done = one.rolling_reboot(hotpmem_batches="[1, 2]")
    assert done.returncode == 2 and one.reboots() == {"node1": 1, "node2": 0, "node3": 0}
    assert [line["reason"] for line in one.events("run_stopped")] == ["budget"] and not one.events("run_ended")
    assert one.events("budget_spent")[0]["hosts"] == ["node1"] and len(one.events("budget_spent")) == 1
    assert "2 not begun" in said(done) and "hotpmem-node cold-start cache" in said(done)
    # The latch holds, with and without resume.
    for resume in ("true", "false"):
        refused = one.rolling_reboot(resume=resume)
        assert refused.returncode == 2 and "hotpmem.fleet.rollout_clear" in said(refused)
    assert one.clear("").returncode == 2 and one.clear("new DIMM", "--limit", "node3").returncode == 0
    assert one.events("budget_cleared")[0]["reason"] == "new DIMM"
    done = one.rolling_reboot(hotpmem_batches="[1, 2]")
    assert one.reboots() == {"node1": 1, "node2": 1, "node3": 1} and one.ended()["node3"] == ["kept"]
    assert done.returncode == 2 and "node1 (failed)" in said(done)  # named again, and not tried again
    one.script("node1")
    done = one.rolling_reboot(retry_failed="true")
    assert done.returncode == 0, done.stdout
    assert one.reboots() == {"node1": 2, "node2": 1, "node3": 1} and one.ended()["node1"] == ["failed", "kept"] and len(one.journals()) == 1


def test_a_connection_that_flaps_during_the_cycle_is_noticed(fleet: Callable[..., Fleet]) -> None:
    """The play ignores unreachable hosts, so each task after which something is given up must have run."""
    one = fleet(1, node1={"unreachable": "pmem_hotplug", "flaps": True})
    done = one.rolling_reboot()
    assert done.returncode == 2 and "did not answer during the hot-add" in one.events("host_ended")[0]["msg"]


def test_a_bad_kernel_stops_at_the_canary(fleet: Callable[..., Fleet]) -> None:
    """Even if the budget would allow more failures."""
    one = fleet(4, node1={"kernel": "6.12", "down": "cache"})
    hook = {"name": "balancer", "command": ["true"]}
    one.inventory(hotpmem_hooks={"drain": [hook], "undrain": [hook]})
    done = one.rolling_reboot(hotpmem_batches="[1]", hotpmem_failure_budget="4")
    assert done.returncode == 2 and list(one.reboots().values()) == [1, 0, 0, 0]
    assert one.events("run_stopped")[0]["reason"] == "bad_kernel" and "failed on the new kernel 6.12" in said(done)
    # No host stays drained, whatever happens to it.
    assert [line["event"] for line in one.events("host_drained", "host_undrained", "host_ended")] == [
        "host_drained",
        "host_undrained",
        "host_ended",
    ]
    assert "rollout_clear" in said(one.rolling_reboot(hotpmem_failure_budget="4"))


def test_a_journal_that_cannot_be_written(fleet: Callable[..., Fleet]) -> None:
    one = fleet(1)
    (one.where / "journals").write_text("a file")
    done = one.rolling_reboot()
    assert done.returncode == 2 and "hotpmem_journal_dir" in said(done) and one.reboots() == {"node1": 0}
