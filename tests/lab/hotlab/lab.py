# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab: a name, its machines, their inventory. Its folder is all its state."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import subprocess
import time
import uuid
from pathlib import Path

from . import cache, image, machine, process, progress, snapshot, ssh
from .errors import LabError
from .machine import Spec
from .qmp import Qmp
from .snapshot import Snapshot

RESTORE_DEADLINE = 120.0


def folder(name: str) -> Path:
    """The state folder of the lab `name`."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise LabError(f"{name!r} is not a valid lab name", "", "Use lower-case letters, digits and dashes.")
    return cache.root() / "labs" / name


def nodes(name: str) -> list[Path]:
    """The machines' folders of a lab, in order."""
    found = [path for path in folder(name).glob("node*") if path.is_dir()]
    return sorted(found, key=lambda path: int(path.name[4:]))


def up(name: str, hosts: int, spec: Spec) -> Path:
    """Start a lab and return its folder; an `up` that fails or is interrupted leaves nothing running."""
    spec.check()
    if not 1 <= hosts <= 32:
        raise LabError(f"{hosts} hosts", "", "A lab has 1 to 32 machines.")
    home = folder(name)
    with cache.lock(f"lab-{name}"):
        running = [path.name for path in nodes(name) if process.running(path / "pid")]
        if running:
            raise LabError(f"Lab {name} is up ({', '.join(running)})", "", f"End it first: lab.py down --name {name}")
        _forget(home)
        kept = snapshot.ensure(spec)
        home.mkdir(parents=True, mode=0o700)
        begin = time.monotonic()
        paths = [home / f"node{number}" for number in range(1, hosts + 1)]
        try:
            with concurrent.futures.ThreadPoolExecutor(hosts) as pool:
                try:
                    ports = list(pool.map(lambda path: _start(kept, path), paths))
                    _write_access(home, kept.spec, dict(zip([path.name for path in paths], ports)))
                    list(pool.map(lambda path: _introduce(name, path, spec.deadline(RESTORE_DEADLINE)), paths))
                except BaseException:
                    # At once, so that the other threads stop waiting for machines that will not be used.
                    pool.shutdown(wait=False, cancel_futures=True)
                    _end(paths)
                    raise
        except BaseException:
            # And once more when no thread can start another.
            _end(paths)
            progress.say(f"lab {name}: failed; ended what was started (logs: {home})")
            raise
    progress.say(f"lab {name}: {hosts} machine(s) answer ssh after {time.monotonic() - begin:.1f} s")
    return home


def _end(paths: list[Path]) -> None:
    for path in paths:
        machine.end(path)


def _start(kept: Snapshot, path: Path) -> int:
    """Start one machine from the snapshot `kept`; returns its port. It runs when this returns."""
    path.mkdir()
    snapshot.overlay(kept.folder / "disk.qcow2", "qcow2", path / "disk.qcow2")
    if kept.spec.dimm:
        name = f"{kept.spec.dimm.name}.img"
        machine.place_in_memory(path / name, kept.spec.dimm.size)
        subprocess.run(["cp", "--sparse=always", str(kept.folder / name), str(path / name)], check=True)
    port = machine.start(kept.spec, kept.qemu, path, kept.base, kept.folder / "ram", template=False)
    (path / "port").write_text(f"{port}\n")
    with Qmp(path / "qmp") as qmp:
        capability = {"capability": "x-ignore-shared", "state": True}
        qmp.execute("migrate-set-capabilities", capabilities=[capability])
        qmp.execute("migrate-incoming", uri=f"exec:cat {kept.folder}/state")
        qmp.wait_migration(60)
        qmp.execute("cont")
    return port


def _introduce(name: str, path: Path, deadline: float) -> None:
    """Wait for the machine, then make it itself: machines of one snapshot share name, machine-id, clock and random state."""
    connection = ssh_command(name, path.name)
    machine.wait_ssh(path.name, path, connection, int((path / "port").read_text()), deadline)
    identity = uuid.uuid4().hex
    script = f"""set -e
        perl -e 'open F, ">/dev/urandom"; read STDIN, $s, 64; syswrite F, $s; ioctl F, 0x5207, 0 or die "RNDRESEEDCRNG: $!"'
        date -u -s @{time.time():.3f} >/dev/null
        hwclock --systohc --utc 2>/dev/null || true
        echo {path.name} >/etc/hostname; hostname {path.name}
        old=$(cat /etc/machine-id)
        echo {identity} >/etc/machine-id
        if [ -d /var/log/journal/$old ]; then mv /var/log/journal/$old /var/log/journal/{identity}; fi
        systemctl restart systemd-journald
    """
    done = ssh.run(connection, script, timeout=deadline, stdin=os.urandom(64))
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise LabError(f"{path.name}: could not be given its name and machine-id", said, machine.console_tail(path))


