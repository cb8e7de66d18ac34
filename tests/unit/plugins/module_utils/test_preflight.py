# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight: each reason by itself, and all of them at once."""

from __future__ import annotations

import json
import os
import struct

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle import preflight as pf
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import Item
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.memory_blocks import Block

M = 1 << 20


def test_meminfo():
    assert pf.meminfo("MemTotal: 2031616 kB\nMemAvailable:    1245412 kB\nHugePages_Total: 3\n\nbroken\n") == {
        "MemTotal": 2031616 * 1024,
        "MemAvailable": 1245412 * 1024,
    }


@pytest.mark.parametrize(
    "available, removed, reserve, said",
    [
        (1024 * M, 512 * M, 256 * M, None),
        (768 * M, 512 * M, 256 * M, None),
        (767 * M, 512 * M, 256 * M, "short by 1 MiB"),
        (
            300 * M,
            512 * M,
            256 * M,
            "would stay available after removing 512 MiB: 300 MiB are available now, and 256 MiB must stay (short by 468 MiB)",
        ),
        (100 * M, 0, 256 * M, "short by 156 MiB"),
    ],
)
def test_memory(available, removed, reserve, said):
    reasons = pf.memory_reasons(available, removed, reserve)
    assert reasons == [] if said is None else said in reasons[0]


def test_swap_is_named_and_not_counted():
    (reason,) = pf.memory_reasons(500 * M, 512 * M, 64 * M, 1024 * M)
    assert "short by 76 MiB; the 1 GiB of swap that is free does not count" in reason
    assert pf.memory_reasons(600 * M, 512 * M, 64 * M, 1024 * M) == []


def test_zones():
    blocks = [
        Block(8, 8 * 128 * M, 128 * M, "online", ("Movable",)),
        Block(9, 9 * 128 * M, 128 * M, "online", ("Normal",)),
        Block(10, 0, 128 * M, "offline", ("Normal",)),
    ]
    (reason,) = pf.zone_reasons(blocks)
    assert "1 of 3 memory blocks" in reason and "9 (0x48000000-0x4fffffff, zone Normal)" in reason
    assert pf.zone_reasons(blocks[:1] + blocks[2:]) == []


@pytest.mark.parametrize(
    "plan, said",
    [
        ({"exit": 0}, None),
        (
            {"exit": 5, "refused": "does_not_fit", "needed_bytes": 600 * M, "capacity_bytes": 512 * M},
            "may need 600 MiB, and the region holds 512 MiB (short by 88 MiB)",
        ),
        ({"exit": 5, "refused": "mount_point", "error": {"said": "/srv is a mount point"}}, "/srv is a mount point"),
        (
            {"exit": 5, "refused": "mount_point", "error": {"what": "Checking item m", "said": "it is a mount point"}},
            "Checking item m: it is a",
        ),
        ({"exit": 2, "error": None}, "exit code 2"),
    ],
)
def test_fit(plan, said):
    reasons = pf.fit_reasons(plan, 512 * M)
    assert reasons == [] if said is None else said in reasons[0]


def entry(name, error=None):
    return {"name": name, "path": f"/srv/{name}", "status": "failed" if error else "ok", "error": error}


@pytest.mark.parametrize(
    "code, refused, error",
    [
        (6, None, {"what": "1 of 3 items could not be copied completely", "said": "the other items are complete"}),
        (2, None, {"what": "No item could be copied", "said": "opening /srv/b failed: Permission denied"}),
        (5, "symlink", {"what": "Checking item b", "said": "it is a symbolic link"}),
        (5, "does_not_fit", {"what": "Fitting 3 items", "said": "the items are too big"}),
    ],
)
def test_each_item_that_cannot_be_planned_is_named(code, refused, error):
    items = [entry("a"), entry("b", "opening /srv/b failed: Permission denied"), entry("c", "it is a symbolic link")]
    plan = {"exit": code, "refused": refused, "error": error, "items": items, "needed_bytes": 600 * M, "capacity_bytes": 512 * M}
    reasons = pf.fit_reasons(plan, 512 * M)
    assert reasons[:2] == [
        "pmem-state can't save the item b (/srv/b): opening /srv/b failed: Permission denied",
        "pmem-state can't save the item c (/srv/c): it is a symbolic link",
    ]
    assert ["does not fit" in reason for reason in reasons[2:]] == ([True] if refused == "does_not_fit" else [])


