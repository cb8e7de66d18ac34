# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine under test, for scenarios whose checks drive it themselves: commands by ssh, power cuts through the lab."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(os.environ["HOTPMEM_CHECKOUT"])
sys.path.insert(0, str(CHECKOUT / "tests/lab"))
from hotlab import lab, machine

LAB, HOST = os.environ["HOTPMEM_LAB"], "node1"
ITEMS = (CHECKOUT / "tests/demo/files/cache_items.py").read_text(encoding="utf-8")
# Stops pmem-state for good as soon as it saves: what a power cut meets then is half an image.
STOPPER = r"""
import os, signal, sys
while True:
    for pid in os.listdir("/proc"):
        try:
            words = open("/proc/" + pid + "/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"pmem-state") and words[1:2] == [b"save"]:
            os.kill(int(pid), signal.SIGSTOP)
            sys.exit()
"""


class Node:
    """One machine. Every command has a deadline, given for an amd64 machine; what it prints is in the error."""

    def __init__(self) -> None:
        self.spec = lab.spec(LAB)

    def run(self, command: str, check: bool = True, stdin: str = "", timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a shell command there."""
        words = [*lab.ssh_command(LAB, HOST), command]
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=self.spec.deadline(timeout), check=False)
        assert done.returncode == 0 or not check, f"{command}: ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def agent(self, words: str, timeout: float = 180) -> dict[str, Any]:
        """What `hotpmem-node WORDS --json` answers, whatever its exit status."""
        return json.loads(self.run(f"hotpmem-node {words} --json", check=False, timeout=timeout).stdout)

    @property
    def boot(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id").stdout

    def wait_boot(self, before: str, deadline: float = 300) -> None:
        """Until another boot answers, and has made the memory System RAM or given that up."""
        self.wait_another_boot(before, deadline)
        self.run("systemctl is-system-running --wait", check=False)
        # Of itself: nobody here starts it.
        self.wait_state("hotpmem-hot-add", "active", "failed")

    def wait_another_boot(self, before: str, deadline: float = 300) -> None:
        """Until another boot answers, which may still be starting."""
        deadline = self.spec.deadline(deadline)
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            try:
                got = self.run("cat /proc/sys/kernel/random/boot_id", check=False, timeout=20)
            except subprocess.TimeoutExpired:
                continue  # connected to the boot that was just ending: a kexec closes no connections
            if got.returncode == 0 and got.stdout != before:
                return
            time.sleep(0.5)
        raise TimeoutError(f"{HOST} has not come back within {deadline:.0f} s")

    def wait_state(self, unit: str, *states: str, deadline: float = 120) -> None:
        """Until a unit is in one of these states. Does nothing to bring it there."""
        deadline = self.spec.deadline(deadline)
        end = time.monotonic() + deadline
        while (found := self.run(f"systemctl show --property=ActiveState --value {unit}").stdout.strip()) not in states:
            if time.monotonic() >= end:
                raise TimeoutError(f"{unit} is {found}, and not {' or '.join(states)}, after {deadline:.0f} s")
            time.sleep(0.2)

    def leave(self, command: str) -> None:
        """Run a command that ends this boot, and wait for the next."""
        before = self.boot
        # The connection may break before the command has ended.
        self.run(f"systemd-run --quiet --collect --no-block sh -c {command!r}")
        self.wait_boot(before)

    def cut_power(self) -> None:
        """A hard reset: nothing is shut down, memory keeps what it holds."""
        before = self.boot
        machine.reset(lab.node(LAB, HOST))
        self.wait_boot(before)

    def console(self) -> str:
        """All that its serial console has shown."""
        return machine.readable(lab.node(LAB, HOST) / "serial.log")

    def stop_in_save(self) -> None:
        """Start a handoff, and return when it saves: it has gone so far, and goes no further."""
        self.run(f"systemd-run --quiet --collect --unit=stopper python3 -c '{STOPPER}'")
        self.run("hotpmem-node handoff --detach")
        self.run("while systemctl is-active --quiet stopper; do sleep 0.1; done")

    def wrap_restore(self, line: str) -> None:
        """A line of shell before the script that restores; an empty one takes it away."""
        path = "/usr/local/lib/hotpmem/restore"
        self.run(f"test ! -e {path}.real || mv {path}.real {path}")
        if line:
            text = f'#!/bin/sh\n{line}\nexec {path}.real "$@"\n'
            self.run(f"mv {path} {path}.real && printf %s {shlex.quote(text)} >{path} && chmod 755 {path}")

    def setting(self, name: str, wanted: bool) -> None:
        """Turn a setting of the agent on or off, for the next jump."""
        words = ["false", "true"] if wanted else ["true", "false"]
        self.run(f'sed -i \'s/"{name}": {words[0]}/"{name}": {words[1]}/\' /etc/hotpmem/node.json')

    def drop_in(self, unit: str, text: str) -> None:
        """Put settings over those of a unit; with an empty text, take them away again."""
        folder = f"/etc/systemd/system/{unit}.service.d"
        act = f"mkdir -p {folder} && cat >{folder}/fault.conf" if text else f"rm {folder}/fault.conf"
        self.run(f"{act} && systemctl daemon-reload", stdin=text)

    def fill(self, mib: int = 20) -> None:
        """Random items, as of now all that memcached has to keep."""
        self.run("systemctl restart memcached")
        self.run(f"python3 - fill {mib} /root/faults.json", stdin=ITEMS)

    def kept(self) -> bool:
        """Whether every item is there, byte for byte."""
        found = json.loads(self.run("python3 - check /root/faults.json", check=False, stdin=ITEMS).stdout)
        return found["kept"] == found["items"] > 0

    def is_ram(self) -> bool:
        """Whether all of the memory is System RAM."""
        devices = json.loads(self.run("daxctl list -D").stdout or "[]")
        devices = devices if isinstance(devices, list) else [devices]
        blocks = [(one["mode"], one.get("online_memblocks"), one.get("total_memblocks")) for one in devices]
        return len(blocks) == 1 and blocks[0][0] == "system-ram" and blocks[0][1] == blocks[0][2]

    def cold(self) -> str:
        """Why memcached started cold in this boot; fails when it did not, or does not run."""
        assert self.run("systemctl is-active memcached").stdout == "active\n"
        (outcome,) = self.agent("outcome")["outcomes"]
        assert outcome["status"] == "cold", outcome
        return str(outcome["reason"])
