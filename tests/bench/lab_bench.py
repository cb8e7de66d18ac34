#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures pmem-state beside dd on /dev/pmem0 of a lab machine with 2 CPUs, interleaved, in one run.

The machine is emulated: the ratio counts, not the seconds. Usage: lab_bench.py [--mib 256] [--rounds 5] [--pmem e820|nfit] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
LAB = TOP / "tests/lab/lab.py"
NAME = "bench"

# Runs on the machine: its own clock, no ssh in what is timed. The first round warms up and does not count.
REMOTE = r"""
import json, os, subprocess, sys, time
mib, rounds = int(sys.argv[1]), int(sys.argv[2])
# As docs/operators.md says; the source has its size before its data, as a program that maps its file gives it.
source, target = "/srv/state/source", "/srv/state/target"
os.makedirs("/srv/state")
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90%,huge=within_size", "tmpfs", "/srv/state"], check=True)
with open(source, "wb") as f:
    f.truncate(mib << 20)
    for _ in range(mib):
        f.write(os.urandom(1 << 20))
helper = ["/root/pmem-state"]
tools = {
    ("save", "dd"): ["dd", "if=" + source, "of=/dev/pmem0", "bs=4M", "oflag=direct", "conv=notrunc", "status=none"],
    ("save", "pmem-state"): helper + ["save", "--force", "--device", "/dev/pmem0", "--item", "s=" + source],
    ("restore", "dd"): ["dd", "if=/dev/pmem0", "of=" + target, "bs=4M", "iflag=direct", "count=%d" % (mib // 4), "status=none"],
    ("restore", "pmem-state"): helper + ["restore", "--force", "--device", "/dev/pmem0", "--item", "s=" + target],
}
seconds = {key: [] for key in tools}
for n in range(rounds + 1):
    for key, command in tools.items():
        if os.path.exists(target):
            os.unlink(target)
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if n:
            seconds[key].append(time.monotonic() - start)
        if key == ("restore", "pmem-state"):
            subprocess.run(["cmp", source, target], check=True)
print(json.dumps([{"case": "pmem0", "op": op, "tool": tool, "seconds": s} for (op, tool), s in seconds.items()]))
"""


def lab(*words: str, **how) -> subprocess.CompletedProcess:
    verb, *rest = words
    return subprocess.run([sys.executable, LAB, verb, "--name", NAME, *rest], check=True, text=True, **how)


def ssh(command: str, **how) -> subprocess.CompletedProcess:
    return lab("ssh", "node1", command, **how)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pmem", default="e820", choices=["e820", "nfit"])
    parser.add_argument("--out", type=Path, default=TOP / "build/bench/pmem0.json")
    args = parser.parse_args()
    try:
        lab("up", "--hosts", "1", "--cpus", "2", "--pmem", args.pmem, stdout=subprocess.DEVNULL)
        with (TOP / "build/x86_64/pmem-state").open("rb") as helper:
            ssh("cat >/root/pmem-state && chmod 755 /root/pmem-state && modprobe -a nd_pmem && udevadm settle", stdin=helper)
        ssh("cat >/root/bench.py", input=REMOTE)
        rows = json.loads(ssh(f"python3 /root/bench.py {args.mib} {args.rounds}", stdout=subprocess.PIPE).stdout)
    finally:
        lab("down", stdout=subprocess.DEVNULL)
    best = {}
    for row in rows:
        row["gbps"] = round((args.mib << 20) / min(row["seconds"]) / 1e9, 3)
        best[row["op"], row["tool"]] = min(row["seconds"])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": f"lab, {args.pmem}, 2 CPUs, emulated", "bytes": args.mib << 20, "rows": rows}, indent=1))
    for op in ("save", "restore"):
        ours, dd = best[op, "pmem-state"], best[op, "dd"]
        verdict = "met   " if dd / ours >= 1.5 else "MISSED"
        print(f"{verdict} {op}: pmem-state {ours:.3f} s, dd {dd:.3f} s: {dd / ours:.2f} times as fast, wanted 1.5")
    return 0


if __name__ == "__main__":
    sys.exit(main())
