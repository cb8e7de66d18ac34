#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL for rolling_reboot and all its workers, again and again, on four lab machines: each host is rebooted once, or named.

Each run is a rolling reboot in batches of 1, 2 and 1. It is killed several times, at seeded moments that are spread over its journal. Each
time the same command is given again, and the last one runs to its end. Then each host must have booted once and be recorded once as
kept, or the journal must name it as failed. Every item must be right, and no host may be left drained.

Usage: rollout_kills.py [--kills 20] [--hosts 4] [--each 4] [--seed 1] [--mib 30]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(TOP / "tests/fleet"), str(TOP / "tests/demo")]
import lab_play
from fleet import family
from hotlab import lab, machine

NAME = "rolloutkills"
BUILD = TOP / "build/rollout_kills"
# A line in /root/boots for each boot: counted by other means than the collection's own.
COUNTER = """
cat > /etc/systemd/system/count-boots.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cat /proc/sys/kernel/random/boot_id >> /root/boots'
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable --now count-boots.service
"""
HOOK = {"name": "note", "command": ["true"]}


class Rollout:
    """One rolling reboot over all machines, whoever carries it on."""

    def __init__(self, name: str, hosts: list[str], args: argparse.Namespace) -> None:
        self.name, self.hosts, self.args = name, hosts, args
        self.log = BUILD / f"{name}.log"

    def start(self, playbook: str = "hotpmem.fleet.rolling_reboot") -> subprocess.Popen[bytes]:
        """Start the command that an operator would give, for the first time or again."""
        variables: dict[str, Any] = {
            "confirm": False,
            "demo_mib": self.args.mib,
            "demo_manifests": str(BUILD),
            "hotpmem_batches": [1, 2, 1],
            "hotpmem_hooks": {"drain": [HOOK], "undrain": [HOOK]},
            "hotpmem_journal_dir": str(BUILD / "journal"),
            "hotpmem_rollout": self.name,
        }
        command = lab_play.command(lab.folder(NAME) / "inventory.yml", playbook, **variables)
        env = lab_play.environment()
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env)

    def play(self, playbook: str) -> None:
        """Run a whole play. Raises AssertionError when it fails."""
        done = self.start(playbook).wait(1200)
        assert done == 0, f"{playbook} ended with {done}: {self.log}"

    def events(self) -> list[dict[str, Any]]:
        """The lines of the journal. A line that was cut short by a kill is left out, as the collection does."""
        found = []
        for path in sorted((BUILD / "journal" / self.name).glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

    def killed_at(self, moment: int, later: float) -> str:
        """Carry the rollout on, and kill it `later` seconds after event number `moment`.

        Returns the last event and its host, or an empty text when the rollout ended before that.
        """
        process = self.start()
        while process.poll() is None and len(self.events()) < moment:
            time.sleep(0.05)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(later)
            return ""
        # The workers lead their own sessions, so killing the process group would leave them.
        for pid in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        last = self.events()[-1] if self.events() else {"event": "nothing"}
        return f"{last['event']} {last.get('host') or ''}".strip()

    def ended(self) -> dict[str, list[str]]:
        """The outcomes of each host, in order."""
        found: dict[str, list[str]] = {host: [] for host in self.hosts}
        for event in self.events():
            if event["event"] == "host_ended":
                found[event["host"]].append(event["outcome"])
        return found


def ssh(host: str, command: str) -> str:
    done = subprocess.run([*lab.ssh_command(NAME, host), command], check=True, capture_output=True, text=True, timeout=120)
    return done.stdout


def boots(hosts: list[str]) -> dict[str, int]:
    return {host: len(ssh(host, "cat /root/boots").split()) for host in hosts}


def check(rollout: Rollout, before: dict[str, int]) -> str:
    """Each host was done once, or is named. Returns what became of them. Raises AssertionError."""
    rollout.play(str(TOP / "tests/demo/check.yml"))
    now, ended, events = boots(rollout.hosts), rollout.ended(), rollout.events()
    named = [host for host, outcomes in ended.items() if outcomes[-1:] != ["kept"]]
    done = [host for host in rollout.hosts if host not in named]
    assert all(ended[host] == ["kept"] and now[host] == before[host] + 1 for host in done), (before, now, ended)
    assert all(ended[host] and now[host] <= before[host] + 1 for host in named), (before, now, ended)
    last = {event["host"]: event["event"] for event in events if event["event"] in ("host_drained", "host_undrained")}
    assert set(last.values()) == {"host_undrained"}, last
    assert events[-1]["event"] == "run_ended", events[-1]
    assert len(list((BUILD / "journal" / rollout.name).glob("*.jsonl"))) == 1, "the run was not resumed"
    return f"{len(done)} hosts done once" + (f"; named: {', '.join(named)}" if named else "")


def one_run(number: int, args: argparse.Namespace, hosts: list[str], size: tuple[int, float]) -> int:
    """Kill one rollout several times. Returns how often it was killed."""
    lots = random.Random(f"{args.seed} {number}")
    rollout, before, kills = Rollout(f"run{number}", hosts, args), boots(hosts), 0
    events, seconds = size
    for _kill in range(args.each):
        # From where it is, so that a run that resumes gets on before the next kill.
        moment = len(rollout.events()) + lots.randrange(1, 2 * events // args.each)
        at = rollout.killed_at(moment, lots.uniform(0, 2 * seconds / events))
        if not at:
            break
        kills += 1
        print(f"run {number}: killed after {at}", flush=True)
        time.sleep(lots.uniform(0, 20))
    code = rollout.start().wait(1800)
    try:
        print(f"run {number}: killed {kills} times, ended with {code}: {check(rollout, before)}", flush=True)
    except AssertionError as error:
        raise AssertionError(f"run {number}, ended with {code}: {error}; see {rollout.log}") from error
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--each", type=int, default=4, help="kills in one run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mib", type=int, default=30)
    args = parser.parse_args()
    hosts = [f"node{number}" for number in range(1, args.hosts + 1)]
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    machine.interrupt_as_exception()
    try:
        lab.up(NAME, args.hosts, machine.Spec("6.1", "e820", "snapshot", "2G", 1, "auto"))
        first = Rollout("undisturbed", hosts, args)
        for playbook in ("hotpmem.fleet.provision", str(TOP / "tests/demo/memcached.yml"), str(TOP / "tests/demo/fill.yml")):
            first.play(playbook)
        for host in hosts:
            ssh(host, COUNTER)
        before, begin = boots(hosts), time.monotonic()
        first.play("hotpmem.fleet.rolling_reboot")
        size = len(first.events()), time.monotonic() - begin
        print(f"an undisturbed run takes {size[1]:.0f} s and writes {size[0]} events: {check(first, before)}", flush=True)
        kills = number = 0
        while kills < args.kills:
            number += 1
            kills += one_run(number, args, hosts, size)
    except (AssertionError, subprocess.SubprocessError) as error:
        print(f"rollout-kills: FAILED: {error}", flush=True)
        for host in hosts:
            subprocess.run([sys.executable, str(TOP / "tests/lab/lab.py"), "report", "--name", NAME, host], check=False)
        return 1
    finally:
        lab.down(NAME)
    print(f"rollout-kills: {kills} kills in {number} runs; every host was done once or named")
    return 0


if __name__ == "__main__":
    sys.exit(main())
