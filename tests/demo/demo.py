# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: what an operator does, on QEMU machines. `make demo [HOSTS=2] [KERNEL=6.1] [PMEM=e820] [KEEP=1]`.

provision -> fill a real memcached -> rolling reboot -> check each item -> report. Each step is one ansible-playbook; its output goes
to build/demo/*.log, and the task it is at to the terminal. Exit 0 only when every item of every host was kept.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lab_play
from rich.console import Console
from rich.table import Table

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / "build" / "demo"
LABS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotpmem" / "labs"
TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(?:hotpmem\.fleet\.)?(.*?)\] \**$")

# Where there is no terminal to ask (a log), wide enough for the table's numbers.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


class StepFailed(Exception):
    """A step ended with an error; the text says which and where its log is."""


class Demo:
    """One run of the demo. Each run has its own lab."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.inventory = LABS / options.name / "inventory.yml"

    def lab(self, *arguments: str) -> None:
        """Run a verb of the lab; it prints its own progress."""
        command = [sys.executable, str(CHECKOUT / "tests/lab/lab.py"), arguments[0], "--name", self.options.name, *arguments[1:]]
        if subprocess.run(command, check=False).returncode:
            raise StepFailed(f"lab {arguments[0]} failed: see above")

    def play(self, title: str, playbook: str, **variables: str) -> None:
        """Run a playbook; show the task it is at, and the tail of its log when it fails."""
        log = BUILD / f"{title.replace(' ', '-')}.log"
        command = lab_play.command(self.inventory, playbook, **variables)
        env = lab_play.environment(PYTHONUNBUFFERED="1")
        start = time.monotonic()
        with log.open("w") as file, console.status(title) as status:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                task = TASK.match(line)
                if task:
                    status.update(f"{title}: {task.group(1)}")
                    if not console.is_terminal and line.startswith("TASK"):
                        console.print(f"  {time.monotonic() - start:6.1f} s  {task.group(1)}")
            returncode = process.wait()
        if returncode:
            console.print("\n".join(log.read_text().splitlines()[-60:]), markup=False)
            raise StepFailed(f"'{title}' failed with exit code {returncode}; the whole log is {log}")
        console.print(f"[green]✓[/green] {title} ({time.monotonic() - start:.0f} s)")

    def run(self) -> None:
        """All steps, in order."""
        options = self.options
        cpus = max(1, (os.cpu_count() or 1) // options.hosts)
        self.lab("up", "--hosts", str(options.hosts), "--cpus", str(min(cpus, 2)), "--kernel", options.kernel, "--pmem", options.pmem)
        tests = CHECKOUT / "tests/demo"
        self.play("provision", "hotpmem.fleet.provision")
        self.play("set up memcached", str(tests / "memcached.yml"))
        self.play(f"fill memcached with {options.mib} MiB", str(tests / "fill.yml"), demo_mib=str(options.mib), demo_manifests=str(BUILD))
        self.play("rolling reboot", "hotpmem.fleet.rolling_reboot", confirm="false", hotpmem_journal_dir=str(BUILD / "rollouts"))
        self.play("check each item", str(tests / "check.yml"), demo_manifests=str(BUILD))
        self.play("report", "hotpmem.fleet.report", hotpmem_report_html=str(BUILD / "report.html"),
                  hotpmem_report_json=str(BUILD / "report.json"))  # fmt: skip

    def table(self) -> bool:
        """Print one row a host; True when each host kept each of its items."""
        report = json.loads((BUILD / "report.json").read_text())
        table = Table(title="One reboot, state kept")
        for header in ("host", "RAM before/with pmem", "state bytes", "save", "kexec", "boot", "restore", "items kept"):
            table.add_column(header, justify="left" if header == "host" else "right", no_wrap=True)
        good = len(report) == self.options.hosts
        for host, cycle in sorted(report.items()):
            checked = json.loads((BUILD / f"{host}.check.json").read_text())
            good = good and checked["kept"] == checked["items"] > 0
            table.add_row(
                host,
                f"{cycle['memory_before']['total_bytes'] >> 20} / {cycle['memory_with']['total_bytes'] >> 20} MiB",
                f"{cycle['state_bytes']:,}",
                f"{cycle['save_seconds']:.2f} s",
                f"{cycle['jump_seconds'] - cycle['boot_seconds']:.1f} s",
                f"{cycle['boot_seconds']:.1f} s",
                # None: nothing was restored, every item started cold.
                "-" if cycle["restore_seconds"] is None else f"{cycle['restore_seconds']:.2f} s",
                f"{checked['kept']} of {checked['items']}",
            )
        console.print(table)
        return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="demo", help="name of the lab")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--pmem", default="e820", choices=["e820", "nfit"])
    parser.add_argument("--mib", type=int, default=200, help="how much memcached is filled with")
    parser.add_argument("--keep", action="store_true", help="leave the machines up")
    demo = Demo(parser.parse_args())
    BUILD.mkdir(parents=True, exist_ok=True)
    for stale in [*BUILD.glob("*.json"), *BUILD.glob("*.log")]:
        stale.unlink()
    # A demo that failed has spent its failure budget.
    shutil.rmtree(BUILD / "rollouts", ignore_errors=True)
    good = False
    try:
        demo.run()
        good = demo.table()
    except StepFailed as error:
        console.print(str(error), style="red", markup=False)
    except KeyboardInterrupt:
        console.print("interrupted", style="red")
    finally:
        if demo.options.keep:
            name = demo.options.name
            console.print(f"The machines are up. Log in: make lab-ssh NAME={name} HOST=node1. End them: make lab-down NAME={name}")
            console.print(
                f"Run playbooks against them: .venv/bin/ansible-playbook -i {demo.inventory} -e @tests/demo/vars.yml hotpmem.fleet.status"
            )
        else:
            demo.lab("down")
    console.print("demo: PASS" if good else "demo: FAIL", style="bold green" if good else "bold red")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
