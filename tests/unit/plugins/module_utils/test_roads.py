# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dax road: no conversion in a cycle, and at no moment an image that is older than what the services have done since."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.after_boot import AfterBoot
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import HandoffFailed
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.save_at_shutdown import ShutdownSave
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import PENDING, PLACE, RESTORE

STATE = "/usr/local/sbin/pmem-state"
OLD = {"state": "valid", "sequence": 1, "boot_id": "older", "items": ["cache"]}
RAM = {"mode": "system-ram", "online_bytes": 512 << 20}
DEVICE = {"mode": "devdax", "online_bytes": 0}


def online(engine):
    return [block.what_it_is for block in engine.dax.blocks.present(range(8, 12))]


@pytest.fixture
def dax(machine):
    """(machine, engine, build) on the dax road; the captured machine's memory is System RAM."""
    one, engine, build = machine
    build(road="dax")
    return one, engine, lambda **changes: build(road="dax", **changes)


def test_there_and_back_without_a_conversion(dax):
    one, engine, _build = dax
    for _time in range(2):
        planned = engine.hotplug.plan_remove(engine.namespaces.find())
        assert (planned.before, planned.after, planned.device) == (RAM, DEVICE, "")
        move = engine.hotplug.hot_remove(engine.namespaces.find(), 10)
        assert (move.changes, move.after, move.device) == (planned.changes, planned.after, "/dev/dax0.0")
        calls = len(one.acts)
        again = engine.hotplug.hot_remove(engine.namespaces.find(), 10)
        assert (again.changes, again.before, again.after, len(one.acts)) == ([], DEVICE, DEVICE, calls)
        planned = engine.hotplug.plan_add(engine.namespaces.find(), force=False)
        assert (planned.before, planned.after) == (DEVICE, RAM) and len(one.acts) == calls
        move = engine.hotplug.hot_add(engine.namespaces.find(), 10, force=False)
        assert (move.changes, move.after, move.device) == (planned.changes, planned.after, "")
        assert online(engine) == ["online_movable"] * 4
        assert engine.hotplug.hot_add(engine.namespaces.find(), 10, force=False).changes == []
    assert not any(act.startswith("ndctl") for act in one.acts)


def test_asked_for_by_uuid(machine):
    """Only the road that converts takes it away, and says so while the memory is System RAM and nothing was touched."""
    one, engine, build = machine
    build(road="dax")
    uuid = engine.namespaces.find().uuid
    assert engine.hotplug.hot_remove(engine.namespaces.find(uuid), 10).device == "/dev/dax0.0"
    assert engine.hotplug.hot_add(engine.namespaces.find(uuid), 10, force=False).after == RAM
    engine.preflight.check(uuid, [], 0, False).require()
    build(road="raw")
    with pytest.raises(
        HotpmemError, match=r"This host is not ready: .*selected by its UUID.*Use 0x3fe00000 instead, which does not change"
    ):
        engine.preflight.check(uuid, [], 0, False).require()
    calls = len(one.acts)
    with pytest.raises(HotpmemError, match=r"selected by its UUID.*gives it a new UUID.*Use 0x3fe00000 instead, which does not change"):
        engine.hotplug.hot_remove(engine.namespaces.find(uuid), 10, force=True)
    assert len(one.acts) == calls and online(engine) == ["online_movable"] * 4


def test_order_of_a_handoff(dax):
    one, _engine, build = dax
    build().run()
    acts = one.acts
    order = ["sync", "kexec -s -l", f"{STATE} invalidate --device /dev/dax0.0", f"{STATE} cycles"]
    order += ["systemctl stop cache.service must.service", f"{STATE} save --device /dev/dax0.0", "systemctl kexec"]
    assert [next(act for act in acts if act.startswith(start)) for start in order] == acts
    assert one.fake.get(PLACE) == "0x3fe00000 dax"


class PowerCut(BaseException):
    """Nothing catches it, and nothing is put back."""


def cut_at(one, engine, moment):
    """Let the machine lose its power just before its event number moment. Returns the list of events."""
    events = []

    def counted(act):
        def wrapper(*args, **options):
            events.append(str(args[0]))
            if len(events) == moment:
                raise PowerCut
            return act(*args, **options)

        return wrapper

    one.run = counted(one.run)
    engine.sysfs.write = counted(engine.sysfs.write)
    return events


def stale(one):
    """The next boot would restore something while the services have gone on since it was saved."""
    return one.fake.exists(PENDING) and one.image["state"] == "valid" and (one.image["boot_id"] == "older" or "cache.service" in one.active)


def kmem_only_without_image(one, engine):
    """Fail when kmem gets the device while an image is on it."""
    real = one.fake._driver

    def checked(driver, action, device):
        assert (driver, action) != ("kmem", "new_id") or one.image["state"] == "none"
        real(driver, action, device)

    one.fake._driver = checked


