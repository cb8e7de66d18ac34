# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""rolling_reboot over hosts that do not exist: controllers that are killed, windows that close, hosts that stay away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, family, said


def kill_when(one: Fleet, condition: Callable[[], Any], **variables: Any) -> None:
    """Start a run, and kill it with all its workers when the condition holds."""
    with (one.where / "killed.log").open("w", encoding="utf-8") as log:
        process = one.start(one.words(confirm="false", **variables), output=log)
        while not condition():
            assert process.poll() is None, (one.where / "killed.log").read_text(encoding="utf-8")
            time.sleep(0.05)
        for pid in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def once(flag: Path, log: Path) -> list[str]:
    """A command that hangs the first time it runs."""
    return ["sh", "-c", f"echo $HOTPMEM_POINT >> {log}; [ -e {flag} ] || {{ touch {flag}; exec sleep 90; }}"]


def test_a_kill_after_the_last_host_loses_nothing_and_does_nothing_twice(fleet: Callable[..., Fleet]) -> None:
    """The last line of the journal comes after the hooks, the notices and the lease, so the next start ends this run."""
    one = fleet(2)
    flag, log = one.where / "flag", one.where / "log"
    one.inventory(hotpmem_hooks={"after_run": [{"name": "tell", "command": once(flag, log), "timeout": 100}]}, hotpmem_batches=[2])
    kill_when(one, flag.exists)
    assert one.ended() == {"node1": ["kept"], "node2": ["kept"]} and not one.events("run_ended")
    done = one.rolling_reboot()
    assert done.returncode == 0 and "goes on: 2 hosts are done" in said(done), done.stdout
    assert one.reboots() == {"node1": 1, "node2": 1} and len(one.journals()) == 1 and one.events()[-1]["event"] == "run_ended"
    assert log.read_text().split() == ["after_run", "after_run"]
    # Only now is it over, and the plan of the next run says so.
    done = one.rolling_reboot("--check")
    assert f"The last run {one.journals()[0].stem} ended" in said(done) and "ago, with every host done. This is a new run" in said(done)


def test_a_hook_after_the_run_that_fails_is_run_again(fleet: Callable[..., Fleet]) -> None:
    """It does not keep the lease, and no host is rebooted again for it."""
    one = fleet(1)
    flag, lease = one.where / "flag", one.where / "lease.json"
    hook = {"name": "tell", "command": ["test", "-e", str(flag)]}
    one.inventory(hotpmem_hooks={"after_run": [hook]}, hotpmem_fleet_lease={"host": "localhost", "path": str(lease)})
    done = one.rolling_reboot()
    assert done.returncode == 2 and "A hook after the run failed" in said(done) and not one.events("run_ended") and not lease.exists()
    flag.touch()
    assert one.rolling_reboot().returncode == 0 and one.reboots() == {"node1": 1} and one.events()[-1]["event"] == "run_ended"


def test_the_order_of_blockers_lease_drain_and_undrain(fleet: Callable[..., Fleet]) -> None:
    """A blocked host does not hold the lease, and no host is drained without it."""
    one = fleet(1)
    log, lease = one.where / "log", one.where / "lease.json"

    def command(word: str) -> list[str]:
        return ["sh", "-c", f"[ -e {lease} ] && held=held || held=free; echo {word} $held >> {log}"]

    points = ("before_run", "before_host", "drain", "undrain", "after_host", "after_run")
    one.inventory(
        hotpmem_hooks={point: [{"name": "log", "command": command(point)}] for point in points},
        hotpmem_blockers=[{"name": "log", "command": command("blocker")}],
        hotpmem_fleet_lease={"host": "localhost", "path": str(lease)},
    )
    done = one.rolling_reboot()
    assert done.returncode == 0, done.stdout
    assert log.read_text().splitlines() == [
        "blocker free", "before_run held", "blocker held", *(f"{point} held" for point in points[1:])
    ]  # fmt: skip
    assert not lease.exists()


def test_a_host_is_not_begun_while_another_is_down(fleet: Callable[..., Fleet]) -> None:
    """The budget would allow it. A blocker that looks at the fleet does not."""
    one = fleet(3, node2={"unreachable": True})
    up = ["sh", "-c", f"! grep -q '\"unreachable\": true' {one.hosts}/node*.json"]
    one.inventory(hotpmem_blockers=[{"name": "all hosts are up", "command": up, "on_block": "refuse"}], hotpmem_failure_budget=3)
    done = one.rolling_reboot(hotpmem_batches="1")
    assert done.returncode == 2 and set(one.reboots().values()) == {0}
    assert one.ended() == {"node1": ["refused"], "node3": ["refused"]} and "all hosts are up" in one.events("host_ended")[0]["msg"]


