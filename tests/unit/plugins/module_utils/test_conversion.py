# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversions: what is planned, what is refused, what is run."""

from __future__ import annotations

import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.namespace import Region
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.namespace_conversion import align_for

M = 1 << 20
ND = "/sys/bus/nd/devices"


@pytest.mark.parametrize(
    "start, size, align, labelled, expected",
    [
        (0x3FE00000, 0x20200000, 16 * M, False, 2 * M),
        (0x3FE00000, 0x20200000, 2 * M, False, 0),
        (0x3F000000, 0x21000000, 16 * M, False, 0),
        (0x3F000000, 0x20800000, 16 * M, False, 8 * M),
        (0x40000000, 0x20000000, 16 * M, False, 0),
        (0x3FF00000, 0x20100000, 16 * M, False, 2 * M),  # hopeless: ndctl says so
        (None, 0x20200000, 16 * M, False, 0),
        (0x3FE00000, 0x20200000, 0, False, 0),
        # With labels the size is the namespace's own, and whatever else is in the region does not count.
        (0x3FE00000, 0x21000000, 16 * M, True, 0),
        (0x3F000000, 0x21200000, 16 * M, True, 2 * M),
    ],
)
def test_align_for(start, size, align, labelled, expected):
    assert align_for(Region("region0", "e820", start, size, align, 0, labelled), size) == expected


@pytest.fixture
def make(kernel, recorder):
    """An engine on a captured machine; ndctl answers what the test says, and may change the tree."""

    def build(name, image="", **answers):
        fake = kernel(name)
        runner = recorder({key.replace("_", " "): value for key, value in answers.items()})
        engine = Engine(fake.root, runner)
        for part in (engine.namespaces, engine.dax, engine.dax.blocks, engine.device_users, engine.kexec):
            part.sysfs = fake
        engine.converter.image_of = lambda device: image
        return fake, runner, engine.converter

    return build


def become_devdax(fake):
    """What the kernel shows after raw -> devdax."""

    def answer():
        fake.set(f"{ND}/namespace0.0/holder", "dax0.0")
        fake.set(f"{ND}/namespace0.0/holder_class", "dax")
        base = fake.path(f"{ND}/dax0.0")
        os.makedirs(f"{base}/dax0.0", exist_ok=True)
        if not os.path.islink(f"{base}/driver"):
            os.symlink("../../../../../../bus/nd/drivers/dax_pmem", f"{base}/driver")
        return 0, '{"dev":"namespace0.0","mode":"devdax","map":"mem"}', ""

    return answer


def test_nothing_to_do(make):
    fake, runner, converter = make("6.1-e820-devdax")
    plan = converter.plan_named("", "", "devdax")
    converter.allow(plan, False)
    assert converter.apply(plan).mode == "devdax"
    assert (plan.changes, plan.destroys, runner.calls, fake.writes) == ([], [], [], [])


def test_e820_raw_is_raw_though_ndctl_says_fsdax(make):
    converter = make("6.1-e820-raw", blkid=(2, "", ""))[2]
    assert converter.plan_named("", "", "raw").changes == []
    assert converter.plan_named("", "", "fsdax").changes == ["raw -> fsdax"]


@pytest.mark.parametrize(
    "mapping, align, changes",
    [("", 0, []), ("mem", 2 * M, []), ("dev", 0, ["map mem -> dev"]), ("", 4096, ["align 0x200000 -> 0x1000"])],
)
def test_map_and_align_count_only_when_asked_for(make, mapping, align, changes):
    assert make("6.1-e820-devdax")[2].plan_named("", "", "devdax", mapping, align).changes == changes


