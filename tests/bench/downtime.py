#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how long memcached does not answer a client outside: over handoffs that keep its state, a plain kexec, and Ansible's reboot.

One lab machine for all of it, with an NVDIMM; all methods take turns, round by round. How a down time is told from the client's answers
is in client.py, what is made of the numbers in downtime_report.py. Usage: downtime.py [--mib 256] [--rounds 3] [--name downtime]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(TOP / "tests/lab"), str(TOP / "tests/demo")]

import lab_play
from client import Client, Gap, longest_gap, store
from downtime_report import Handoff, Measured, as_json, exchanges, goals, own_seconds, table
from hotlab import lab, machine, ssh
from hotlab.errors import LabError

HERE = TOP / "tests/bench"
DEMO = TOP / "tests/demo"
BUILD = TOP / "build/bench"
HOST = "node1"
UNIT = "memcached.service"
AGENT = "/usr/local/sbin/hotpmem-node"
# All settings of the collection that shorten the down time.
FASTEST = {"hotpmem_node_agent": True, "hotpmem_jump_initrd": "minimal", "hotpmem_jump_check": False, "hotpmem_state_first": True}
DEADLINE = 600.0  # seconds for one way through a boot, on a busy machine that emulates
CONNECT = 20  # seconds until sshd must answer
TELL = 15.0  # seconds between two lines of progress
METHODS = {"handoff": "fast", "handoff_systemd": "systemd", "handoff_dax": "fast"}

# memcached as the demo has it, but with room for the items, which take more than their bytes, and for a client outside. Debian's unit
# counts as started when its wrapper is forked, long before memcached answers; the timeline can only end where systemd says so. The question
# starts no program and runs without the sandbox ("+"): either would start late, and its time would be counted as ours.
READY = """cat >/etc/systemd/system/memcached.service.d/20-ready.conf <<'END'
[Service]
ExecStartPost=+/bin/bash -c 'exec 4<> <(:); until exec 3<>/dev/tcp/127.0.0.1/11211; do read -rt 0.005 -u 4; done 2>/dev/null; exit 0'
END
systemctl daemon-reload
"""
CONFIGURE = """set -e
systemctl stop memcached
{ready}
sed -i -e 's/^-m .*/-m {limit}/' -e 's/^-l .*/-l 0.0.0.0/' /etc/memcached.conf
echo '{more}' >>/etc/memcached.conf
rm -rf /srv/state/memcached/*
systemctl start memcached
"""
# A machine boots from its disk, through its firmware and its boot loader, as Debian sets that up: QEMU's -kernel would skip both.
BOOT_LOADER = """sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=5/' /etc/default/grub
update-grub
"""
# What a plain kexec takes: the kernel, initrd and command line of the running system, without what a handoff has added.
LOAD = """release=$(uname -r)
kexec -s -l "/boot/vmlinuz-$release" --initrd="/boot/initrd.img-$release" --command-line="$(sed 's/ hotpmem[.]jump=.*//' /proc/cmdline)"
"""
LATER = "systemd-run --quiet --on-active=2 --timer-property=AccuracySec=100ms systemctl kexec"
JOURNAL = f"journalctl --no-pager -o json --output-fields=MESSAGE,MESSAGE_ID,UNIT,SYSLOG_IDENTIFIER UNIT={UNIT}"
JOURNAL += " + SYSLOG_IDENTIFIER=sshd + SYSLOG_IDENTIFIER=sshd-session"


class BenchError(Exception):
    """It can't go on; what, and what the machine said."""


