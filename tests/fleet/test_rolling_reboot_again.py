# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""rolling_reboot over hosts that do not exist: starts with a part of the fleet, with nothing to do, or without hosts that are gone."""

from __future__ import annotations

import json
from collections.abc import Callable

from fleet import Fleet, said
from test_rolling_reboot_faults import kill_when, once


def test_a_start_with_a_limit_neither_ends_the_run_nor_forgets_a_drained_host(fleet: Callable[..., Fleet]) -> None:
    one = fleet(3)
    flag, log = one.where / "flag", one.where / "log"
    hooks = {"drain": [{"name": "log", "command": once(flag, log), "timeout": 100}], "undrain": [{"name": "log", "command": ["true"]}]}
    one.inventory(hotpmem_hooks=hooks, hotpmem_batches=[1])
    kill_when(one, flag.exists)
    assert [line["host"] for line in one.events("host_drained")] == ["node1"] and set(one.reboots().values()) == {0}
    done = one.rolling_reboot("--limit", "node2", hotpmem_failure_budget="2")
    assert one.reboots() == {"node1": 0, "node2": 1, "node3": 0} and not one.events("run_ended"), done.stdout
    assert "this start left out node3, node1. Run the playbook again without --limit" in said(done)
    assert one.events("run_stopped")[0]["reason"] == "limit"
    done = one.rolling_reboot()
    assert done.returncode == 0, done.stdout
    # It is undrained before anything else.
    events = [(line["event"], line.get("host")) for line in one.events()]
    last = max(place for place, event in enumerate(events) if event[0] == "run_resumed")
    assert events.index(("host_undrained", "node1"), last) < events.index(("batch_begun", None), last)
    assert set(one.reboots().values()) == {1} and len(one.journals()) == 1 and one.events()[-1]["event"] == "run_ended"


def test_a_lost_host_that_is_gone_for_good_is_forgiven_when_the_budget_is_cleared(fleet: Callable[..., Fleet]) -> None:
    one = fleet(2, node1={"slow": 600})
    one.inventory(hotpmem_batches=[1], hotpmem_reboot_timeout=2)
    kill_when(one, lambda: one.read("node1")["handoff"])
    gone = "all:!node1"
    done = one.rolling_reboot("--limit", gone)
    assert done.returncode == 2 and "The failure budget of 1 is spent by node1 (lost)" in said(done), done.stdout
    assert one.clear("node1 was scrapped").returncode == 0
    done = one.rolling_reboot("--limit", gone)
    assert done.returncode == 0 and one.reboots() == {"node1": 0, "node2": 1} and one.events()[-1]["event"] == "run_ended", done.stdout


def test_hosts_that_were_unreachable_or_refused_are_tried_again(fleet: Callable[..., Fleet]) -> None:
    """The command that the failure names does not reboot the others again."""
    one = fleet(3, node1={"unreachable": True}, node2={"refuse": "no kernel is loadable"})
    done = one.rolling_reboot(hotpmem_failure_budget="2")
    assert done.returncode == 2 and one.events()[-1]["event"] == "run_ended"
    assert said(done).count("run the playbook again with -e retry_failed=true") >= 2, done.stdout
    one.script("node1")
    one.script("node2")
    done = one.rolling_reboot(retry_failed="true")
    assert done.returncode == 0 and set(one.reboots().values()) == {1} and len(one.journals()) == 1, done.stdout


def test_a_start_with_nothing_to_do_runs_no_hook_and_tells_nobody(fleet: Callable[..., Fleet]) -> None:
    """As a cron job with hotpmem_only_when finds it on most days."""
    one = fleet(1)
    log = one.where / "log"
    point = [{"name": "log", "command": ["sh", "-c", f"echo $HOTPMEM_POINT >> {log}"]}]
    one.inventory(
        hotpmem_hooks={"before_run": point, "after_run": point},
        hotpmem_only_when="kernel",
        hotpmem_notify=[{"name": "nobody", "webhook": "http://127.0.0.1:9/"}],
    )
    done = one.rolling_reboot()
    assert done.returncode == 0 and "No host will be rebooted." in said(done), done.stdout
    assert not log.exists() and "nobody" not in said(done)


def test_the_variables_of_each_group_are_checked(fleet: Callable[..., Fleet]) -> None:
    """Before any host is asked, also if only the last host has them."""
    one = fleet(2)
    gates = [{"name": "page", "http": "node2:8080"}]
    one.inventory({"node2": {"hotpmem_gates": gates, "hotpmem_reboot_method": "kexec"}}, hotpmem_make_default="maybe")
    done = one.rolling_reboot()
    text = said(done)
    assert done.returncode == 2 and "hotpmem_gates[0].http must be a URL" in text and "(host node2)" in text, done.stdout
    assert "hotpmem_reboot_method must be one of systemd, fast, firmware" in text
    # What all hosts have is said once, as often as what one of them has.
    assert text.count("hotpmem_make_default must be true") == text.count("hotpmem_gates[0].http must be a URL")
    assert one.read("node1")["calls"] == {} and one.journals() == []


def test_a_host_whose_settings_cannot_be_compared_is_refused(fleet: Callable[..., Fleet]) -> None:
    """The others go on, and it is named."""
    one = fleet(4)
    one.script("node1", settings="[1]")
    one.script("node2", settings=json.dumps({"items": 5}))
    one.inventory({"node3": {"hotpmem_items": [{"name": "cache", "path": "not/absolute"}]}})
    done = one.rolling_reboot(hotpmem_batches="[1]")
    assert done.returncode == 2 and list(one.reboots().values()) == [0, 0, 0, 1], done.stdout
    refused = one.events("run_planned")[0]["refused"]
    assert set(refused) == {"node1", "node2", "node3"} and "not/absolute" in refused["node3"], refused


def test_no_host_is_begun_while_too_many_of_its_failure_domain_are_down(fleet: Callable[..., Fleet]) -> None:
    """The budget would allow it. A host that failed may be down, or may not serve."""
    one = fleet(4, node1={"handoff": "fails"})
    one.inventory({name: {"rack": "aabb"[number]} for number, name in enumerate(one.names)})
    wanted = {"hotpmem_batches": "1", "hotpmem_failure_domain": "rack", "hotpmem_failure_budget": "3"}
    done = one.rolling_reboot(**wanted)
    assert done.returncode == 2 and list(one.reboots().values()) == [0, 0, 1, 1], done.stdout
    assert "node2 is not begun. node1 (failed) of the same failure domain (a) failed in this run" in said(done)
    one.script("node1")
    done = one.rolling_reboot(retry_failed="true", **wanted)
    assert done.returncode == 0 and set(one.reboots().values()) == {1} and len(one.journals()) == 1, done.stdout
