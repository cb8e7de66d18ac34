# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dax devices: reading, leaks, and the two moves with their ways back."""

from __future__ import annotations

import errno

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError, SystemCallError
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.dax_device import Dax, find_leaks
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.system_ram import SystemRam

DEVICE = "/sys/bus/dax/devices/dax0.0"
LEAKED = """\
3fe00000-5fffffff : Persistent Memory (legacy)
  3fe00000-3fffffff : namespace0.0
  40000000-5fffffff : dax0.0
    40000000-5fffffff : System RAM (kmem)
60000000-7ffdbfff : System RAM
140000000-17fffffff : dax1.0
  140000000-17fffffff : dax1.0
    140000000-17fffffff : System RAM (kmem)
"""


@pytest.mark.parametrize(
    "held, leaks",
    [
        ([], [("dax0.0", 0x40000000, 0x20000000), ("dax1.0", 0x140000000, 0x40000000)]),
        (["dax0.0", "dax1.0"], []),
        (["dax1.0"], [("dax0.0", 0x40000000, 0x20000000)]),
    ],
)
def test_find_leaks(held, leaks):
    assert [(leak.device, leak.start, leak.size) for leak in find_leaks(LEAKED, held)] == leaks


def test_find_leaks_when_addresses_are_hidden():
    hidden = "00000000-00000000 : Persistent Memory (legacy)\n  00000000-00000000 : dax0.0\n    00000000-00000000 : System RAM (kmem)\n"
    assert "hidden" in find_leaks(hidden, [])[0].sentence


@pytest.fixture
def make(kernel, recorder):
    def build(name):
        fake = kernel(name)
        return fake, Dax(fake, recorder({}), fake.clock, fake.pause)

    return build


@pytest.mark.parametrize(
    "name, driver, blocks",
    [("6.1-e820-devdax", "device_dax", 0), ("6.1-e820-system_ram", "kmem", 4), ("7.3-e820-system_ram", "kmem", 4)],
)
def test_captured(make, name, driver, blocks):
    dax = make(name)[1]
    device = dax.read("dax0.0")
    assert (dax.names(), device.driver, device.start, device.size, device.target_node) == (["dax0.0"], driver, 0x40000000, 0x20000000, 0)
    assert list(dax.whole(device)) == [8, 9, 10, 11]
    assert len(dax.present(device)) == blocks
    assert dax.leaks() == []


@pytest.mark.parametrize("name", ["dax1.0", "kmem", "../../nd"])
def test_no_such_device(make, name):
    with pytest.raises(HotpmemError, match=r"the existing dax devices are: dax0\.0"):
        make("6.1-e820-devdax")[1].read(name)


def test_start_falls_back_to_the_mapping(make):
    fake, dax = make("6.1-e820-devdax")
    import os

    os.unlink(fake.path(f"{DEVICE}/resource"))
    os.makedirs(fake.path(f"{DEVICE}/mapping0"), exist_ok=True)
    with open(fake.path(f"{DEVICE}/mapping0/start"), "w", encoding="utf-8") as file:
        file.write("0x40000000\n")
    assert dax.read("dax0.0").start == 0x40000000
    os.unlink(fake.path(f"{DEVICE}/mapping0/start"))
    with pytest.raises(HotpmemError, match="Run as root"):
        dax.read("dax0.0")


def test_hot_add(make):
    fake, dax = make("6.1-e820-devdax")
    hotplug = SystemRam(dax)
    before = hotplug.shape("dax0.0", 0x20200000)
    predicted = hotplug.as_ram(before, "movable")
    assert hotplug.ram_changes(before, "movable")
    hotplug.to_ram(before, "movable", 10)
    after = hotplug.shape("dax0.0", 0x20200000)
    assert after.to_dict() == predicted == {"mode": "system-ram", "online_bytes": 0x20000000, "blocks": {"online_movable": 4}}
    assert (after.gained, after.lost) == (0x20000000, 0x200000)
    assert fake.ids == []
    assert hotplug.ram_changes(after, "movable") == []