def test_convert(make):
    fake, runner, converter = make("6.1-nfit-raw", blkid=(2, "", ""))
    runner.answers["ndctl"] = become_devdax(fake)
    os.makedirs(fake.path("/sys/bus/nd/drivers/dax_pmem"), exist_ok=True)
    os.makedirs(fake.path("/sys/bus/dax/drivers/device_dax"), exist_ok=True)
    plan = converter.plan_named("0x147e00000", "", "devdax")
    converter.allow(plan, False)
    assert runner.calls == [["blkid", "-p", "-o", "export", "/dev/pmem0"]]
    assert fake.writes == []
    after = converter.apply(plan)
    assert (after.mode, after.enabled, after.chardev) == ("devdax", True, "dax0.0")
    assert fake.writes == ["0x200000 > region0/align"]
    assert runner.calls[1:] == [plan.argv]


def test_ndctl_that_changes_nothing_is_found_out(make):
    converter = make("6.1-e820-raw", blkid=(2, "", ""), modprobe=(0, "", ""), ndctl=(0, '{"dev":"namespace0.0"}', ""))[2]
    with pytest.raises(HotpmemError, match=r"reported success, but namespace0\.0 is raw"):
        converter.apply(converter.plan_named("", "", "fsdax"))


def test_a_driver_that_can_not_be_loaded_ends_a_conversion_before_it_begins(make):
    said = (1, "", "modprobe: FATAL: Module nd_pmem not found in directory /lib/modules/6.1")
    fake, runner, converter = make("6.1-e820-raw", blkid=(2, "", ""), modprobe=said)
    os.rename(fake.path("/sys/bus/nd/drivers/nd_pmem"), fake.path("/sys/bus/nd/drivers/other"))
    with pytest.raises(HotpmemError, match=r"the driver for fsdax namespaces: modprobe exited with code 1: .*nd_pmem not found"):
        converter.apply(converter.plan_named("", "", "fsdax"))
    assert runner.calls[-1] == ["modprobe", "nd_pmem"]


def test_left_over_id_is_removed_before_devdax_goes(make):
    fake, _runner, converter = make("6.1-e820-devdax", ndctl=(1, "", "no"))
    fake.ids = ["dax0.0"]
    with pytest.raises(HotpmemError, match="no"):
        converter.apply(converter.plan_named("", "", "raw"))
    assert fake.ids == []


def test_system_ram_is_refused_even_with_force(make):
    converter = make("6.1-e820-system_ram")[2]
    with pytest.raises(HotpmemError, match="in use as System RAM: hot-remove it first"):
        converter.allow(converter.plan_named("", "", "raw"), True)


def test_leaked_memory_is_refused_even_with_force(make):
    fake, _runner, converter = make("6.1-e820-system_ram")
    fake.write("/sys/bus/dax/drivers/kmem/unbind", "dax0.0")
    with pytest.raises(HotpmemError, match=r"leaked.*Only a reboot"):
        converter.allow(converter.plan_named("", "", "raw"), True)


@pytest.mark.parametrize(
    "file, text, said",
    [
        ("/proc/self/mountinfo", "30 1 259:0 / /mnt rw - ext4 /dev/pmem0 rw\n", "/dev/pmem0 is mounted on /mnt (ext4)"),
        ("/proc/swaps", "Filename Type Size Used Priority\n/dev/pmem0 partition 524284 0 -2\n", "/dev/pmem0 is swap space"),
    ],
)
def test_held_is_refused_even_with_force(make, file, text, said):
    fake, _runner, converter = make("6.1-e820-raw", blkid=(2, "", ""))
    os.makedirs(os.path.dirname(fake.path(file)), exist_ok=True)
    with open(fake.path(file), "w", encoding="utf-8") as written:
        written.write(text)
    plan = converter.plan_named("", "", "devdax")
    assert plan.refuses == [said]
    with pytest.raises(HotpmemError, match="force: true does not override this"):
        converter.allow(plan, True)


@pytest.mark.parametrize(
    "image, blkid, destroys",
    [
        ("", (0, "TYPE=ext4\nLABEL=data\n", ""), ['ext4 "data" on /dev/pmem0']),
        ("", (0, "PTTYPE=gpt\n", ""), ["gpt partition table on /dev/pmem0"]),
        ("sequence 7, items cache", (2, "", ""), ["the state image on /dev/pmem0 (sequence 7, items cache), which has not been restored"]),
    ],
)
def test_loss_needs_force_and_is_said(make, image, blkid, destroys):
    converter = make("6.1-e820-raw", image=image, blkid=blkid)[2]
    plan = converter.plan_named("", "", "devdax")
    assert plan.destroys == destroys
    with pytest.raises(HotpmemError, match="the conversion would destroy") as caught:
        converter.allow(plan, False)
    assert caught.value.details["destroys"] == destroys
    converter.allow(plan, True)