@pytest.mark.parametrize("moment", range(1, 60))
def test_a_power_cut_at_any_moment_of_a_handoff(dax, moment):
    """A header that RAM never overwrote lies there from the start."""
    one, engine, build = dax
    one.image = dict(OLD)
    handoff = build()
    kmem_only_without_image(one, engine)
    one.fails["systemctl kexec"] = (1, "", "no way")
    one.met.add("systemctl kexec")  # or cut off before
    events = cut_at(one, engine, moment)
    with pytest.raises((PowerCut, HandoffFailed)) as caught:
        handoff.run()
    assert not stale(one)
    # The last ones come after all that happens: else there would be moments that nothing tries.
    assert caught.type is HandoffFailed or moment < 59
    if caught.type is HandoffFailed:
        # Every moment was tried, and without a cut all is as before.
        assert len(events) < moment and online(engine) == ["online_movable"] * 4 and one.image["state"] == "none"


@pytest.mark.parametrize("stage", ["stop", "save", "jump"])
def test_put_back(dax, stage):
    one, engine, build = dax
    kmem_only_without_image(one, engine)
    commands = {"stop": "systemctl stop cache.service", "save": f"{STATE} save", "jump": "systemctl kexec"}
    one.fails[commands[stage]] = (6, json.dumps({"event": "result", "exit": 6, "items": [], "error": None}), "")
    with pytest.raises(HandoffFailed, match="as before") as caught:
        build().run()
    assert caught.value.stuck == [] and one.active == {"cache.service", "must.service", "db.service"}
    assert online(engine) == ["online_movable"] * 4 and not one.fake.exists(PENDING)
    acts = one.acts
    assert acts.index("systemctl start cache.service must.service") < len(acts) - 1 - acts[::-1].index(
        f"{STATE} invalidate --device /dev/dax0.0 --json"
    )


LIES = (0, json.dumps({"event": "result", "exit": 0, "image": {"state": "none"}}), "")
FAILS = (2, json.dumps({"event": "result", "exit": 2, "error": {"what": "Writing", "said": "no", "todo": "x"}}), "")


@pytest.mark.parametrize("answer, said", [(FAILS, "no"), (LIES, "reported success, but the device still holds an image (consumed)")])
def test_what_cannot_be_invalidated_is_not_hot_added(dax, answer, said):
    one, engine, _build = dax
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    one.image = {"state": "consumed"}
    one.fails[f"{STATE} invalidate"] = answer
    with pytest.raises(HotpmemError) as caught:
        engine.hotplug.hot_add(engine.namespaces.find(), 10, force=True)
    assert said in str(caught.value) and f"{STATE} invalidate --device /dev/dax0.0" in caught.value.todo
    assert engine.dax.driver_of("dax0.0") == "device_dax" and online(engine) == []


def test_what_was_ram_and_cannot_be_invalidated_is_not_saved_to(dax):
    one, engine, build = dax
    one.fails[f"{STATE} invalidate"] = FAILS
    with pytest.raises(HandoffFailed, match="NOT put back: the memory is not System RAM"):
        build().run()
    assert not any("pmem-state save" in act for act in one.acts) and not one.fake.exists(PENDING)
    assert one.active == {"cache.service", "must.service", "db.service"}
    assert engine.dax.driver_of("dax0.0") == "device_dax"


def test_after_the_boot(dax):
    one, engine, build = dax
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    handoff = build()
    boot = AfterBoot(engine, handoff.settings, handoff.services)
    one.image = dict(OLD)
    with pytest.raises(HotpmemError, match=r"this would destroy the state image on /dev/dax0\.0 \(sequence 1, items cache\)"):
        boot.hot_add()
    items = [{"name": name, "status": "restored", "error": None} for name in ("cache", "must")]
    boot.records.write_json(RESTORE, {"exit": 0, "image": {"state": "consumed"}, "items": items})
    one.image = {"state": "consumed"}
    kmem_only_without_image(one, engine)
    assert boot.hot_add().changes[0] == "make sure that dax0.0 holds no image"
    assert online(engine) == ["online_movable"] * 4


@pytest.mark.parametrize("old, new, device", [("raw", "dax", "pmem0"), ("dax", "raw", "dax0.0")])
def test_a_host_that_changes_its_road_keeps_the_image_that_waits(machine, old, new, device):
    one, engine, build = machine
    build(road=old)
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    one.image = dict(OLD)
    handoff = build(road=new)
    calls = len(one.acts)
    for act in (
        lambda: engine.hotplug.plan_remove(engine.namespaces.find()),
        lambda: engine.hotplug.hot_remove(engine.namespaces.find(), 10),
        lambda: engine.hotplug.plan_add(engine.namespaces.find(), force=False),
        lambda: engine.hotplug.hot_add(engine.namespaces.find(), 10, force=False),
        handoff.run,
    ):
        with pytest.raises(HotpmemError, match=rf"/dev/{device} (\(sequence 1|holds a state image)"):
            act()
    assert len(one.acts) == calls
    assert engine.hotplug.hot_remove(engine.namespaces.find(), 10, force=True).device == {"raw": "/dev/pmem0", "dax": "/dev/dax0.0"}[new]
    if new == "dax":
        # What lies where the header is going to be was the payload of the other road.
        assert one.acts[-1].startswith(f"{STATE} invalidate --device /dev/dax0.0")