@pytest.mark.parametrize("policy", ["offline", "online", "online_kernel", "online_movable"])
def test_hot_add_sets_the_auto_policy_aside(make, policy):
    fake, dax = make("6.1-e820-devdax")
    fake.set("/sys/devices/system/memory/auto_online_blocks", policy)
    hotplug = SystemRam(dax)
    hotplug.to_ram(hotplug.shape("dax0.0"), "movable", 10)
    assert hotplug.shape("dax0.0").to_dict()["blocks"] == {"online_movable": 4}
    assert fake.get("/sys/devices/system/memory/auto_online_blocks") == policy
    # The blocks came online with the memory: there was no moment for a udev rule to do it differently.
    assert not any("/state" in write for write in fake.writes)


@pytest.mark.parametrize("online, blocks", [("none", {"offline": 4}), ("kernel", {"online_kernel": 4})])
def test_hot_add_policies(make, online, blocks):
    hotplug = SystemRam(make("6.1-e820-devdax")[1])
    before = hotplug.shape("dax0.0")
    hotplug.to_ram(before, online, 10)
    assert hotplug.shape("dax0.0").to_dict()["blocks"] == blocks == hotplug.as_ram(before, online)["blocks"]


def test_kmem_refuses(make):
    fake, dax = make("6.1-e820-devdax")
    fake.kmem_takes = False
    fake.set("/sys/devices/system/memory/auto_online_blocks", "online")
    with pytest.raises(HotpmemError, match=r"kmem did not bind to it; dax0\.0 is bound to device_dax again, and no memory was lost"):
        dax.to_kmem(dax.read("dax0.0"), "online_movable", 10)
    assert dax.read("dax0.0").driver == "device_dax"
    assert fake.ids == []
    assert fake.get("/sys/devices/system/memory/auto_online_blocks") == "online"


def test_onlining_fails(make):
    fake, dax = make("6.1-e820-devdax")
    fake.zone_given["online_movable"] = "Normal"
    hotplug = SystemRam(dax)
    before = hotplug.shape("dax0.0").to_dict()
    with pytest.raises(HotpmemError, match="bound to device_dax again, and no memory was lost"):
        hotplug.to_ram(hotplug.shape("dax0.0"), "movable", 10)
    assert hotplug.shape("dax0.0").to_dict() == before
    assert dax.leaks() == [] and fake.ids == []


@pytest.mark.parametrize(
    "stuck, said", [(False, "is bound to device_dax again, and no memory was lost"), (True, "could NOT be bound to device_dax again")]
)
def test_onlining_fails_after_a_udev_rule_was_quicker(make, stuck, said):
    fake, dax = make("6.1-e820-devdax")
    bind = fake._driver

    def udev(driver, action, device):
        bind(driver, action, device)
        if action == "new_id":
            # The kernel left the blocks offline; the rule had block 9 online.
            for number in (8, 10, 11):
                fake.block(number, "offline", "Normal Movable")
            fake.busy = {9: [errno.EINVAL]} if stuck else {}

    def refuse(name, value, seconds):
        if "memory8/" in name:
            raise SystemCallError("write", errno.EIO, "")
        fake.write(name, value)

    fake._driver, fake.write_until = udev, refuse
    hotplug = SystemRam(dax)
    with pytest.raises(HotpmemError, match=said) as caught:
        hotplug.to_ram(hotplug.shape("dax0.0"), "movable", 10)
    # The memory is never unbound while a block is online.
    assert dax.leaks() == []
    assert caught.value.details["driver"] == dax.read("dax0.0").driver == ("kmem" if stuck else "device_dax")


@pytest.mark.parametrize(
    "attribute, value, said",
    [("target_node", "-1", "no NUMA node"), ("size", str(100 << 20), "no whole memory block of 128 MiB")],
)
def test_what_kmem_would_refuse_is_refused_before(make, attribute, value, said):
    fake, dax = make("6.1-e820-devdax")
    fake.set(f"{DEVICE}/{attribute}", value)
    with pytest.raises(HotpmemError, match=said):
        dax.to_kmem(dax.read("dax0.0"), "online_movable", 10)
    assert fake.writes == []


@pytest.mark.parametrize("name", ["6.1-e820-system_ram", "7.3-e820-system_ram"])
def test_hot_remove(make, name):
    fake, dax = make(name)
    fake.ids = ["dax0.0"]
    dax.blocks.set_state(dax.present(dax.read("dax0.0")), "offline", 10, 0)
    dax.to_device_dax(dax.read("dax0.0"))
    assert dax.read("dax0.0").driver == "device_dax"
    assert fake.ids == [] and dax.leaks() == []


