# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine looks like after a cycle that it did by itself, read by other means than the agent's own.

What it should look like is what the scenario asked for (tests/setup/molecule.sh, cycle.yml and by_hand.yml), never what the product says of
itself: a check is left out only where the scenario does not ask for the thing.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(os.environ["HOTPMEM_CHECKOUT"]) / "tests/lab"))
from hotlab import lab

ARCH, ROAD, JUMP_INITRD = (os.environ[f"HOTPMEM_{name}"] for name in ("ARCH", "ROAD", "JUMP_INITRD"))
JUMP_CHECK = {"true": True, "false": False}[os.environ["HOTPMEM_JUMP_CHECK"]]
CONSOLE = Path(os.environ["HOTPMEM_LABS"]) / os.environ["HOTPMEM_LAB"] / "node1/serial.log"
NOTES = Path(os.environ["HOTPMEM_CHECKOUT"]) / "build/molecule" / os.environ["HOTPMEM_LAB"]
# As long as the machine may take for what amd64's do in a second.
SECOND = lab.spec(os.environ["HOTPMEM_LAB"]).deadline(1)
# How a play asked for the reboot -> how the state was saved, as the agent's record of the cycle calls it.
METHODS = {"rolling_reboot": "systemd", "systemctl kexec": "shutdown (kexec)"}


@pytest.fixture(scope="module")
def asked() -> str:
    """How the reboot before these checks was asked for: a key of METHODS."""
    text = (NOTES / "asked").read_text(encoding="utf-8")
    assert text in METHODS
    return text


@pytest.fixture(scope="module")
def by_handoff(asked: str) -> bool:
    """Whether the agent handed the machine over. Otherwise somebody typed ``systemctl kexec``, which takes the stock initrd, checked."""
    return asked == "rolling_reboot"


def test_it_is_another_boot(host: Any) -> None:
    before = host.file("/root/boot_id_before").content_string.strip()
    assert before != host.file("/proc/sys/kernel/random/boot_id").content_string.strip()


def test_it_came_by_kexec(host: Any) -> None:
    if ARCH == "arm64":
        # This kernel tells nobody what loaded it. But the firmware says its name whenever it runs, and it has not run since the snapshot.
        console = CONSOLE.read_bytes()
        assert console and b"UEFI firmware" not in console and b"EFI stub" not in console
        return
    assert host.file("/proc/sys/kernel/bootloader_type").content_string.strip() == "208"


def test_it_has_the_settings_that_were_asked_for(host: Any) -> None:
    settings = json.loads(host.file("/etc/hotpmem/node.json").content_string)
    assert (settings["road"], settings["jump_initrd"], settings["jump_check"]) == (ROAD, JUMP_INITRD, JUMP_CHECK)


def test_the_jump_has_its_arguments_once(host: Any, by_handoff: bool) -> None:
    """quiet is not in the lab's own command line. Each scenario jumps from a jumped kernel at least once, or from one that was not."""
    words = host.file("/proc/cmdline").content_string.split()
    marks = [word for word in words if word.startswith("hotpmem.jump=")]
    if by_handoff:
        assert marks == ["hotpmem.jump=1"] and words.count("quiet") == 1 and words[-2:] == [*marks, "quiet"]
    assert len(marks) <= 1


def test_the_cycle_is_on_record(host: Any, asked: str) -> None:
    (cycle,) = json.loads(host.check_output("hotpmem-node timeline --json"))["cycles"]
    boots = [host.file(name).content_string.strip() for name in ("/root/boot_id_before", "/proc/sys/kernel/random/boot_id")]
    assert [cycle["boot_id_before"], cycle["boot_id"], cycle["method"]] == [*boots, METHODS[asked]]
    assert [(item["name"], item["status"]) for item in cycle["items"]] == [("memcached", "restored")]
    marks = [phase["mark"] for phase in cycle["timeline"]["phases"]]
    # A stop that nobody announced has no mark.
    begin = ["stopping", "units_stopped"] if asked == "rolling_reboot" else []
    assert [mark for mark in marks if mark in (*begin, "saved", "jump", "kernel_start", "restored", "units_ready", "hot_added")] == [
        *begin, "saved", "jump", "kernel_start", "restored", "units_ready", "hot_added",
    ]  # fmt: skip
    if asked == "rolling_reboot":
        assert cycle["timeline"]["down_seconds"] > 0


def test_the_units_did_it(host: Any) -> None:
    for unit in ("hotpmem-restore", "hotpmem-hot-add", "hotpmem-save", "memcached"):
        assert host.check_output(f"systemctl show --property=ActiveState --value {unit}") == "active", unit
    assert host.file("/run/hotpmem/restored/memcached").exists