@pytest.mark.parametrize("old, new", [("raw", "dax"), ("dax", "raw")])
def test_a_host_that_changes_its_road_is_brought_over(machine, old, new):
    one, engine, build = machine
    build(road=old)
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    build(road=new)
    kmem_only_without_image(one, engine)
    mode = {"raw": "raw", "dax": "devdax"}[new]
    move = engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    assert move.after == {"mode": mode, "online_bytes": 0} and f"make namespace0.0 {mode}" in move.changes
    assert engine.hotplug.hot_remove(engine.namespaces.find(), 10).changes == []
    engine.hotplug.hot_add(engine.namespaces.find(), 10, force=False)
    assert online(engine) == ["online_movable"] * 4


def test_a_raw_namespace_becomes_system_ram(machine):
    """The first run on a new host: converted once, and never believed to hold an image where its payload was."""
    one, engine, build = machine
    build()
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    build(road="dax")
    planned = engine.hotplug.plan_add(engine.namespaces.find(), force=False)
    assert (planned.before, planned.after) == ({"mode": "raw", "online_bytes": 0}, RAM)
    kmem_only_without_image(one, engine)
    move = engine.hotplug.hot_add(engine.namespaces.find(), 10, force=False)
    assert (move.changes, move.after) == (planned.changes, RAM)
    assert [act for act in one.acts if "ndctl" in act or "invalidate" in act][-1].startswith(f"{STATE} invalidate")


def test_a_device_that_no_driver_holds_is_looked_at_first(dax):
    one, engine, _build = dax
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    os.unlink(one.fake.path("/sys/bus/dax/devices/dax0.0/driver"))
    one.image = dict(OLD)
    assert engine.hotplug.plan_remove(engine.namespaces.find()).changes == ["bind dax0.0 to device_dax"]
    with pytest.raises(HotpmemError, match="this would destroy the state image"):
        engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    os.unlink(one.fake.path("/sys/bus/dax/devices/dax0.0/driver"))
    with pytest.raises(HotpmemError, match="this would destroy the state image"):
        engine.hotplug.hot_add(engine.namespaces.find(), 10, force=False)
    assert one.image == OLD and engine.dax.driver_of("dax0.0") == "device_dax"


def test_a_handoff_that_is_refused_in_the_middle_gives_up_nothing(dax):
    """The image shows only once a driver holds the device: preflight could not see it."""
    one, engine, build = dax
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    os.unlink(one.fake.path("/sys/bus/dax/devices/dax0.0/driver"))
    one.image = dict(OLD)
    handoff = build()
    with pytest.raises(HandoffFailed, match=r"NOT put back: the memory is not System RAM .*this would destroy the state image"):
        handoff.run()
    assert handoff.stage == "hot_remove" and one.image == OLD and one.active == {"cache.service", "must.service", "db.service"}


def test_what_hot_remove_would_refuse_is_refused_before_anything(machine):
    """fsdax, say: neither road may take a file system with it."""
    one, _engine, build = machine
    handoff = build()
    handoff.engine.hotplug.hot_remove(handoff.engine.namespaces.find(), 10)
    build(road="dax")
    one.fails["blkid"] = (0, "TYPE=ext4\n", "")
    calls = len(one.acts)
    with pytest.raises(HotpmemError, match="the conversion would destroy ext4 on /dev/pmem0") as caught:
        handoff.run()
    assert not isinstance(caught.value, HandoffFailed) and len(one.acts) == calls


def test_save_at_shutdown(dax):
    one, engine, build = dax
    one.jobs = "12 kexec.target start waiting\n"
    one.active = set()
    handoff = build()
    save = ShutdownSave(engine, handoff.settings, handoff.services, one.fake.clock)
    assert "to /dev/dax0.0" in save.run(100)["said"] and one.fake.get(PLACE) == "0x3fe00000 dax"
    assert "the handoff saved it" in save.run(100)["said"]
    one.image = dict(OLD)
    with pytest.raises(HotpmemError, match=r"/dev/dax0\.0 holds an image that was not restored. That image is kept"):
        save.run(100)


def test_the_info_block_is_no_room_for_state(dax):
    one, _engine, build = dax
    numbers = build().preflight()
    assert (numbers["region_bytes"], numbers["capacity_bytes"]) == (514 << 20, 512 << 20)
    assert any(f"plan --capacity {512 << 20}" in call for call in one.calls)
