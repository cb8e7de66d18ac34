# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout over six machines, as an operator runs it: plan, a failure that stops it, clearing, and going on. In the order of this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(os.environ["HOTPMEM_CHECKOUT"])
sys.path.insert(0, str(CHECKOUT / "tests/lab"))
from hotlab import lab

LAB = os.environ["HOTPMEM_LAB"]
BUILD = CHECKOUT / "build/molecule" / LAB
HOSTS = [f"node{number}" for number in range(1, 7)]
JOURNAL = BUILD / "journal"
# With what the machines were provisioned (base.yml). Other settings would be refused.
SETTINGS = [f"hotpmem_{name}={os.environ['HOTPMEM_' + name.upper()]}" for name in ("node_agent", "road", "jump_initrd", "jump_check")]
ANSIBLE = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", str(lab.folder(LAB) / "inventory.yml")]


def ssh(host: str, command: str) -> str:
    done = subprocess.run([*lab.ssh_command(LAB, host), command], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def boots() -> dict[str, str]:
    return {host: ssh(host, "cat /proc/sys/kernel/random/boot_id") for host in HOSTS}


def play(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the collection as the operator would, with the scenario's variables. Its output also goes to a file."""
    command = [
        *ANSIBLE, f"hotpmem.fleet.{name}",
        "--extra-vars", f"@{CHECKOUT}/{os.environ['HOTPMEM_VARS']}", "--extra-vars", f"hotpmem_journal_dir={JOURNAL}",
        *(word for one in SETTINGS for word in ("--extra-vars", one)), *words,
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200, check=False)
    with (BUILD / "rollout.log").open("a") as log:
        log.write(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}\nended with {done.returncode}\n")
    return done


def events() -> list[dict]:
    """The lines of all journals, oldest first."""
    return [json.loads(line) for path in sorted(JOURNAL.glob("*/*.jsonl")) for line in path.read_text().splitlines()]


def ended() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events():
        if event["event"] == "host_ended":
            found.setdefault(event["host"], []).append(event["outcome"])
    return found


@pytest.fixture(scope="module")
def first() -> dict[str, str]:
    """The boots before anything."""
    return boots()


def test_check_shows_the_plan_and_changes_nothing(first):
    done = play("rolling_reboot", "--check")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all(host in done.stdout for host in HOSTS)
    assert boots() == first and events() == []


def test_without_an_answer_nothing_is_rebooted(first):
    done = play("rolling_reboot")
    assert done.returncode != 0 and "confirm=false" in done.stdout + done.stderr
    assert boots() == first


def test_a_host_that_fails_its_gate_stops_the_rollout(first):
    ssh("node3", "touch /root/broken")
    done = play("rolling_reboot", "-e", "confirm=false")
    assert done.returncode != 0, done.stdout[-3000:]
    now = boots()
    changed = [host for host in HOSTS if now[host] != first[host]]
    assert changed == ["node1", "node2", "node3"], done.stdout[-6000:]
    assert ended() == {"node1": ["kept"], "node2": ["kept"], "node3": ["failed"]}
    assert "The application is well" in done.stdout


def test_spent_is_spent_until_somebody_clears_it():
    before = boots()
    done = play("rolling_reboot", "-e", "confirm=false")
    assert done.returncode != 0 and "rollout_clear" in done.stdout + done.stderr
    assert boots() == before


def test_cleared_and_mended_it_goes_on(first):
    before = boots()
    ssh("node3", "rm /root/broken")
    assert play("rollout_clear").returncode != 0  # it wants a reason
    done = play("rollout_clear", "-e", '{"reason": "node3 is well again"}')
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    done = play("rolling_reboot", "-e", "confirm=false", "-e", "retry_failed=true")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    now = boots()
    # Those that were done are left alone.
    assert [host for host in HOSTS if now[host] == before[host]] == ["node1", "node2"]
    assert ended() == {host: ["failed", "kept"] if host == "node3" else ["kept"] for host in HOSTS}
    assert events()[-1]["event"] == "run_ended"


def test_every_host_kept_its_state():
    done = subprocess.run(
        [*ANSIBLE, str(CHECKOUT / "tests/demo/check.yml"), "--extra-vars", f"demo_manifests={BUILD}"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_report_has_every_host():
    done = play("report", "-e", f"hotpmem_report_html={BUILD}/report.html")
    assert done.returncode == 0, done.stdout[-3000:]
    page = (BUILD / "report.html").read_text()
    assert all(host in page for host in HOSTS)