def test_the_service_did_not_wait_for_the_rest_of_the_boot(host: Any) -> None:
    def at(unit: str, event: str) -> int:
        return int(host.check_output(f"systemctl show --property={event}TimestampMonotonic --value {unit}"))

    after = host.check_output("systemctl show --property=After --value memcached").split()
    assert not {"sysinit.target", "basic.target"} & set(after)
    begun = at("memcached", "ExecMainStart")
    assert at("hotpmem-restore", "ActiveEnter") <= begun
    for unit in ("local-fs.target", "systemd-tmpfiles-setup", "systemd-sysctl"):
        assert at(unit, "ActiveEnter") <= begun, unit


@pytest.mark.skipif(JUMP_INITRD == "default", reason="the scenario asks for the stock initrd")
def test_it_came_with_the_initrd_of_the_jump(host: Any, by_handoff: bool) -> None:
    made = json.loads(host.file("/var/lib/hotpmem/jump-initrd.json").content_string)
    assert made["initrd"], made["reason"]
    stock = host.file(f"/boot/initrd.img-{host.check_output('uname -r')}").size
    # As the kernel says it: "Freeing initrd memory: 5120K", in whole pages. arm64 keeps a last one that is not full.
    freed = int(re.findall(r"Freeing initrd memory: (\d+)K", host.check_output("dmesg"))[0]) * 1024
    assert made["initrd"]["size"] < stock
    assert (-4096 if ARCH == "arm64" else 0) <= freed - (made["initrd"]["size"] if by_handoff else stock) < 8192


@pytest.mark.skipif(JUMP_INITRD != "minimal", reason="the scenario asks for no minimal initrd")
def test_the_initrd_restored_it_and_named_the_network(host: Any, by_handoff: bool) -> None:
    if not by_handoff:
        pytest.skip("systemctl kexec, typed by hand, takes the stock initrd")
    made = json.loads(host.file("/var/lib/hotpmem/jump-initrd.json").content_string)["made_of"]
    assert (made["kind"], made["not_early"]) == ("minimal", "")
    assert host.file("/run/hotpmem/early.log").content_string.startswith("memcached restored\n")
    assert "memcached restored" in host.check_output("journalctl -b -u hotpmem-restore --output=cat")
    # Mounted by the initrd, and taken for what its unit would have mounted; nothing is left for anybody to take over.
    assert host.check_output("systemctl show --property=ActiveState --value srv-state.mount") == "active"
    assert not host.file("/run/hotpmem/early").exists and not host.file("/var/lib/hotpmem/pending").exists
    interfaces = [line.split()[2] for line in made["early"] if line.startswith("interface ")]
    renamed = re.findall(r"\[ *([0-9.]+)\] .* (\S+): renamed from eth", host.check_output("dmesg"))
    user = int(host.check_output("systemctl show --property=UserspaceTimestampMonotonic --value"))
    assert interfaces and [name for _at, name in renamed] == interfaces
    assert all(float(at) < user / 1e6 + SECOND for at, _name in renamed)


@pytest.mark.skipif(JUMP_CHECK, reason="the scenario asks for the check")
def test_it_jumped_without_a_check_when_told_so(host: Any, by_handoff: bool) -> None:
    if not by_handoff:
        pytest.skip("what systemctl kexec takes was loaded by the module kexec_load, which always has it checked")
    said = host.run("journalctl -b -1 -u hotpmem-handoff --output=cat --grep='kexec load|checked at the jump'").stdout.splitlines()
    # The other system call was taken as it is, on the map that has reserved memory as RAM.
    assert said == ["kexec load"]


def test_it_took_its_road(host: Any) -> None:
    restored = json.loads(host.file("/run/hotpmem/restore.json").content_string)
    assert restored["device"].startswith({"raw": "/dev/pmem", "dax": "/dev/dax"}[ROAD])
    # An image that was restored is gone before its memory is RAM; a raw namespace was converted for that.
    converted = host.run("journalctl -b -u hotpmem-hot-add --output=cat --grep='make namespace.* devdax'").rc == 0
    assert converted == (ROAD == "raw")


def test_pmem_is_system_ram(host: Any) -> None:
    devices = json.loads(host.check_output("daxctl list -D"))
    devices = devices if isinstance(devices, list) else [devices]
    assert [device["mode"] for device in devices] == ["system-ram"]
    assert devices[0]["online_memblocks"] == devices[0]["total_memblocks"] == 4


def test_nothing_leaked(host: Any) -> None:
    # As kernels before 7.3 say it, and since.
    assert "until the next reboot" not in host.check_output("dmesg")
    assert "stuck online until reboot" not in host.check_output("dmesg")


def test_a_unit_that_keeps_no_state_any_more_is_left_alone(host: Any) -> None:
    assert host.file("/etc/systemd/system/former.service.d").listdir() == []


def test_systemd_accepts_the_units(host: Any) -> None:
    units = " ".join(f"hotpmem-{name}.service" for name in ("restore", "hot-add", "save"))
    # No man pages in the image.
    assert host.run(f"systemd-analyze verify --man=no {units}").stderr == ""