def say(line: str) -> None:
    """A line of progress, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def last_task(log: str) -> str:
    """The task that a playbook has done last, from its output so far: the name comes with the result."""
    return next((line.rstrip("* ") for line in reversed(log.splitlines()) if line.startswith(("TASK", "RUNNING HANDLER"))), "no task yet")


class Bench:
    """The machine, and what is done to it."""

    title = "downtime"
    patience = 1  # times all deadlines
    more_for_memcached = ""  # a line of its configuration
    more_settings: Mapping[str, object] = {}  # of the collection

    def __init__(self, options: argparse.Namespace, measured: Measured) -> None:
        self.options = options
        self.measured = measured
        self.node = lab.folder(options.name) / HOST
        self.port = 0
        self.setting = ""

    def spec(self) -> machine.Spec:
        """What to measure on."""
        return machine.Spec("6.1", "nfit", "grub", "2G", 2, os.environ.get("HOTPMEM_ACCEL", "auto"))

    def up(self) -> None:
        """Start the machine; what fails to start leaves nothing running."""
        home = lab.up(self.options.name, 1, self.spec())
        self.measured.machine = json.loads((home / "lab.json").read_text())["spec"]
        self.ssh(BOOT_LOADER, DEADLINE)

    def ssh(self, script: str, timeout: float = 120, stdin: bytes | None = None) -> str:
        """Run a script on the machine; what it printed. Raises BenchError."""
        program, *words = lab.ssh_command(self.options.name, HOST)
        command = [program, f"-oConnectTimeout={CONNECT * self.patience}", *words]
        done = ssh.run(command, script, timeout * self.patience, stdin)
        out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        if done.returncode:
            raise BenchError(f"On the machine, this ended with status {done.returncode}: {script.strip().splitlines()[0]}\n{out}{err}")
        return out

    def play(self, playbook: str | Path, **variables: object) -> None:
        """Run a playbook as the demo does; its output goes to build/bench/{title}-*.log. Raises BenchError."""
        log = BUILD / f"{self.title}-{str(playbook).rpartition('/')[2].removesuffix('.yml')}.log"
        variables["deadline"] = int(DEADLINE * self.patience)
        command = lab_play.command(lab.folder(self.options.name) / "inventory.yml", playbook, **variables)
        env = lab_play.environment(ANSIBLE_TIMEOUT=str(CONNECT * self.patience), PYTHONUNBUFFERED="1")
        begin = told = time.monotonic()
        title = log.stem.partition("-")[2]
        say(f"{title} ...")
        with log.open("w") as file:
            child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env)
        try:
            while child.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - told > TELL:
                    told = time.monotonic()
                    say(f"{title} ({told - begin:.0f} s), done last: {last_task(log.read_text())}")
        except BaseException:
            child.terminate()
            child.wait()
            raise
        if child.returncode:
            tail = "\n".join(log.read_text().splitlines()[-60:])
            raise BenchError(f"{playbook} failed with status {child.returncode} (all of it: {log})\n{tail}")
        say(f"{title} done ({time.monotonic() - begin:.0f} s)")

    def set_up(self, setting: str) -> None:
        """raw, dax: provisioned with the agent, memcached filled. plain: the same machine without either. Nothing when it is so already."""
        if setting == self.setting:
            return
        self.setting = ""
        if setting == "plain":
            self.play(HERE / "plain.yml")
        else:
            road = {"hotpmem_road": setting} if has_road() else {}
            self.play("hotpmem.fleet.provision", **FASTEST, **road, **self.more_settings)
            self.play(DEMO / "memcached.yml")
            self.ssh(CONFIGURE.format(ready=READY, more=self.more_for_memcached, limit=self.options.mib * 5 // 4 + 64))
            items = self.cache_items(f"fill {self.options.mib} /root/manifest.json")["items"]
            say(f"filled: {items} items, {self.options.mib} MiB")
            store(self.port)
        self.setting = setting

    def cache_items(self, words: str) -> dict[str, int]:
        """tests/demo/files/cache_items.py on the machine."""
        return dict(json.loads(self.ssh(f"python3 - {words}", DEADLINE, (DEMO / "files/cache_items.py").read_bytes())))

    def boots(self) -> int:
        """How many boots are over, by the journal that the machine sends out: the machine is not asked, and its console may be quiet."""
        return (self.node / "journal.log").read_bytes().count(b"Startup finished in ")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait, with a line now and then. Raises BenchError at the deadline."""
        begin = told = time.monotonic()
        while not condition():
            now = time.monotonic()
            if now - begin > DEADLINE * self.patience:
                raise BenchError(f"This did not come within {DEADLINE * self.patience:.0f} s: {what}")
            if now - told > TELL:
                told = now
                say(f"waiting for {what} ({now - begin:.0f} s); console: {machine.last_line(self.node)}")
            time.sleep(0.2)

    def measure(self, method: str, start: Callable[[], object]) -> Gap:
        """The client's gap over the boot that start() brings about."""
        boots = self.boots()
        with Client(self.port) as client:
            self.wait(lambda: len(client.answers) > 50, "answers before it")
            start()
            self.wait(lambda: self.boots() > boots, f"the new boot of {method}")
            booted = time.monotonic()
            self.wait(lambda: client.answered_since(booted), "the first answer after it")
            time.sleep(1)
        gap = longest_gap(client.answers)
        self.measured.gaps[method].append(gap.seconds)
        self.measured.coarse[method].append(gap.coarse)
        say(f"{method}: {gap.seconds:.2f} s without an answer ({gap.coarse * 1000:.0f} ms between the last two questions)")
        self.finish_boot()
        return gap

    def finish_boot(self) -> None:
        """Wait for whatever the boot still has to do, the hot-add above all: it is not part of the next round."""
        connection = lab.ssh_command(self.options.name, HOST)
        machine.wait_ssh(HOST, self.node, connection, int((self.node / "port").read_text()), DEADLINE * self.patience)
        self.ssh(f"timeout {DEADLINE:.0f} systemctl is-system-running --wait >/dev/null || test $? -ne 124", DEADLINE + 60)

    def handoff(self, method: str) -> None:
        """The agent's handoff. One ssh command starts it; from then on the machine is left alone until memcached has answered."""
        self.close_connections()
        gap = self.measure(method, lambda: self.ssh(f"{AGENT} handoff --detach --method {METHODS[method]}"))
        cycle = self.cycle()
        down = cycle["timeline"]["down_seconds"]
        checked = self.cache_items("check /root/manifest.json")
        talk = exchanges(self.ssh(f"{JOURNAL} -b -1").splitlines(), self.ssh(f"{JOURNAL} -b 0").splitlines(), UNIT)
        kept = checked["kept"] if gap.hit else 0
        self.measured.handoffs.append(Handoff(method, gap.seconds, down, own_seconds(cycle), checked["items"], kept, talk))
        say(f"{method}: " + ", ".join(f"{one['name']} {one['seconds']:.2f}" for one in cycle["timeline"]["phases"] if one["down"]))
        say(f"{method}: timeline {down:.2f} s; {kept} of {checked['items']} items kept; sshd between stop and answer: {talk}")
        if kept != checked["items"]:
            self.setting = ""  # the next round begins with all items again

    def cycle(self) -> dict[str, Any]:
        """What the agent recorded of the handoff that led to this boot. Raises BenchError when it is not complete."""
        if self.ssh("systemctl show --property=ActiveState --value hotpmem-hot-add").strip() != "active":
            raise BenchError("The memory was not hot-added after the boot:\n" + self.ssh("systemctl status hotpmem-hot-add || true"))
        said = json.loads(self.ssh(f"{AGENT} timeline --json"))
        cycle = said["cycles"][-1] if said["cycles"] else {}
        down = (cycle.get("timeline") or {}).get("down_seconds")
        if cycle.get("boot_id") != self.ssh("cat /proc/sys/kernel/random/boot_id").strip() or down is None:
            raise BenchError(f"hotpmem-node timeline does not tell the down time of this boot:\n{said}")
        return dict(cycle)

    def close_connections(self) -> None:
        """End the connection that Ansible keeps open: its keep-alive would be an exchange in the middle."""
        home = lab.folder(self.options.name)
        command = ["ssh", "-F", str(home / "ssh_config"), f"-oControlPath={home}/cm-%n", "-O", "exit", HOST]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=False)

    def systemctl_kexec(self) -> None:
        """What an operator types who keeps nothing; by a timer, so that the ssh session has ended before."""
        self.ssh(LOAD)
        self.measure("systemctl_kexec", lambda: self.ssh(LATER))

    def ansible_reboot(self) -> None:
        """Through firmware, by ansible.builtin.reboot, which returns when the machine is back."""
        self.measure("ansible_reboot", lambda: self.play(HERE / "reboot.yml"))

    def warm_up(self) -> None:
        """A handoff that does not count: first boots touch memory that the host has yet to give the machine, which takes seconds."""
        say("warming up")
        self.set_up("raw")
        self.handoff("handoff")
        self.measured.gaps["handoff"].clear()
        self.measured.coarse["handoff"].clear()
        self.measured.handoffs.clear()

    def measure_all(self) -> None:
        """A warm-up and all rounds."""
        self.warm_up()
        for number in range(1, self.options.rounds + 1):
            say(f"round {number} of {self.options.rounds}")
            self.round()

    def round(self) -> None:
        """Each method once."""
        for method in METHODS:
            if method not in self.measured.skipped:
                self.set_up("dax" if method == "handoff_dax" else "raw")
                self.handoff(method)
        self.set_up("plain")
        self.systemctl_kexec()
        self.ansible_reboot()