def test_labelled_namespace_of_odd_size(make):
    fake, _runner, converter = make("6.1-nfit-raw", blkid=(2, "", ""))
    fake.set(f"{ND}/region0/nstype", "5")
    assert "is not a multiple of 16 MiB" in converter.plan_named("", "", "devdax").destroys[0]


def test_disabled_namespace_is_enabled(make):
    fake, runner, converter = make("6.1-e820-devdax")
    link = fake.path(f"{ND}/dax0.0/driver")
    target = os.readlink(link)
    os.unlink(link)

    def enable():
        os.symlink(target, link)
        return 0, "", ""

    runner.answers["ndctl enable-namespace namespace0.0"] = enable
    plan = converter.plan_named("", "", "devdax")
    assert plan.changes == ["enable namespace0.0"]
    assert converter.apply(plan).enabled


@pytest.fixture
def disabled(make):
    """A raw namespace that lost its driver. shows: what happens once ndctl enables it; refused: how often the driver refuses before."""

    def build(shows, refused=0, image="", create=(1, "", "")):
        fake, runner, converter = make("6.1-nfit-raw", blkid=(2, "", ""), image=image)
        for name in ("nd/drivers/dax_pmem", "nd/drivers/nd_pmem", "dax/drivers/device_dax", "dax/drivers/kmem"):
            os.makedirs(fake.path(f"/sys/bus/{name}"), exist_ok=True)
        for name in ("/sys/bus/dax/drivers/kmem/remove_id", f"{ND}/namespace0.0/force_raw"):
            with open(fake.path(name), "w", encoding="utf-8") as file:
                file.write("0")
        base = fake.path(f"{ND}/namespace0.0")
        os.rename(f"{base}/block", f"{base}/block-away")
        target = os.readlink(f"{base}/driver")
        os.unlink(f"{base}/driver")
        answers = [(1, "", "failed to enable")] * refused

        def enable():
            if answers:
                return answers.pop()
            if shows == "devdax":
                become_devdax(fake)()
            else:
                os.rename(f"{base}/block-away", f"{base}/block")
                os.symlink(target, f"{base}/driver")
            return 0, "", ""

        runner.answers["ndctl enable-namespace namespace0.0"] = enable
        runner.answers["ndctl create-namespace"] = become_devdax(fake) if create is None else create
        return fake, runner, converter

    return build


def ndctl_verbs(runner):
    return [call[1] for call in runner.calls if call[0] == "ndctl"]


def test_disabled_namespace_is_enabled_before_it_is_converted(disabled):
    fake, runner, converter = disabled("raw", create=None)
    plan = converter.plan_named("", "", "devdax")
    converter.allow(plan, False)
    assert converter.apply(plan).mode == "devdax"
    assert ndctl_verbs(runner) == ["enable-namespace", "create-namespace"]
    assert "dax0.0 > kmem/remove_id" in fake.writes


def test_disabled_namespace_that_proves_to_be_what_was_asked_for(disabled):
    _fake, runner, converter = disabled("devdax")
    plan = converter.plan_named("", "", "devdax")
    converter.allow(plan, False)
    assert converter.apply(plan).mode == "devdax"
    assert ndctl_verbs(runner) == ["enable-namespace"]


def test_image_on_a_disabled_namespace_is_kept(disabled):
    """It shows only when the namespace is enabled: what was allowed before is judged again."""
    _fake, runner, converter = disabled("raw", image="of the boot before", create=None)
    plan = converter.plan_named("", "", "devdax")
    converter.allow(plan, False)
    with pytest.raises(HotpmemError, match="which has not been restored"):
        converter.apply(plan)
    assert ndctl_verbs(runner) == ["enable-namespace"]