@pytest.mark.parametrize("pinned", [False, True])
def test_a_block_that_comes_online_at_the_last_moment_is_not_leaked(make, pinned):
    """From 7.3 on: the check finds all blocks offline, then somebody brings one online, then the device is unbound."""
    fake, dax = make("7.3-e820-system_ram")
    dax.blocks.set_state(dax.present(dax.read("dax0.0")), "offline", 10, 0)
    forget = dax.forget_id

    def somebody(name):
        fake.block(9, "online", "Normal")
        fake.busy = {9: [errno.EBUSY]} if pinned else {}
        forget(name)

    dax.forget_id = somebody
    if pinned:
        with pytest.raises(SystemCallError):
            dax.to_device_dax(dax.read("dax0.0"))
    else:
        dax.to_device_dax(dax.read("dax0.0"))
    assert dax.leaks() == []
    assert dax.read("dax0.0").driver == ("kmem" if pinned else "device_dax")


def test_a_device_that_kmem_holds_without_its_memory_is_no_ram(make):
    fake, dax = make("7.3-e820-system_ram")
    fake.write(f"{DEVICE}/state", "unplugged")
    hotplug = SystemRam(dax)
    before = hotplug.shape("dax0.0")
    assert before.to_dict() == {"mode": "disabled", "online_bytes": 0, "blocks": {}}
    assert hotplug.ram_changes(before, "movable")
    hotplug.to_ram(before, "movable", 10)
    assert hotplug.shape("dax0.0").to_dict() == hotplug.as_ram(before, "movable")
    assert (dax.read("dax0.0").driver, dax.read("dax0.0").state, fake.ids) == ("kmem", "online_movable", [])


@pytest.mark.parametrize("online", [[8], [8, 9, 10, 11]])
def test_hot_remove_refuses_while_a_block_is_online(make, online):
    fake, dax = make("6.1-e820-system_ram")
    for number in set(range(8, 12)) - set(online):
        fake.block(number, "offline", "Normal Movable")
    with pytest.raises(HotpmemError) as caught:
        dax.to_device_dax(dax.read("dax0.0"))
    assert [block["block"] for block in caught.value.details["blocks"]] == online
    assert "memblock_offline" in str(caught.value)
    assert fake.writes == []


@pytest.mark.parametrize("move", ["to_kmem", "to_device_dax"])
def test_leaked_memory_is_refused(make, move):
    fake, dax = make("6.1-e820-system_ram")
    # What a careless unbind does.
    fake.write("/sys/bus/dax/drivers/kmem/unbind", "dax0.0")
    fake.writes.clear()
    assert [leak.device for leak in dax.leaks()] == ["dax0.0"]
    arguments = ("online_movable", 10) if move == "to_kmem" else ()
    with pytest.raises(HotpmemError, match="leaked") as caught:
        getattr(dax, move)(dax.read("dax0.0"), *arguments)
    assert caught.value.details["leaked"] is True
    assert fake.writes == []


def test_missing_driver_is_loaded_or_named(kernel, recorder):
    fake = kernel("6.1-e820-devdax")
    import shutil

    shutil.rmtree(fake.path("/sys/bus/dax/drivers/kmem"))
    runner = recorder({"modprobe": (1, "", "modprobe: FATAL: Module kmem not found")})
    with pytest.raises(HotpmemError, match="Module kmem not found") as caught:
        Dax(fake, runner).need_driver("kmem")
    assert runner.calls == [["modprobe", "kmem"]]
    assert caught.value.details["missing"] == "kmem"


def test_rezone_failure_of_a_bound_device_leaves_it_bound(make):
    fake, dax = make("6.1-e820-system_ram")
    fake.block(9, "online", "Normal")
    fake.busy = {9: [errno.EINVAL]}
    hotplug = SystemRam(dax)
    with pytest.raises(HotpmemError, match="No block was changed"):
        hotplug.to_ram(hotplug.shape("dax0.0"), "movable", 10)
    assert dax.read("dax0.0").driver == "kmem"