def has_road() -> bool:
    """Whether the collection can save to a namespace that stays devdax."""
    return any("hotpmem_road" in path.read_text() for path in TOP.glob("roles/*/defaults/main.yml"))


def failure(bench: Bench, error: Exception) -> str:
    """What an error is shown with: what the handoff said, the console and the journal."""
    try:
        said = ssh.run(lab.ssh_command(bench.options.name, HOST), "cat /run/hotpmem/jump.log", 30).stdout.decode(errors="replace")
        report = lab.report(bench.options.name, HOST, 60)
    except LabError as missing:
        said, report = "", str(missing)
    return "\n".join(
        part for part in (report, said.strip() and f"--- the handoff's log\n{said}", f"{bench.title}: FAILED: {error}") if part
    )


def run(bench: Bench) -> bool:
    """Run all rounds on a new machine, and end it afterwards. Returns False when a round failed; the reason is shown."""
    try:
        # Not below: a lab of this name that is already up belongs to somebody else and must not be ended here.
        bench.up()
    except (LabError, KeyboardInterrupt) as error:
        print(f"{bench.title}: FAILED: {error}", file=sys.stderr)
        return False
    try:
        bench.port = machine.forward(bench.node, 11211)
        bench.measure_all()
        return True
    except (BenchError, LabError, OSError, ValueError) as error:
        print(failure(bench, error), file=sys.stderr)
        return False
    except KeyboardInterrupt:
        say("interrupted")
        return False
    finally:
        lab.down(bench.options.name)


