# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine booted once and kept: its RAM, its disk and its devices' state, from which others start in a second."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import cache, devicetree, emulator, image, machine, progress, ssh
from .emulator import Emulator
from .errors import LabError
from .machine import Spec
from .qmp import Qmp

BOOT_DEADLINE = 600.0
"""Seconds for a cold boot of an amd64 machine under emulation on a busy computer; a quiet one takes 30 to 60."""
KVM_DEADLINE = 90.0
STATE_FORMAT = 1
"""Count up when what _build() keeps changes in a way its commands don't show."""


@dataclass(frozen=True)
class Snapshot:
    """What machines start from: their spec with the accelerator decided, its emulator, the image's folder and the snapshot's own."""

    spec: Spec
    qemu: Emulator
    base: Path
    folder: Path


def ensure(spec: Spec) -> Snapshot:
    """Return the snapshot for `spec`. The snapshot, the image and the emulator are built when they do not exist."""
    base = image.ensure(spec.architecture, spec.kernel)
    if spec.accel != "auto":
        return _entry(spec, base)
    decision = cache.root() / "accel"
    if not machine.proves_kvm(spec.architecture) or (decision.exists() and decision.read_text().strip() == "tcg"):
        return _entry(dataclasses.replace(spec, accel="tcg"), base)
    try:
        return _entry(dataclasses.replace(spec, accel="kvm"), base)
    except LabError as error:
        # A CPU flag and a device prove nothing on nested machines; a boot does. The answer is kept until the cache is removed.
        progress.say(f"KVM did not boot this kernel; emulating from now on ({str(error).splitlines()[0]})")
        decision.write_text("tcg\n")
        return _entry(dataclasses.replace(spec, accel="tcg"), base)


def _entry(spec: Spec, base: Path) -> Snapshot:
    qemu = emulator.choose(spec.architecture, spec.kernel, spec.accel, spec.cpus)
    argv = [spec.architecture.program, *machine.options(spec, Path("machine"), Path("image"), Path("ram"), template=True, port=0)]
    # A saved state belongs to the QEMU that wrote it.
    key = cache.digest([argv, _settled(spec), base.name, qemu.version, STATE_FORMAT, *_tree(spec)])
    name = f"{spec.arch}-{spec.kernel}-{spec.pmem}-{spec.boot}-{key}"
    return Snapshot(spec, qemu, base, cache.entry("snapshots", name, lambda new: _build(spec, qemu, base, new)))


def _build(spec: Spec, qemu: Emulator, base: Path, new: Path) -> None:
    words = f"{spec.arch}, {spec.kernel}, {spec.pmem}, {spec.boot}, {spec.accel}, QEMU {qemu.major}"
    progress.say(f"snapshot: booting a machine: {words} (about a minute)")
    overlay(base / "root.raw", "raw", new / "disk.qcow2")
    if spec.dimm:
        with open(new / f"{spec.dimm.name}.img", "wb") as handle:
            handle.truncate(spec.dimm.size)
    if spec.described:
        machine.write_device_tree(spec, qemu, new, base, new / "ram")
    keys = image.keys()
    try:
        port = machine.start(spec, qemu, new, base, new / "ram", template=True)
        known_hosts = new / "known_hosts"
        known_hosts.write_text(ssh.known_hosts_line(keys, port))
        connection = ssh.command(keys, known_hosts, port)
        machine.wait_ssh("snapshot", new, connection, port, KVM_DEADLINE if spec.accel == "kvm" else spec.deadline(BOOT_DEADLINE))
        progress.say("snapshot: ssh answers; waiting for the boot to finish")
        _settle(spec, new, connection)
        with Qmp(new / "qmp") as qmp:
            qmp.execute("stop")
            capability = {"capability": "x-ignore-shared", "state": True}
            qmp.execute("migrate-set-capabilities", capabilities=[capability])
            qmp.execute("migrate", uri=f"exec:cat >{new}/state")
            qmp.wait_migration(60)
            qmp.execute("quit")
    finally:
        machine.end(new)
    # Pages the guest never wrote, or wrote zeros to, become holes: a 2 GiB RAM file takes about 0.4 GiB.
    subprocess.run(["fallocate", "--dig-holes", str(new / "ram")], check=False)
    for name in ("known_hosts", "qmp", "monitor"):
        (new / name).unlink(missing_ok=True)
    progress.say(f"snapshot: kept ({(new / 'ram').stat().st_blocks * 512 >> 20} MiB of RAM)")


def _tree(spec: Spec) -> list[object]:
    """What makes the device tree of machines that have one."""
    return [Path(devicetree.__file__)] if spec.described else []


def _settled(spec: Spec) -> str:
    """The script that ends well when the boot is over and the machine is one the tests can use."""
    wanted = "region0 namespace0.0" if spec.pmem != "none" else ""
    return f"""systemctl is-system-running --wait
        systemctl is-active systemd-udevd systemd-journald || exit 1
        for name in {wanted}; do ls -d /sys/bus/nd/devices/$name || exit 1; done
        sync"""


def _settle(spec: Spec, folder: Path, connection: list[str]) -> None:
    done = ssh.run(connection, _settled(spec), timeout=spec.deadline(BOOT_DEADLINE))
    if done.returncode:
        said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        raise LabError(
            f"The machine booted, but udevd, journald or the persistent memory ({spec.pmem}) is missing",
            said.strip(),
            machine.console_tail(folder),
        )


def overlay(base: Path, base_format: str, path: Path) -> None:
    """A qcow2 disk at `path` that holds only its differences from `base`."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", base_format, "-b", os.fspath(base), os.fspath(path)]
    subprocess.run(command, check=True)
