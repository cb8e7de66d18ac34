#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL for ansible-playbook at seeded moments of a cycle without the agent: each host must come to rest by itself, with its state.

Each round does this on each machine. It starts rolling_reboot, kills it and its ssh at a moment of the cycle, and lets the machine alone.
Within --bound seconds the service must answer with every item, in its old boot or the next one. The memory must be System RAM, and nobody
may hold the host. Then the play post_boot must succeed. At the end a whole rolling_reboot must succeed.

Usage: kills.py [--kills 30] [--hosts 2] [--seed 1] [--first 0.0] [--mib 60] [--bound 300] [--lease 60]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(TOP / "tests/demo")]
import lab_play
from hotlab import lab, machine

NAME = "kills"
BUILD = TOP / "build/kills"
ITEMS = TOP / "tests/demo/files/cache_items.py"
# What must be so on a host at rest, read by other means than the collection's own.
REST = """
cat /proc/sys/kernel/random/boot_id /sys/kernel/kexec_loaded
basename "$(readlink /sys/bus/dax/devices/dax0.0/driver)"
cat /sys/devices/system/memory/memory*/state | grep -c offline
systemctl is-active memcached.service
systemctl is-active hotpmem-handoff.service
ls /var/lib/hotpmem/pending /run/hotpmem/claim.json 2>/dev/null | wc -l
systemctl is-system-running
systemctl --failed --no-legend --plain | grep -cE "hotpmem|memcached"
"""


class Node:
    """One machine, and what happens to it, in order."""

    def __init__(self, host: str, args: argparse.Namespace) -> None:
        self.host, self.args = host, args
        self.random = random.Random(f"{args.seed} {host}")
        self.cycle = 0.0

    def ssh(self, command: str, timeout: float = 60, stdin: bytes | None = None) -> str:
        """What a command printed; empty when the machine does not answer."""
        words = [*lab.ssh_command(NAME, self.host), command]
        try:
            done = subprocess.run(words, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, input=stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.decode(errors="replace")

    def start(self, playbook: str) -> subprocess.Popen[bytes]:
        """Start a play in a new process group."""
        variables = {
            "confirm": False,
            "demo_manifests": str(BUILD),
            "demo_mib": self.args.mib,
            "hotpmem_journal_dir": str(BUILD / "rollouts"),
            "hotpmem_lease": self.args.lease,
            "hotpmem_node_agent": False,
            "hotpmem_rollout": self.host,
            "resume": False,
        }
        inventory = lab.folder(NAME) / "inventory.yml"
        command = lab_play.command(inventory, playbook, "--limit", f"{self.host},localhost", **variables)
        env = lab_play.environment()
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True
            )

    @property
    def log(self) -> Path:
        """The output of all plays."""
        return BUILD / f"{self.host}.log"

    def play(self, playbook: str) -> float:
        """Run a whole play. Returns its seconds. Raises AssertionError when it fails."""
        begin = time.monotonic()
        done = self.start(playbook).wait(900)
        assert done == 0, f"{self.host}: {playbook} ended with {done}: {self.log}"
        return time.monotonic() - begin

    def at_rest(self) -> str:
        """Why the machine is not at rest; empty when it is."""
        lines = self.ssh(REST).split("\n")
        if len(lines) < 9:
            return "it does not answer"
        loaded, driver, offline, active, handoff, left, system, failed = lines[1:9]
        # Debian's ndctl-monitor.service fails on a machine without an NVDIMM.
        resting = system in ("running", "degraded") and handoff != "active"
        seen = (loaded, driver, offline, active, left, failed)
        return "" if resting and seen == ("0", "kmem", "0", "active", "0", "0") else f"it is {lines[1:9]}"

    def settle(self) -> float:
        """Wait, without acting, until the machine is at rest. Returns the seconds. Raises AssertionError at the bound."""
        begin = time.monotonic()
        while reason := self.at_rest():
            waited = time.monotonic() - begin
            assert waited < self.args.bound, f"{self.host}: {waited:.0f} s after the kill, {reason}"
            time.sleep(2)
        return time.monotonic() - begin

    def check_items(self) -> None:
        """Each item must be there, and right."""
        said = json.loads(self.ssh("python3 - check /root/manifest.json", 300, ITEMS.read_bytes()) or "{}")
        assert said.get("kept") == said.get("items") and said.get("items"), f"{self.host}: {said}"

    def prepare(self) -> None:
        for playbook in ("hotpmem.fleet.provision", str(TOP / "tests/demo/memcached.yml"), str(TOP / "tests/demo/fill.yml")):
            self.play(playbook)
        self.cycle = self.play("hotpmem.fleet.rolling_reboot")
        self.check_items()
        print(f"{self.host}: prepared; an undisturbed cycle takes {self.cycle:.0f} s", flush=True)

    def round(self) -> str:
        """Kill one play, and look what becomes of the machine."""
        boot = self.ssh("cat /proc/sys/kernel/random/boot_id")
        after = self.random.uniform(self.args.first, 1) * self.cycle
        size = self.log.stat().st_size
        play = self.start("hotpmem.fleet.rolling_reboot")
        try:
            play.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(play.pid, signal.SIGKILL)
        play.wait()
        tasks = re.findall(rb"TASK \[(?:hotpmem\.fleet\.)?([^\]]+)\]", self.log.read_bytes()[size:])
        seconds = self.settle()
        self.check_items()
        kept = "as before" if self.ssh("cat /proc/sys/kernel/random/boot_id") == boot else "in its next boot"
        self.play("hotpmem.fleet.post_boot")
        task = tasks[-1].decode() if tasks else "before the first task"
        return f"{self.host}: killed after {after:.0f} s in '{task}': at rest {seconds:.0f} s later, {kept}, every item right"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=float, default=0.0, help="no moment before this part of the cycle, for example 0.6")
    parser.add_argument("--mib", type=int, default=60)
    parser.add_argument("--bound", type=int, default=300)
    parser.add_argument("--lease", type=int, default=60)
    args = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    outcomes: list[str] = []

    def work(node: Node) -> None:
        node.log.write_bytes(b"")
        node.prepare()
        for _round in range(args.kills // args.hosts):
            outcomes.append(node.round())
            print(f"{len(outcomes)}/{args.kills} {outcomes[-1]}", flush=True)
        node.play("hotpmem.fleet.rolling_reboot")
        node.check_items()

    machine.interrupt_as_exception()
    try:
        lab.up(NAME, args.hosts, machine.Spec("6.1", "e820", "snapshot", "2G", 1, "auto"))
        with ThreadPoolExecutor(args.hosts) as pool:
            list(pool.map(work, [Node(f"node{n + 1}", args) for n in range(args.hosts)]))
    except AssertionError as error:
        print(f"kills: FAILED: {error}", flush=True)
        for number in range(args.hosts):
            subprocess.run([sys.executable, str(TOP / "tests/lab/lab.py"), "report", "--name", NAME, f"node{number + 1}"], check=False)
        return 1
    finally:
        lab.down(NAME)
    before = sum("as before" in one for one in outcomes)
    print(f"kills: {len(outcomes)}, of which {before} left the host as before and {len(outcomes) - before} in its next boot; no item lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
