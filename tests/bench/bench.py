#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures pmem-state beside the limit of the machine and beside the usual tools, in one run, interleaved.

Everything is in memory: sources on a tmpfs that is mounted as docs/operators.md says (huge=within_size), or, in the cases "-small-pages",
as it comes without, and there also after pmem-state prepare; the device a file of huge pages (mounting needs root; a dax device has such
pages too). dd, tar and fio write to the device as well; cp, rsync and zstd, which can't, to files beside the source. Each round runs every
tool once; the first round warms up and does not count. The best of the rounds is compared, the others are in the JSON file.
Usage: bench.py [--size BYTES] [--rounds N] [--out FILE] [--case NAME ...] [--tool NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterable

sys.path.insert(0, str(Path(__file__).parents[1] / "helper"))
from tree import small_files

TOP = Path(__file__).parents[2]
HELPER = TOP / "build" / platform.machine() / "pmem-state"
LIMIT = TOP / "build" / "bench" / "limit"
CPUS = len(os.sched_getaffinity(0))
SMALL = "-small-pages"
OURS = ("pmem-state", "after prepare", "with --progress")
CASES = ["one-file", "64-files", "small-files", "half-zero", *(f"{case}{SMALL}" for case in ("one-file", "64-files", "small-files"))]


# Does it once. Returns its seconds and CPU seconds where it measures them itself.
Tool = Callable[[], "tuple[float, ...] | None"]


def run(*words, **how) -> subprocess.CompletedProcess:
    return subprocess.run([str(w) for w in words], check=True, **how)


def program(*words) -> Callable[[], None]:
    return lambda: run(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) and None


def shell(command: str) -> Callable[[], None]:
    return program("bash", "-o", "pipefail", "-c", command)


def random_file(path: Path, size: int, zero_half: bool = False) -> None:
    """size random bytes; with zero_half, every other MiB is zeros. Sized before it is written, as by a program that maps its file."""
    with open(path, "wb") as f:
        f.truncate(size)
        for at in range(0, size, 1 << 20):
            n = min(1 << 20, size - at)
            f.write(bytes(n) if zero_half and at >> 20 & 1 else os.urandom(n))


def make_source(case: str, path: Path, size: int) -> None:
    path.mkdir()
    if case in ("one-file", "half-zero"):
        random_file(path / "f", size, case == "half-zero")
    elif case == "64-files":
        for i in range(64):
            random_file(path / f"f{i}", size // 64)
    else:
        small_files(path, 20000, 32768)


class Bench:
    """One case: its sources, a device and the tools."""

    def __init__(self, case: str, source: Path, huge: Path) -> None:
        self.case, self.source, self.huge = case, source, huge
        self.target = source.parent / "target"
        self.files = sorted(p for p in source.rglob("*") if p.is_file())
        self.bytes = sum(p.stat().st_size for p in self.files)
        self.device = huge / "device"
        room = self.bytes + self.bytes // 16 + (64 << 20)
        run("fallocate", "-l", room // (2 << 20) * (2 << 20), self.device)
        self.many = case == "small-files"
        self.prepared = source.parent / "prepared"

    def prepare(self) -> dict:
        """A copy of the source, moved into huge pages as a handoff does it before it stops a unit. Returns what the helper says."""
        run("cp", "-a", self.source, self.prepared)
        done = run(HELPER, "prepare", "--item", f"s={self.prepared}", "--json", stdout=subprocess.PIPE, text=True)
        return {key: json.loads(done.stdout)[key] for key in ("bytes", "huge_bytes", "seconds", "stopped")}

    def limit(self, how: str, threads: int, files: list[str]) -> tuple[float, ...]:
        """Seconds and CPU seconds."""
        return tuple(map(float, run(LIMIT, how, threads, self.device, *files, stdout=subprocess.PIPE, text=True).stdout.split()))

    def save_tools(self) -> dict[str, Tool]:
        s, d, t = self.source, self.device, self.source.parent / "copy"
        to_device = f"dd of={d} bs=4M iflag=fullblock conv=notrunc"
        item = f"s={s}" if self.many or self.case == "64-files" else f"s={s}/f"
        tools: dict = (
            {f"limit/{n}": (lambda n=n: self.limit("copy", n, [str(p) for p in self.files])) for n in sorted({1, 2, min(4, CPUS), CPUS})}
            if not self.many
            else {}
        )
        save = [HELPER, "save", "--force", "--device", d, "--json", "--item", item]
        tools["pmem-state"] = program(*save)
        if self.prepared.exists():
            tools["after prepare"] = program(*save[:-1], item.replace(f"={s}", f"={self.prepared}"))
        tools["with --progress"] = program(*save, "--progress")
        tools["cp -a"] = program("cp", "-a", s, t)
        tools["tar"] = shell(f"tar -C {s} -cf - . | {to_device}")
        tools["rsync -aHAXS"] = program("rsync", "-aHAXS", f"{s}/", f"{t}/")
        tools["zstd -1 -T0"] = shell(
            f"tar -C {s} -cf - . | zstd -q -1 -T0 -o {t}" if len(self.files) > 1 else f"zstd -q -1 -T0 -o {t} {s}/f"
        )
        if len(self.files) == 1:
            tools["dd bs=4M"] = program("dd", f"if={s}/f", f"of={d}", "bs=4M", "conv=notrunc")
            tools["fio"] = shell(
                f"fio --name=w --rw=write --bs=1M --ioengine=psync --numjobs={CPUS} --size={self.bytes // CPUS} "
                f"--offset_increment={self.bytes // CPUS} --filename={d} --fallocate=none --refill_buffers=0"
            )
        return tools

    def prepare_restore(self, tools: Iterable[str]) -> None:
        """What these tools restore from: the image, an archive, a copy."""
        self.save_tools()["pmem-state"]()
        if {"cp -a", "rsync -aHAXS", "dd bs=4M"} & set(tools):
            shell(f"cp -a {self.source} {self.huge}/copy")()
        if {"tar", "zstd -1 -T0"} & set(tools):
            shell(f"tar -C {self.source} -cf {self.huge}/tar .")()
        if "zstd -1 -T0" in tools:
            shell(f"zstd -q -1 -T0 -o {self.huge}/zst {self.huge}/tar")()

    def restore_tools(self) -> dict[str, Tool]:
        t, d = self.target, self.device
        tools: dict = {}
        if not self.many:
            new = [f"{t}/{p.name}:{p.stat().st_size}" for p in self.files]

            def limit(how: str, n: int) -> tuple[float, ...]:
                t.mkdir()
                return self.limit(how, n, new)

            for how in ("pwrite", "map"):
                tools.update({f"limit {how}/{n}": (lambda how=how, n=n: limit(how, n)) for n in sorted({1, 2, min(4, CPUS), CPUS})})
        restore = [HELPER, "restore", "--force", "--device", d, "--item", f"s={t}", "--json"]
        tools["pmem-state"] = program(*restore)
        tools["with --progress"] = program(*restore, "--progress")
        tools["cp -a"] = program("cp", "-a", f"{self.huge}/copy", t)
        tools["tar"] = shell(f"mkdir {t} && tar -C {t} -xf {self.huge}/tar")
        tools["rsync -aHAXS"] = program("rsync", "-aHAXS", f"{self.huge}/copy/", f"{t}/")
        tools["zstd -1 -T0"] = shell(f"mkdir {t} && zstd -q -d -c {self.huge}/zst | tar -C {t} -xf -")
        if len(self.files) == 1:
            tools["dd bs=4M"] = program("dd", f"if={self.huge}/copy/f", f"of={t}", "bs=4M")
        return tools

    def clean(self) -> None:
        for path in (self.target, self.source.parent / "copy"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def cpu_seconds() -> float:
    """Of all the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(bench: Bench, tools: dict, rounds: int, op: str) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The seconds of each round, and the least CPU time: what to compare where other work runs on the machine."""
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    cpu: dict[str, float] = {}
    for n in range(rounds + 1):
        for name, tool in tools.items():
            run(LIMIT, "warm", bench.bytes + bench.bytes // 8 + (64 << 20))
            start, before = time.monotonic(), cpu_seconds()
            inner = tool()
            wall, used = inner or (time.monotonic() - start, cpu_seconds() - before)
            if n:
                cpu[name] = min(round(used, 4), cpu.get(name, used))
                seconds[name].append(wall)
            if op == "restore":
                shutil.rmtree(bench.target) if bench.target.is_dir() else bench.target.unlink(missing_ok=True)
            else:
                bench.clean()
            if sys.stderr.isatty():
                print(f"\r{bench.case:12} {op:8} round {n}/{rounds} {name:16}", end="", file=sys.stderr, flush=True)
    print("\r" * sys.stderr.isatty() + f"{bench.case} {op} done", file=sys.stderr)
    return seconds, cpu


def rows_of(bench: Bench, case: str, op: str, seconds: dict[str, list[float]], cpu: dict[str, float]) -> list[dict]:
    """One row a tool; of the limits only the best kind and thread count."""
    limits = {k: v for k, v in seconds.items() if k.startswith("limit")}
    rows = []
    if limits:
        best = min(limits, key=lambda k: min(limits[k]))
        rows.append(
            {
                "case": case,
                "op": op,
                "tool": "limit",
                "threads": int(best.split("/")[1]),
                "seconds": limits[best],
                "how": best.split("/")[0],
                "cpu": min(cpu[k] for k in limits),
            }
        )
    for name, s in seconds.items():
        if name not in limits:
            threads = min(4, CPUS) if name in OURS else CPUS if name in ("fio", "zstd -1 -T0") else 1
            rows.append({"case": case, "op": op, "tool": name, "threads": threads, "seconds": s, "cpu": cpu[name]})
    for row in rows:
        row["gbps"] = round(bench.bytes / min(row["seconds"]) / 1e9, 3)
    return rows


def share_limits(rows: list[dict]) -> None:
    """Of a save: the same bytes between pages of the same kind, so what one case shows to be possible holds for the others too.

    A virtual machine's memory is faster in one minute than in the next, and a limit has fewer rounds than there are minutes.
    """
    for group in (("one-file", "64-files", "half-zero"), (f"one-file{SMALL}", f"64-files{SMALL}")):
        limits = [r for r in rows if r["tool"] == "limit" and r["op"] == "save" and r["case"] in group]
        if limits:
            best = min(limits, key=lambda r: min(r["seconds"]))
            for row in limits:
                row.update(threads=best["threads"], seconds=best["seconds"], gbps=best["gbps"], cpu=best["cpu"])


def table(rows: list[dict]) -> str:
    out, ours = [], {}
    for row in rows:
        if row["tool"] == "pmem-state":
            ours[row["case"], row["op"]] = row["gbps"]
    for key in dict.fromkeys((r["case"], r["op"]) for r in rows):
        group = [r for r in rows if (r["case"], r["op"]) == key]
        limit = next((r["gbps"] for r in group if r["tool"] == "limit"), None)
        out.append(f"\n{key[0]}, {key[1]}\n  {'tool':16} {'best s':>9} {'CPU s':>7} {'GB/s':>7} {'of limit':>9} {'pmem-state is':>14}")
        for r in sorted(group, key=lambda r: -r["gbps"]):
            share = f"{r['gbps'] / limit:9.2f}" if limit else f"{'':9}"
            times = "" if r["tool"] in ("limit", "pmem-state") else f"{ours[key] / r['gbps']:12.1f} x"
            out.append(f"  {r['tool']:16} {min(r['seconds']):9.3f} {r['cpu']:7.3f} {r['gbps']:7.2f} {share} {times:>14}")
    return "\n".join(out)


def goals(rows: list[dict]) -> list[str]:
    """The goals that can be measured here, and whether this run meets them."""
    at = {(r["case"], r["op"], r["tool"]): r["gbps"] for r in rows}
    out = []

    def goal(case: str, op: str, other: str, factor: float, ours: str = "pmem-state") -> None:
        if (case, op, ours) in at and (case, op, other) in at:
            got = at[case, op, ours] / at[case, op, other]
            said = f"{op} {ours}" if ours != "pmem-state" else op
            out.append(f"{'met   ' if got >= factor else 'MISSED'} {case}, {said}: {got:.2f} of {other}, wanted {factor}")

    for case in ("one-file", "64-files", f"one-file{SMALL}", f"64-files{SMALL}"):
        goal(case, "save", "limit", 0.6)
        goal(case, "save", "limit", 0.6, "after prepare")
        goal(case, "restore", "limit", 0.8)
        goal(case, "restore", "cp -a", 2)
        for other in ("cp -a", "tar", "rsync -aHAXS", "zstd -1 -T0", "dd bs=4M"):
            goal(case, "save", other, 8)
    for case in ("small-files", f"small-files{SMALL}"):
        goal(case, "save", "tar", 3)
        goal(case, "restore", "tar", 3)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="2G")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=TOP / "build" / "bench" / "copy.json")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--tool", action="append", help="only these (and the limit)")
    args = parser.parse_args()
    size = int(args.size[:-1]) << {"M": 20, "G": 30}[args.size[-1]] if args.size[-1] in "MG" else int(args.size)
    rows: list[dict] = []
    prepared: dict[str, dict] = {}
    work = Path(tempfile.mkdtemp(prefix="hotpmem-bench-", dir="/dev/shm"))
    huge, pages = work / "huge", work / "pages"
    mounted = os.geteuid() == 0
    for path in (huge, pages):
        path.mkdir()
        if mounted:
            # Older kernels give every file on huge=always a whole huge page, however small it is.
            run("mount", "-t", "tmpfs", "-o", f"huge={'always' if path == huge else 'within_size'}", "tmpfs", path)
    if not mounted:
        print("bench: not root, so the device has small pages: the limit is out of reach of a mapping", file=sys.stderr)
    load = os.getloadavg()[0]
    try:
        for case in args.case or CASES:
            where = work if case.endswith(SMALL) else pages
            kind = case.removesuffix(SMALL)
            make_source(kind, where / "source", size)
            bench = Bench(kind, where / "source", huge)
            if where == work and not bench.many:
                prepared[case] = bench.prepare()
            for op in ("save", "restore"):
                tools = bench.save_tools() if op == "save" else bench.restore_tools()
                if args.tool:
                    tools = {k: v for k, v in tools.items() if k in args.tool or k.startswith("limit")}
                if op == "restore":
                    bench.prepare_restore(tools)
                rows += rows_of(bench, case, op, *measure(bench, tools, args.rounds, op))
            for path in [where / "source", *huge.iterdir(), *([bench.prepared] if bench.prepared.exists() else [])]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        if mounted:
            run("umount", huge, pages)
        shutil.rmtree(work)
    with open("/proc/cpuinfo", encoding="ascii") as f:
        cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    machine = {
        "cpu": cpu,
        "cpus": CPUS,
        "kernel": platform.release(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "device": "file of huge pages" if mounted else "file",
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }
    share_limits(rows)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        json.dumps({"machine": machine, "size": size, "prepared": prepared, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )
    print(f"{cpu}, {CPUS} CPUs, load {load:.1f} before and {machine['load_after']:.1f} after, best of {args.rounds}")
    print(table(rows))
    for case, one in prepared.items():
        print(f"\n{case}: prepare moved {one['huge_bytes']} of {one['bytes']} bytes into huge pages in {one['seconds']:.2f} s")
    print("\n" + "\n".join(goals(rows)) + f"\n\n{args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
