#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rolling reboot costs the controller: seconds, SSH exchanges and module calls a host, on 1, 2, 4 and 6 lab machines.

A wrapper around ssh writes down every exchange. An exchange whose command runs Ansible's Python is a module call. The rest are a handoff's
commands and its questions whether the machine is back. The machines are emulated: the counts and their growth count, not the seconds.

Usage: rollout_cost.py [--hosts 1,2,4,6] [--mib 30] [--out build/bench/rollout_cost.json] [--keep]
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "tests/lab"), str(TOP / "tests/demo")]
import lab_play
from hotlab import lab, machine

NAME = "fleet"
BUILD = TOP / "build/bench/rollout_cost"

# $EPOCHREALTIME needs no process. The last word is the remote command; a tab and a newline never stand in it unquoted.
WRAPPER = """#!/bin/bash
printf '%s\\t%s\\n' "$EPOCHREALTIME" "$(printf '%q ' "$@")" >> "$HOTPMEM_SSH_LOG"
exec ssh "$@"
"""


def exchanges(log: str, hosts: list[str]) -> dict[str, dict[str, int]]:
    """Count the lines of the wrapper's log.

    Returns, for each host, ``modules``, ``handoff`` (the command that starts it), ``polls`` (questions whether it is back), ``other``, and
    ``during``: module calls between the start of its handoff and its last poll.
    """
    seen: dict[str, list[str]] = {host: [] for host in hosts}
    for line in log.splitlines():
        for host in set(line.split()) & set(seen):
            seen[host].append(kind(line))
    result = {}
    for host, kinds in seen.items():
        inside = kinds[kinds.index("handoff") : len(kinds) - kinds[::-1].index("poll")] if {"handoff", "poll"} <= set(kinds) else []
        counts = {
            name: kinds.count(word) for name, word in (("modules", "module"), ("handoff", "handoff"), ("polls", "poll"), ("other", "other"))
        }
        result[host] = {**counts, "during": inside.count("module")}
    return result


def kind(line: str) -> str:
    """What an exchange was for: ``handoff``, ``poll``, ``module`` or ``other``."""
    if "handoff" in line and "--detach" in line:
        return "handoff"
    if "random/boot_id" in line and "/proc/uptime" in line:  # a gate asks for the boot too, and not for its age
        return "poll"
    return "module" if re.search(r"python3?\S*(\\ |\s)", line) else "other"


class Bench:
    """The machines, and plays on some of them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.inventory = lab.folder(NAME) / "inventory.yml"
        BUILD.mkdir(parents=True, exist_ok=True)
        self.wrapper = BUILD / "ssh"
        self.wrapper.write_text(WRAPPER)
        self.wrapper.chmod(stat.S_IRWXU)

    def play(self, playbook: str, log: str, limit: str = "all", **variables: Any) -> float:
        """Run a play with the wrapper. Returns its seconds. Raises RuntimeError."""
        command = lab_play.command(self.inventory, playbook, "--limit", limit, **variables)
        env = lab_play.environment(ANSIBLE_SSH_EXECUTABLE=str(self.wrapper), HOTPMEM_SSH_LOG=str(BUILD / f"{log}.ssh"))
        (BUILD / f"{log}.ssh").write_text("")
        begin = time.monotonic()
        with (BUILD / f"{log}.log").open("w") as file:
            done = subprocess.run(command, env=env, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise RuntimeError(f"{playbook} ended with {done.returncode}: see {BUILD}/{log}.log")
        return time.monotonic() - begin

    def rollout(self, count: int) -> dict[str, Any]:
        """A whole rolling reboot of the first `count` hosts, in one batch after the canary."""
        hosts = [f"node{number}" for number in range(1, count + 1)]
        log = f"rollout-{count}"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = self.play(
            "hotpmem.fleet.rolling_reboot", log, ",".join(hosts),
            confirm=False, hotpmem_batches=[1, "100%"], hotpmem_rollout=f"bench-{count}", hotpmem_journal_dir=str(BUILD / "journal"),
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        each = exchanges((BUILD / f"{log}.ssh").read_text(), hosts)
        return {"hosts": count, "seconds": round(seconds, 1), "controller_cpu_seconds": round(cpu, 1), "each": each}

    def run(self) -> list[dict[str, Any]]:
        """Set the machines up, then roll out on more and more of them."""
        most = max(self.args.hosts)
        lab.up(NAME, most, machine.Spec("6.1", "e820", "snapshot", "2G", 1, "auto"))
        self.play("hotpmem.fleet.provision", "provision")
        self.play(str(TOP / "tests/demo/memcached.yml"), "memcached")
        self.play(str(TOP / "tests/demo/fill.yml"), "fill", demo_mib=self.args.mib, demo_manifests=str(BUILD))
        rows = []
        for count in self.args.hosts:
            rows.append(self.rollout(count))
            print(describe(rows[-1]), flush=True)
        self.play(str(TOP / "tests/demo/check.yml"), "check", demo_manifests=str(BUILD))
        return rows


def describe(row: dict[str, Any]) -> str:
    """One line for a person."""
    each = list(row["each"].values())
    spread = ", ".join(
        f"{name} {min(one[name] for one in each)} to {max(one[name] for one in each)}" for name in ("modules", "polls", "other", "during")
    )
    return (
        f"{row['hosts']} hosts: {row['seconds']} s, {row['controller_cpu_seconds'] / row['hosts']:.1f} s of the controller's CPU a host; "
        f"exchanges a host: {spread}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hosts", default="1,2,4,6", type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--mib", type=int, default=30)
    parser.add_argument("--out", type=Path, default=TOP / "build/bench/rollout_cost.json")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    machine.interrupt_as_exception()
    try:
        rows = Bench(args).run()
    finally:
        if not args.keep:
            lab.down(NAME)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
