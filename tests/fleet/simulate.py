# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes fleets of stand-in hosts through a rollout, and measures the controller: time, memory and journal for each host.

The hosts answer at once and reboot in no time, so what is measured is the controller's own work, with the callback hotpmem.fleet.rollout
or another one. Memory is the largest sum of the proportional set sizes (PSS) of ansible-playbook and its workers, which counts a page that
they share only once.

Usage: simulate.py [--hosts 10,100,300,1000] [--forks 20] [--callback hotpmem.fleet.rollout] [--budget-mib 1536]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fleet import Fleet, family


def memory(pid: int) -> int:
    """Bytes of a process and its descendants."""
    total = 0
    for one in family(pid):
        try:
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


class Watch(threading.Thread):
    """Looks at the memory of a process until it ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self.process, self.peak = process, 0

    def run(self) -> None:
        while self.process.poll() is None:
            self.peak = max(self.peak, memory(self.process.pid))
            time.sleep(0.5)


def measure(count: int, forks: int, callback: str) -> dict[str, float]:
    """Take a fleet of this size through a rollout."""
    where = Path(tempfile.mkdtemp(prefix="hotpmem-fleet-"))
    try:
        fleet = Fleet(where / "fleet", [f"node{number:04}" for number in range(1, count + 1)])
        fleet.callback = callback
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.monotonic()
        log = where / "log"
        with log.open("w") as output:
            process = fleet.start(fleet.words("--forks", str(forks), confirm="false"), output=output)
            watch = Watch(process)
            watch.start()
            code = process.wait()
        watch.join()
        seconds = time.monotonic() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        errors = [line for line in log.read_text().splitlines() if line.startswith(("[ERROR]", "fatal:"))]
        assert code == 0, f"ansible-playbook ended with {code}: {errors[:5]}"
        reboots = fleet.reboots()
        assert set(reboots.values()) == {1}, reboots
        calls = [sum(value for name, value in fleet.read(name)["calls"].items()) for name in fleet.names]
        return {
            "hosts": count,
            "seconds": seconds,
            "cpu_seconds": used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
            "peak_mib": watch.peak / 2**20,
            "journal_bytes": sum(path.stat().st_size for path in fleet.journals()),
            "output_bytes": log.stat().st_size,
            "calls": sum(calls) / count,
        }
    finally:
        shutil.rmtree(where)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--hosts", default="10,100,300,1000")
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--callback", default="hotpmem.fleet.rollout", help="the stdout callback")
    parser.add_argument("--budget-mib", type=int, default=1536, help="the most memory that is allowed")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    args = parser.parse_args()
    found = []
    print("| hosts | seconds | a host | CPU seconds a host | peak MiB | journal bytes a host | output bytes a host | calls a host |")
    print("|---|---|---|---|---|---|---|---|")
    for count in (int(word) for word in args.hosts.split(",")):
        one = measure(count, args.forks, args.callback)
        found.append(one)
        print(
            f"| {count} | {one['seconds']:.0f} | {one['seconds'] / count:.2f} | {one['cpu_seconds'] / count:.2f} | {one['peak_mib']:.0f} "
            f"| {one['journal_bytes'] / count:.0f} | {one['output_bytes'] / count:.0f} | {one['calls']:.1f} |",
            flush=True,
        )
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))
    worst = max(one["peak_mib"] for one in found)
    if worst > args.budget_mib:
        print(f"simulate: FAILED: {worst:.0f} MiB, and {args.budget_mib} MiB are allowed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
