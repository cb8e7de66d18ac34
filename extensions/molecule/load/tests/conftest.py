# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine under test, its memory filled in several ways."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

MOLECULE = Path(os.environ["HOTPMEM_CHECKOUT"]) / "extensions/molecule"
sys.path.insert(0, str(MOLECULE / "shared"))
from node import Node

MEMORY = "/sys/devices/system/memory"
DEADLINES = {"long": 60, "short": 8}
PROGRAMS = {"hold": MOLECULE / "load/files/hold.py", "pin": MOLECULE / "shared/files/pin.py"}


class Loaded(Node):
    """Its memory goes and comes by the agent, which has no items here."""

    def move(self, verb: str, deadline: str = "long") -> dict[str, Any]:
        """What hot-add or hot-remove (or another verb) answers."""
        # Much longer than any deadline: a machine that is made to run out of memory is slow in everything.
        return self.agent(f"{verb} --settings /root/{deadline}.json", timeout=600)

    def mode(self) -> str:
        """What the only namespace is, as ndctl sees it: ``raw``, ``devdax``."""
        found = json.loads(self.run("ndctl list -N").stdout or "[]")
        (one,) = found if isinstance(found, list) else [found]
        return str(one["mode"])

    def blocks(self) -> dict[int, str]:
        """The zone of each memory block of the dax device, by number; ``offline`` for those that are."""
        script = f"""set -e
            size=$((0x$(cat {MEMORY}/block_size_bytes)))
            start=$(($(cat /sys/bus/dax/devices/dax0.0/resource)))
            end=$((start + $(cat /sys/bus/dax/devices/dax0.0/size)))
            number=$(((start + size - 1) / size))
            while [ $(((number + 1) * size)) -le $end ]; do
                zone=$(cat {MEMORY}/memory$number/valid_zones)
                grep -q ^online {MEMORY}/memory$number/state || zone=offline
                echo $number $zone
                number=$((number + 1))
            done"""
        return {int(line.split()[0]): line.split()[1] for line in self.run(script).stdout.splitlines()}

    def hold(self, kind: str, mib: int) -> None:
        """Start a process that holds so much memory of a kind (hold.py)."""
        name = f"hold-{kind}"
        self.run(f"rm -f /run/{name}; systemd-run --quiet --collect --unit={name} python3 /root/hold.py {kind} {mib} {name}")
        self._said(name)

    def held(self, kind: str) -> str:
        """``same`` when what it holds is what it wrote."""
        name = f"hold-{kind}"
        self.run(f"rm /run/{name}; systemctl kill --signal=USR1 {name}")
        return self._said(name)

    def _said(self, name: str) -> str:
        """What the unit says, once it does; fails when it has ended."""
        wait = f"until [ -s /run/{name} ]; do systemctl is-active --quiet {name} || exit 1; sleep 0.2; done"
        return self.run(f"{wait}; cat /run/{name}").stdout

    def release(self) -> None:
        """End whatever holds memory."""
        self.run("systemctl stop 'hold-*' pin 2>/dev/null; sysctl -q vm.nr_hugepages=0; swapoff -a; true")

    def as_ram(self) -> None:
        """All of the memory System RAM, movable: where each test begins."""
        answer = self.move("hot-add")
        assert answer["exit"] == 0 and self.is_ram(), answer


@pytest.fixture(scope="session")
def machine() -> Loaded:
    one = Loaded()
    for name, path in PROGRAMS.items():
        one.run(f"cat >/root/{name}.py", stdin=path.read_text(encoding="utf-8"))
    for name, seconds in DEADLINES.items():
        one.run(f"cat >/root/{name}.json", stdin=json.dumps({"offline_timeout": seconds}))
    return one


@pytest.fixture
def node(machine: Loaded) -> Iterator[Loaded]:
    yield machine
    machine.release()
