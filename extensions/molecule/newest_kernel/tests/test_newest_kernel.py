# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine after all jumps and a reboot through GRUB, read by other means than the collection's own."""

from __future__ import annotations

import json
from typing import Any


def test_grub_started_the_new_kernel(host: Any) -> None:
    release = host.check_output("uname -r")
    assert release.startswith("7.3.")
    # Not kexec, which leaves the loader type 0xD: GRUB is 0x7.
    assert int(host.file("/proc/sys/kernel/bootloader_type").content_string) >> 4 == 7
    assert f"gnulinux-{release}-advanced-" in host.check_output("grub-editenv - list")


def test_each_jump_is_on_record(host: Any) -> None:
    cycles = json.loads(host.check_output("hotpmem-node timeline --last 20 --json"))["cycles"]
    assert [cycle["kernel"].split(".")[0] for cycle in cycles[:4]] == ["6", "7", "6", "7"]
    assert {item["status"] for cycle in cycles[:4] for item in cycle["items"]} == {"restored"}
    assert all(len(cycle["ended"]) == 20 for cycle in cycles)


def test_the_jump_to_another_kernel_took_its_own_initrd(host: Any) -> None:
    said = host.check_output("journalctl -u hotpmem-handoff --output=cat --grep='the jump goes to'").splitlines()
    assert len(said) == 4
    for line in said:
        kernel, initrd = line.removeprefix("the jump goes to ").split(" ", 1)[0], line.rsplit(" with ", 1)[1]
        assert initrd == kernel.replace("vmlinuz", "initrd.img"), line


def test_pmem_is_system_ram(host: Any) -> None:
    devices = json.loads(host.check_output("daxctl list -D"))
    devices = devices if isinstance(devices, list) else [devices]
    assert [device["mode"] for device in devices] == ["system-ram"]
    assert devices[0]["online_memblocks"] == devices[0]["total_memblocks"] == 4


def test_the_service_runs(host: Any) -> None:
    assert host.service("memcached").is_running
    assert not host.file("/var/lib/hotpmem/pending").exists