@pytest.fixture
def host(kernel, recorder):
    """A captured machine with an item, a kernel, and a helper that answers plan."""

    def build(name, plan=(0, {}), version="pmem-state 0.1.0"):
        fake = kernel(name)
        os.makedirs(fake.path("/srv/cache"))
        os.makedirs(fake.path("/boot"))
        release = fake.read("/proc/sys/kernel/osrelease")
        for file in (f"/boot/vmlinuz-{release}", f"/boot/initrd.img-{release}"):
            with open(fake.path(file), "w", encoding="utf-8") as written:
                written.write("x")
        os.makedirs(fake.path("/sys/kernel"), exist_ok=True)
        with open(fake.path("/sys/kernel/kexec_loaded"), "w", encoding="utf-8") as file:
            file.write("0\n")
        result = json.dumps(dict(plan[1], event="result"))
        answers = {"kexec": (0, "", ""), "/helper --version": (0, version, ""), "/helper plan": (plan[0], result, "")}
        engine = Engine(fake.root, recorder(answers), "/helper")
        return fake, pf.Preflight(engine.sysfs, engine.namespaces, engine.dax, engine.kexec, engine.helper)

    return build


ITEMS = [Item("cache", "/srv/cache")]


def test_ready(host):
    _fake, preflight = host("6.1-e820-system_ram", (0, {"needed_bytes": 100 * M, "capacity_bytes": 510 * M}))
    reasons, numbers = preflight.check("", ITEMS, 256 * M, True)
    assert reasons == []
    assert (numbers["online_bytes"], numbers["region_bytes"], numbers["needed_bytes"]) == (512 * M, 514 * M, 100 * M)
    assert numbers["left_bytes"] == numbers["available_bytes"] - 512 * M


@pytest.mark.parametrize("pieces, warned", [(3, True), (64, False)])
def test_huge_pages_without_room_are_foreseen(host, pieces, warned):
    """It is not certain that the kernel can't move them, so this does not refuse the cycle."""
    fake, preflight = host("6.1-e820-system_ram")
    huge = struct.pack("=512Q", 1 << 15 | 1 << 22, *[1 << 16 | 1 << 22] * 511)
    with open(fake.path("/proc/kpageflags"), "wb") as file:
        file.truncate(12 * 32768 * 8)
        file.seek(10 * 32768 * 8)
        file.write(huge * 5)
    with open(fake.path("/proc/buddyinfo"), "w", encoding="utf-8") as file:
        file.write(f"Node 0, zone DMA32 {'1 ' * 9}{pieces} 0\nNode 0, zone Movable {'9 ' * 11}\n")
    reasons, numbers = preflight.check("", ITEMS, 256 * M, True)
    assert reasons == [] and (numbers["huge_bytes"], numbers["huge_room_bytes"]) == (10 * M, pieces * 2 * M)
    assert (numbers["hugetlb_bytes"], numbers["hugetlb_room_bytes"]) == (0, 0)
    assert [("10 MiB of huge pages" in one and "6 MiB" in one) for one in numbers["warnings"]] == ([True] if warned else [])


def test_a_hugetlb_pool_without_free_pages_is_foreseen():
    numbers = {"huge_bytes": 0, "huge_room_bytes": 0, "hugetlb_bytes": 220 * M, "hugetlb_room_bytes": 10 * M}
    (warning,) = pf.huge_warnings(numbers)
    assert "220 MiB of the hugetlb pool, and only 10 MiB of the pool are free" in warning
    assert pf.huge_warnings({**numbers, "hugetlb_room_bytes": 220 * M}) == []


