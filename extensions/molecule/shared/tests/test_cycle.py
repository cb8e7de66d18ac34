# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine looks like after a cycle, read by other means than the collection's own."""

from __future__ import annotations

import json
from typing import Any


def test_it_is_another_boot(host: Any) -> None:
    before = host.file("/root/boot_id_before").content_string.strip()
    now = host.file("/proc/sys/kernel/random/boot_id").content_string.strip()
    assert len(before) == len(now) == 36
    assert before != now


def test_it_came_by_kexec(host: Any) -> None:
    # QEMU's firmware would have run on any other way; kexec leaves the loader type 0xD in the setup header.
    assert host.file("/proc/sys/kernel/bootloader_type").content_string.strip() == "208"


def test_pmem_is_system_ram(host: Any) -> None:
    devices = json.loads(host.check_output("daxctl list -D"))
    devices = devices if isinstance(devices, list) else [devices]
    assert [device["mode"] for device in devices] == ["system-ram"]
    assert devices[0]["online_memblocks"] == devices[0]["total_memblocks"] == 4
    assert devices[0]["movable"] is True
    state = host.file("/sys/bus/dax/devices/dax0.0/state")  # from 7.3
    assert not state.exists or state.content_string.strip() == "online_movable"
    meminfo = host.file("/proc/meminfo").content_string
    total = int(meminfo.split("MemTotal:")[1].split()[0])
    # Four blocks of 128 MiB came back: without them the machine has less than 1.5 GiB.
    assert total > 1536 * 1024


def test_the_service_runs(host: Any) -> None:
    assert host.service("memcached").is_running
    assert not host.file("/var/lib/hotpmem/pending").exists


def test_the_record_says_what_happened(host: Any) -> None:
    cycle = json.loads(host.file("/var/lib/hotpmem/cycle.json").content_string)
    assert [item["status"] for item in cycle["items"]] == ["restored"]
    assert cycle["state_bytes"] > 200 << 20
    assert cycle["jump_seconds"] > cycle["boot_seconds"] > 0


def test_nothing_leaked(host: Any) -> None:
    # As kernels before 7.3 say it, and since.
    assert "until the next reboot" not in host.check_output("dmesg")
    assert "stuck online until reboot" not in host.check_output("dmesg")