def test_an_orphan_reboots_a_host_while_the_run_goes_on(fleet: Callable[..., Fleet]) -> None:
    """A worker that outlives its controller may end its task late: after the plan of the next start, or after the host was begun again."""
    one = fleet(2)
    flag, log = one.where / "flag", one.where / "log"
    orphan = ["python3", "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{ORPHAN}", str(one.hosts)]
    drains = {"undrain": [{"name": "log", "command": ["true"]}], "drain": [{"name": "log", "command": once(flag, log), "timeout": 100}]}
    one.inventory(hotpmem_hooks=drains, hotpmem_batches=[2])
    kill_when(one, flag.exists)
    assert {line["host"] for line in one.events("host_drained")} == {"node1", "node2"} and set(one.reboots().values()) == {0}
    # A hook that keeps the run from beginning leaves no host drained either.
    no = {"name": "no", "command": ["false"]}
    one.inventory(hotpmem_hooks={**drains, "before_run": [no]}, hotpmem_batches=[2])
    assert one.rolling_reboot().returncode == 2 and len(one.events("run_stopped")) == 1
    assert {line["host"] for line in one.events("host_undrained")} == {"node1", "node2"}
    one.inventory(
        hotpmem_hooks={
            "before_run": [{"name": "orphan", "command": [*orphan, "node1"]}],
            **drains,
            "before_host": [{"name": "orphan", "command": [*orphan, "node2"]}],
        },
        hotpmem_batches=[1],
    )
    done = one.rolling_reboot()
    assert done.returncode == 0, done.stdout
    assert one.reboots() == {"node1": 1, "node2": 1} and one.ended() == {"node1": ["kept"], "node2": ["kept"]}
    assert [line["finish"] for line in one.events("host_begun")[2:]] == [True, False]


# Reboots a host, once, as its handoff does.
ORPHAN = """
import pathlib, time
from standin_host import Host, new_boot
host = Host(pathlib.Path(sys.argv[1]), sys.argv[2])
with host.changed() as state:
    if not state["reboots"]:
        now = time.time()
        state["handoff"] = {"at": now, "until": now, "boot_id": new_boot(), "run": "orphan", "fails": False, "kernel": state["kernel"]}
with host.changed():
    pass
"""


def window(begins: datetime, ends: datetime) -> str:
    return json.dumps([{"from": f"{begins:%H:%M}", "to": f"{ends:%H:%M}"}])


def minute_after_the_plan(one: Fleet, times: float) -> datetime:
    """A whole minute that comes after so many times what a plan takes on this machine, and half a minute."""
    begin = time.monotonic()
    assert one.rolling_reboot("--check").returncode == 0
    found = datetime.now(timezone.utc) + timedelta(seconds=times * (time.monotonic() - begin) + 90)
    return found.replace(second=0, microsecond=0)


def test_a_run_waits_for_its_window(fleet: Callable[..., Fleet]) -> None:
    """The lease is free until then. Nothing is latched or lost when the wait ends early."""
    one = fleet(1)
    lease, opens = one.where / "lease.json", datetime.now(timezone.utc) + timedelta(minutes=30)
    one.inventory(hotpmem_fleet_lease={"host": "localhost", "path": str(lease)})
    shut = window(opens, opens + timedelta(hours=1))
    log = one.where / "killed.log"
    kill_when(one, lambda: "waiting for the window that opens at" in log.read_text(), hotpmem_windows=shut, hotpmem_outside_window="wait")
    assert not lease.exists() and not one.events("batch_begun") and one.reboots() == {"node1": 0}
    done = one.rolling_reboot(hotpmem_outside_window="wait", hotpmem_windows='[{"from": "00:00", "to": "24:00"}]')
    assert done.returncode == 0 and one.reboots() == {"node1": 1} and len(one.journals()) == 1 and not lease.exists()