def _write_access(home: Path, spec: Spec, ports: dict[str, int]) -> None:
    """known_hosts, ssh_config and inventory.yml, and the lab's own record lab.json."""
    keys = image.keys()
    known_hosts = home / "known_hosts"
    known_hosts.write_text("".join(ssh.known_hosts_line(keys, port) for port in ports.values()))
    options = ssh.options(keys, known_hosts)
    config = ""
    for host, port in ports.items():
        lines = [f"HostName 127.0.0.1\n  Port {port}", *(f"{key} {value}" for key, value in options.items())]
        config += f"Host {host}\n  " + "\n  ".join(lines) + "\n"
    (home / "ssh_config").write_text(config)
    # A path below /tmp: a control socket's name may have 107 bytes, with room for ssh's temporary suffix.
    control = f"-F {home}/ssh_config -o ControlMaster=auto -o ControlPersist=300 -o ControlPath={home}/cm-%n"
    if len(str(home)) > 70:
        control = f"-F {home}/ssh_config -o ControlMaster=no"
    inventory = ["lab:", "  hosts:"]
    for host, port in ports.items():
        inventory += [f"    {host}:", "      ansible_host: " + host, f"      lab_port: {port}"]
    inventory += [
        "  vars:",
        "    ansible_user: root",
        "    ansible_python_interpreter: /usr/bin/python3",
        f"    ansible_ssh_common_args: {json.dumps(control)}",
        "    ansible_ssh_args: ''",
        f"    ansible_ssh_private_key_file: {json.dumps(str(keys / 'id'))}",
        f"    lab_pmem: {spec.pmem}",
        f"    lab_boot: {spec.boot}",
    ]
    (home / "inventory.yml").write_text("\n".join(inventory) + "\n")
    (home / "lab.json").write_text(json.dumps({"spec": spec.as_dict(), "ports": ports}, indent=1) + "\n")


def down(name: str) -> int:
    """End a lab's machines and remove its folder; returns how many ran. Nothing there is fine."""
    with cache.lock(f"lab-{name}"):
        ended = sum(machine.end(path) for path in nodes(name))
        _forget(folder(name))
    return ended


def _forget(home: Path) -> None:
    """Remove a lab's folder, and what is in memory of it."""
    for link in home.glob("*/*.img"):
        link.resolve().unlink(missing_ok=True)
    cache.remove(home)


def node(name: str, host: str) -> Path:
    """The folder of one machine; an error lists the machines there are."""
    path = folder(name) / host
    known = [entry.name for entry in nodes(name)]
    if host not in known:
        said = f"It has {', '.join(known)}." if known else "It is not up."
        raise LabError(f"Lab {name} has no machine {host}", said, f"lab.py up --name {name} starts it.")
    return path


def spec(name: str) -> Spec:
    """What the machines of a lab are, as `up` recorded it."""
    return Spec(**json.loads((folder(name) / "lab.json").read_text())["spec"])


def ssh_command(name: str, host: str) -> list[str]:
    """argv of an ssh to a machine; add the command to run."""
    port = int((node(name, host) / "port").read_text())
    return ssh.command(image.keys(), folder(name) / "known_hosts", port)


def status(name: str) -> list[dict[str, object]]:
    """One row a machine: name, whether its process runs, its port, whether sshd answers."""
    rows: list[dict[str, object]] = []
    for path in nodes(name):
        port = int((path / "port").read_text()) if (path / "port").exists() else 0
        pid = process.running(path / "pid")
        rows.append({"host": path.name, "pid": pid, "port": port, "ssh": bool(pid) and ssh.banner(port, 5.0)})
    return rows


def report(name: str, host: str, lines: int = 200) -> str:
    """For a failed test: the console's tail and the journal's, over ssh when it answers, else what it last sent out."""
    path = node(name, host)
    parts = [machine.console_tail(path, lines)]
    done = ssh.run(ssh_command(name, host), f"journalctl --boot --no-pager -o short-monotonic -n {lines}", timeout=60)
    if done.returncode == 0:
        parts.append(f"--- journal of {host}, newest {lines} lines\n" + done.stdout.decode(errors="replace"))
    else:
        tail = machine.readable(path / "journal.log").splitlines()[-lines:]
        parts.append(f"--- journal of {host} as sent to its second serial port (ssh does not answer)\n" + "\n".join(tail))
    return "\n".join(parts)
