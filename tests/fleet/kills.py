# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL for rolling_reboot and all its workers at seeded moments, and a run that resumes: each host is done exactly once, or named.

Each round has a new fleet of stand-in hosts. ansible-playbook is killed with all its workers, and then the same command runs to
its end. Every host must have been rebooted once, have the mark of the run, and be recorded once as kept. There must be one journal, whose
run has ended. Every host that was drained must be undrained.

Usage: kills.py [--kills 20] [--hosts 4] [--seed 1] [--jobs 1]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fleet import Fleet, family

# The moments are spread over the events of the journal, so that none of the phases is missed when the machine is slow.
BATCHES = {"hotpmem_batches": "[1, 2, 1]"}


def new_fleet(where: Path, hosts: int) -> Fleet:
    """Hosts whose drain hooks do nothing, so that the journal has drain and undrain."""
    fleet = Fleet(where / "fleet", [f"node{number}" for number in range(1, hosts + 1)])
    hook = {"name": "nothing", "command": ["true"]}
    fleet.inventory(hotpmem_hooks={"drain": [hook], "undrain": [hook]})
    return fleet


def undisturbed(hosts: int) -> tuple[int, float]:
    """How many events a run writes, and how long it takes."""
    where = Path(tempfile.mkdtemp(prefix="hotpmem-kills-"))
    try:
        fleet = new_fleet(where, hosts)
        begin = time.monotonic()
        done = fleet.rolling_reboot(**BATCHES)
        assert done.returncode == 0, done.stdout[-3000:]
        check(fleet)
        return len(fleet.events()), time.monotonic() - begin
    finally:
        shutil.rmtree(where)


def check(fleet: Fleet) -> None:
    """Each host was done exactly once, and the journal says so."""
    assert len(fleet.journals()) == 1, fleet.journals()
    assert set(fleet.reboots().values()) == {1}, fleet.reboots()
    assert fleet.ended() == {name: ["kept"] for name in fleet.names}, fleet.ended()
    assert fleet.events()[-1]["event"] == "run_ended", fleet.events()[-1]
    run = fleet.journals()[0].stem
    for name in fleet.names:
        assert fleet.read(name)["mark"]["run"] == run and fleet.read(name)["mark"]["outcome"] == "kept", fleet.read(name)["mark"]
    drained = Counter(line["host"] if line["event"] == "host_drained" else None for line in fleet.events())
    last = {line["host"]: line["event"] for line in fleet.events("host_drained", "host_undrained")}
    assert drained and set(last.values()) == {"host_undrained"}, last


def round_of(number: int, seed: int, hosts: int, events: int, seconds: float) -> str:
    """Kill one run and resume it. Returns what happened."""
    lots = random.Random(f"{seed} {number}")
    where = Path(tempfile.mkdtemp(prefix="hotpmem-kills-"))
    try:
        fleet = new_fleet(where, hosts)
        # After this event, and up to half the time that an event takes on average, so that it hits within tasks as well.
        after, later = lots.randint(0, events - 1), lots.uniform(0, seconds / events)
        process = fleet.start(fleet.words(confirm="false", **BATCHES), output=(where / "log").open("w"))
        while process.poll() is None and len(fleet.events()) < after:
            time.sleep(0.01)
        time.sleep(later)
        # The workers are leaders of their own sessions, so killing the process group would leave them.
        for pid in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = process.wait()
        written = fleet.events()
        at = f"{written[-1]['event']} {written[-1].get('host') or ''}".strip() if written else "nothing"
        # What a host is doing goes on by itself.
        time.sleep(0.3)
        before = fleet.reboots()
        if written and written[-1]["event"] == "run_ended":
            check(fleet)
            return f"killed after {at}: the run had ended"
        done = fleet.rolling_reboot(**BATCHES)
        assert done.returncode == 0, f"round {number}, killed after {at}: {done.stdout[-4000:]}"
        try:
            check(fleet)
        except AssertionError as error:
            raise AssertionError(f"round {number}, killed after {at}: {error}") from error
        lost = [name for line in fleet.events("run_resumed") for name in line["finish"]]
        how = "had ended already" if code == 0 else f"{sum(before.values())} of {hosts} rebooted, {len(lost)} finished without a reboot"
        return f"killed after {at}: {how}; each host done once"
    finally:
        shutil.rmtree(where)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="the number of the first round, to repeat one")
    args = parser.parse_args()
    events, seconds = undisturbed(args.hosts)
    print(f"an undisturbed run takes {seconds:.0f} s and writes {events} events", flush=True)
    for number in range(args.first, args.first + args.kills):
        try:
            print(f"{number}: {round_of(number, args.seed, args.hosts, events, seconds)}", flush=True)
        except AssertionError as error:
            print(f"fleet-kills: FAILED: {error}", flush=True)
            return 1
    print(f"fleet-kills: {args.kills} kills; every host was done exactly once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