def test_nothing_is_changed(host):
    fake, preflight = host("6.1-e820-system_ram")
    before = {path: files for path, _dirs, files in os.walk(fake.root)}
    preflight.check("", ITEMS, 0, True)
    assert {path: files for path, _dirs, files in os.walk(fake.root)} == before
    assert fake.writes == []


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda fake: fake.block(9, "online", "Normal"), "not in zone Movable"),
        (lambda fake: fake.write("/sys/bus/dax/drivers/kmem/unbind", "dax0.0"), "leaked"),
        (lambda fake: os.rmdir(fake.path("/srv/cache")), "the item cache is missing"),
        (lambda fake: fake.set("/sys/kernel/kexec_loaded", "") or os.unlink(fake.path("/sys/kernel/kexec_loaded")), "has no kexec"),
        (lambda fake: fake.set("/sys/bus/nd/devices/namespace0.0/size", "0"), "this host has no namespaces"),
        (lambda fake: fake.set(f"/boot/initrd.img-{fake.read('/proc/sys/kernel/osrelease')}", ""), "is empty (0 bytes)"),
        (lambda fake: fake.set("/proc/cmdline", fake.read("/proc/cmdline") + " x" * 1000), "too long for kexec"),
    ],
)
def test_one_reason(host, spoil, said):
    fake, preflight = host("6.1-e820-system_ram")
    spoil(fake)
    (reason,) = preflight.check("", ITEMS, 256 * M, True)[0]
    assert said in reason


def test_the_other_items_are_planned_when_one_is_missing(host):
    """So that all reasons are known at once. The numbers stay empty: they would be those of a part."""
    plan = {"items": [entry("cache", "reading it failed")], "needed_bytes": 1, "error": {"what": "No item", "said": "x"}}
    _fake, preflight = host("6.1-e820-system_ram", (2, plan))
    reasons, numbers = preflight.check("", [*ITEMS, Item("gone", "/srv/gone")], 256 * M, True)
    assert ["item gone is missing" in reasons[0], "item cache (/srv/cache): reading it failed" in reasons[1]] == [True, True]
    assert len(reasons) == 2 and numbers["needed_bytes"] is None


def test_mount_point(host):
    fake, preflight = host("6.1-e820-system_ram")
    os.makedirs(fake.path("/proc/self"), exist_ok=True)
    with open(fake.path("/proc/self/mountinfo"), "w", encoding="utf-8") as file:
        file.write("30 1 0:50 / /srv/cache rw - tmpfs tmpfs rw\n")
    (reason,) = preflight.check("", ITEMS, 0, False)[0]
    assert "is a mount point (/srv/cache)" in reason


def test_wrong_helper(host):
    (reason,) = host("6.1-e820-raw", version="GNU tar")[1].check("", ITEMS, 0, False)[0]
    assert "calls itself 'GNU tar'" in reason


def test_everything_at_once(host):
    fake, preflight = host("6.1-e820-system_ram", (5, {"refused": "does_not_fit", "needed_bytes": 600 * M, "capacity_bytes": 510 * M}))
    fake.block(8, "online", "DMA32")
    os.unlink(fake.path("/sys/kernel/kexec_loaded"))
    reasons, numbers = preflight.check("", ITEMS, 4096 * M, True)
    assert [any(part in reason for reason in reasons) for part in ("short by", "zone DMA32", "does not fit", "no kexec")] == [True] * 4
    assert numbers["needed_bytes"] == 600 * M


def test_the_reasons_of_the_units_come_with_the_others(host):
    _fake, preflight = host("6.1-e820-raw", version="GNU tar")
    reasons, _numbers = preflight.check("", ITEMS, 0, False, of_units=lambda: ["the unit cache.service does not exist"])
    assert [any(part in reason for reason in reasons) for part in ("GNU tar", "cache.service")] == [True] * 2

    def silent():
        raise HotpmemError("Cannot read the units", "systemd did not answer", "Try again")

    reasons, _numbers = preflight.check("", ITEMS, 0, False, of_units=silent)
    assert "Cannot read the units: systemd did not answer. Try again" in reasons