def test_info_block_that_the_driver_refuses(disabled):
    fake, runner, converter = disabled("raw", refused=1)
    plan = converter.plan_named("", "", "raw")
    assert plan.changes == ["enable namespace0.0"]
    converter.allow(plan, False)
    assert converter.apply(plan).enabled
    assert ndctl_verbs(runner) == ["enable-namespace"] * 2
    assert [write for write in fake.writes if "force_raw" in write] == ["1 > namespace0.0/force_raw", "0 > namespace0.0/force_raw"]


@pytest.mark.parametrize("force", [False, True])
def test_namespace_that_no_driver_takes(disabled, force):
    """Converted only by force: nobody can see what is on it."""
    fake, runner, converter = disabled("raw", refused=2, create=None)
    plan = converter.plan_named("", "", "devdax")
    converter.allow(plan, force)
    if force:
        assert converter.apply(plan).mode == "devdax"
    else:
        with pytest.raises(HotpmemError, match="failed to enable"):
            converter.apply(plan)
    assert ("create-namespace" in ndctl_verbs(runner)) == force
    assert fake.get(f"{ND}/namespace0.0/force_raw") == "0"


@pytest.fixture
def empty(make):
    """A region without a namespace, with labels or without."""

    def build(labelled=False, available=0x214E0000):
        fake, _runner, converter = make("6.1-nfit-raw")
        fake.set(f"{ND}/namespace0.0/size", "0")
        fake.set(f"{ND}/region0/available_size", str(available))
        if labelled:
            fake.set(f"{ND}/region0/nstype", "5")
        return converter

    return build


@pytest.mark.parametrize("region", ["region0", "0x147e00000"])
def test_empty_region_gets_a_namespace(empty, region):
    plan = empty().plan_named("", region, "devdax")
    assert plan.changes == ["create a devdax namespace in region0"]
    assert plan.argv[-2:] == ["--region", "region0"]
    assert plan.region_align == 2 * M


def test_on_a_labelled_dimm_it_gets_a_size_that_lasts(empty):
    plan = empty(labelled=True).plan_named("", "region0", "devdax", label="state")
    assert plan.changes == [
        "create a devdax namespace of 528 MiB in region0, named state; 4.9 MiB are left over, because with labels only a multiple of "
        "16 MiB is certain to survive a reboot"
    ]
    assert plan.argv[-6:] == ["--region", "region0", "--size", str(528 * M), "--name", "state"]
    assert plan.region_align == 0


@pytest.mark.parametrize(
    "labelled, available, label, said",
    [
        (False, 528 * M, "state", "the region has no labels that could store the name state.*ndctl init-labels"),
        (True, 15 * M, "", "only 15 MiB are free, but a namespace on a labelled DIMM needs a multiple of 16 MiB"),
    ],
)
def test_a_namespace_that_would_not_last_is_not_created(empty, labelled, available, label, said):
    with pytest.raises(HotpmemError, match=f"Cannot create a namespace in region0: {said}"):
        empty(labelled, available).plan_named("", "region0", "devdax", label=label)


def test_a_namespace_is_not_renamed(make):
    converter = make("6.1-nfit-raw")[2]
    with pytest.raises(HotpmemError, match=r"Cannot name namespace0\.0 state: the namespace already exists and has no name"):
        converter.plan_named("", "region0", "raw", label="state")


def test_a_conversion_takes_no_uuid_away_that_was_asked_for(make):
    converter = make("6.1-nfit-devdax")[2]
    uuid = converter.namespaces.find().uuid
    assert converter.plan_named(uuid, "", "devdax").changes == []
    with pytest.raises(
        HotpmemError,
        match=rf"Cannot convert namespace0\.0 to raw: .*{uuid}.*gives it a new UUID.*Use 0x147e00000 instead, which does not change",
    ):
        converter.plan_named(uuid, "", "raw")
    assert converter.plan_named("0x147e00000", "", "raw").changes == ["devdax -> raw"]