def begin(doc: str, title: str, methods: Iterable[str] = ()) -> argparse.Namespace:
    """The options of a bench, whose docstring and title these are. methods: those that can be run alone. Also prepares its folder, and
    Ctrl-C."""
    parser = argparse.ArgumentParser(description=doc.split("\n", maxsplit=1)[0])
    parser.add_argument("--mib", type=int, default=256, help="state to keep; the persistent memory holds 512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default=title, help="name of the lab")
    parser.add_argument("--out", type=Path, default=BUILD / f"{title}.json")
    if methods:
        parser.add_argument("--only", choices=tuple(methods), help="run only this method")
    options = parser.parse_args()
    machine.interrupt_as_exception()
    BUILD.mkdir(parents=True, exist_ok=True)
    return options


def end(out: Path, value: dict[str, Any], lines: Iterable[str], reached: Iterable[tuple[bool, str]]) -> None:
    """Write what was measured, and show it with the goals."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(value, indent=1) + "\n")
    print("\n".join(lines))
    for met, sentence in reached:
        print(f"{'met   ' if met else 'MISSED'} {sentence}")
    print(f"written: {out}")


def main() -> int:
    options = begin(__doc__, Bench.title)
    # QEMU inherits it: each question to a machine that is down is a descriptor of QEMU's for 75 s (client.py).
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    measured = Measured(options.mib)
    if not has_road():
        measured.skipped["handoff_dax"] = "this collection has no hotpmem_road"
    whole = run(Bench(options, measured))
    end(options.out, {**as_json(measured), "complete": whole}, table(measured), goals(measured))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