def test_a_window_that_closes_inside_a_batch(fleet: Callable[..., Fleet]) -> None:
    """The hosts of the batch that were not begun are named, and the next start takes them up."""
    one = fleet(2)
    closes = minute_after_the_plan(one, 8)
    # The first host answers at its turn when the window is closed, and only one fork is there.
    one.script("node1", sleeps=(closes + timedelta(seconds=1)).timestamp())
    open_now = window(closes - timedelta(hours=1), closes)
    done = one.rolling_reboot("--forks", "1", hotpmem_batches="2", hotpmem_windows=open_now)
    assert one.events("batch_begun")[0]["hosts"] == ["node1", "node2"], done.stdout
    assert one.reboots() == {"node1": 1, "node2": 0} and one.ended() == {"node1": ["kept"]}
    assert "node2 is not begun. No window is open long enough" in said(done) and "1 not begun" in said(done)
    assert done.returncode == 0 and one.events("run_stopped")[0]["reason"] == "window"
    done = one.rolling_reboot(hotpmem_windows='[{"from": "00:00", "to": "24:00"}]')
    assert done.returncode == 0 and one.reboots() == {"node1": 1, "node2": 1} and len(one.journals()) == 1


def test_a_host_that_never_comes_back(fleet: Callable[..., Fleet]) -> None:
    """It is waited for as long as the variables say. The operator sees what the host does, and then what to do."""
    one = fleet(2)
    settings = json.loads((one.hosts / "node.json").read_text())
    (one.hosts / "node.json").write_text(json.dumps({**settings, "offline_timeout": 10.0, "copy_timeout": 10.0}))
    one.inventory(hotpmem_offline_timeout=10, hotpmem_copy_timeout=10, hotpmem_reboot_timeout=20, hotpmem_batches=[1])
    one.script("node1", handoff="never")
    # This one is lost before its handoff begins.
    one.script("node2", unreachable="handoff")
    done = one.rolling_reboot(hotpmem_failure_budget="2")
    assert done.returncode == 2 and set(one.reboots().values()) == {0}
    assert "node1: waiting for its new boot, it does not answer (3" in said(done) and "at most 40 s)" in said(done)
    never, lost = one.events("host_ended")
    assert never["outcome"] == lost["outcome"] == "failed"
    assert "the host did not answer within 40 s after the jump. See its console." in never["msg"]
    assert never["seconds"] >= 40 and "-e retry_failed=true" in never["next"] and "-e retry_failed=true" in lost["next"]


def test_the_report_says_what_the_journal_says(fleet: Callable[..., Fleet]) -> None:
    """A host that failed before it had a mark, and one that did not answer at all."""
    one = fleet(3, node1={"handoff": "fails"}, node2={"unreachable": True})
    one.rolling_reboot(hotpmem_failure_budget="3", hotpmem_batches="3")
    page = one.where / "page.html"
    done = one.run(one.words(playbook="hotpmem.fleet.report", hotpmem_report_html=str(page)))
    text = " ".join(page.read_text(encoding="utf-8").split())
    for words in ("Cannot save: it changed.", "Look at the host with hotpmem.fleet.status", "-e retry_failed=true"):
        assert words in text and words in said(done), words
    assert text.count("node2: did not answer in a rollout") == 1 and "Look at its console and its network." in text
    assert "node3: failed" not in text


@pytest.mark.parametrize("script", [{"slow": 25}, {"slow": 25, "answers": 24}], ids=["down", "handing off"])
def test_a_host_that_is_away_when_the_next_start_looks_is_waited_for(fleet: Callable[..., Fleet], script: dict[str, Any]) -> None:
    """It is neither unreachable nor held by somebody else: it is on its way, and no failure of the budget."""
    one = fleet(2, node1=script)
    kill_when(one, lambda: one.read("node1")["handoff"], hotpmem_batches=[1])
    done = one.rolling_reboot(hotpmem_batches=[1])
    assert done.returncode == 0 and "node1: its handoff was under way when the last controller died;" in said(done), done.stdout
    assert one.reboots() == {"node1": 1, "node2": 1} and one.ended() == {"node1": ["kept"], "node2": ["kept"]}


def test_a_host_that_stays_away_is_waited_for_once(fleet: Callable[..., Fleet]) -> None:
    """Its time is that of the handoff, whoever waits."""
    one = fleet(2, node1={"slow": 600})
    kill_when(one, lambda: one.read("node1")["handoff"], hotpmem_batches=[1])
    done = one.rolling_reboot(hotpmem_batches=[1], hotpmem_reboot_timeout=12)
    assert done.returncode == 2 and "(0 s, at most" not in said(done) and "spent by node1" in said(done), done.stdout
    assert one.reboots() == {"node1": 0, "node2": 0}
