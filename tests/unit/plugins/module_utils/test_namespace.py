# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions and namespaces of captured machines."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.namespace import Namespaces, by_uuid, matches


@pytest.mark.parametrize(
    "name, provider, start, expected",
    [
        ("6.1-e820-raw", "e820", 0x3FE00000, ("raw", "", "pmem0", "")),
        ("6.1-e820-devdax", "e820", 0x3FE00000, ("devdax", "mem", "", "dax0.0")),
        ("6.1-e820-system_ram", "e820", 0x3FE00000, ("devdax", "mem", "", "dax0.0")),
        ("6.1-nfit-raw", "ACPI.NFIT", 0x147E00000, ("raw", "", "pmem0", "")),
        ("6.1-nfit-devdax", "ACPI.NFIT", 0x147E00000, ("devdax", "mem", "", "dax0.0")),
        ("6.1-nfit-system_ram", "ACPI.NFIT", 0x147E00000, ("devdax", "mem", "", "dax0.0")),
    ],
)
def test_captured(captured, name, provider, start, expected):
    namespaces = Namespaces(Sysfs(captured(name)))
    (region,) = namespaces.regions()
    assert (region.name, region.provider, region.start, region.size, region.labelled) == ("region0", provider, start, 0x20200000, False)
    (one,) = namespaces.all()
    assert (one.name, one.region, one.start, one.size, one.enabled) == ("namespace0.0", "region0", start, 0x20200000, True)
    assert (one.mode, one.map, one.blockdev, one.chardev) == expected
    assert bool(re.match(r"^[0-9a-f-]{36}$", one.uuid)) == (one.mode == "devdax")
    assert namespaces.find() == one
    assert namespaces.find("namespace0.0") == namespaces.find(hex(start)) == namespaces.find(region="region0") == one
    if one.uuid:
        assert namespaces.find(one.uuid.upper()) == one


def test_agrees_with_ndctl(captured, printed):
    import json

    for name in ("6.1-e820-devdax", "6.1-nfit-devdax"):
        one = Namespaces(Sysfs(captured(name))).find()
        said = json.loads(printed(name, "ndctl-list-N")["stdout"])[0]
        assert (said["dev"], said["mode"], said["map"], said["uuid"], said["chardev"], said["align"]) == (
            one.name,
            one.mode,
            one.map,
            one.uuid,
            one.chardev,
            one.align,
        )


@pytest.mark.parametrize("wanted", ["namespace1.0", "0x40000000", "d26ca6e1-0000-4f4e-a0ad-c9674d513762", "data", ""])
def test_nothing_matches_what_is_not_there(captured, wanted):
    one = Namespaces(Sysfs(captured("6.1-e820-raw"))).find()
    assert not matches(one, wanted) or wanted == ""


def test_not_found_lists_what_there_is(captured):
    with pytest.raises(
        HotpmemError,
        match=r"no namespace has this name, label, UUID or start address; "
        r"the namespaces of this host are: namespace0\.0 \(raw, 514 MiB at 0x3fe00000\)",
    ):
        Namespaces(Sysfs(captured("6.1-e820-raw"))).find("nothing")


def test_no_memory_at_all(tmp_path):
    with pytest.raises(HotpmemError, match=r"this host has no namespaces\. Reserve memory"):
        Namespaces(Sysfs(str(tmp_path))).find()


@pytest.fixture
def two(tree):
    """A machine with a second namespace, labelled ``cache``, and an empty seed."""
    root = tree("6.1-e820-raw")
    devices = f"{root}/sys/bus/nd/devices"
    for name, size in (("namespace1.0", "1073741824"), ("namespace1.1", "0")):
        os.unlink(f"{devices}/{name}") if os.path.lexists(f"{devices}/{name}") else None
        shutil.copytree(os.path.realpath(f"{devices}/namespace0.0"), f"{devices}/{name}", symlinks=True)
        for attribute, value in (("size", size), ("resource", "0x100000000"), ("alt_name", "cache")):
            with open(f"{devices}/{name}/{attribute}", "w", encoding="utf-8") as file:
                file.write(value + "\n")
    return Namespaces(Sysfs(root))


def test_several_are_listed(two):
    assert [one.name for one in two.all()] == ["namespace0.0", "namespace1.0"]
    with pytest.raises(HotpmemError, match=r"this host has 2 namespaces: .*namespace1\.0") as caught:
        two.find()
    assert len(caught.value.details["namespaces"]) == 2
    assert two.find("cache").name == two.find("0x100000000").name == two.find(region="region1").name == "namespace1.0"


DIMMS = "6.1-dimms-system_ram"  # after a second DIMM was added: it is region0 now, and the labelled one region1


def test_two_dimms(captured):
    namespaces = Namespaces(Sysfs(captured(DIMMS)))
    assert [(one.name, one.start, one.labelled) for one in namespaces.regions()] == [
        ("region0", 0x180000000, False),
        ("region1", 0x147000000, True),
    ]
    # The kernel keeps an empty seed, which is not a namespace.
    other, state = namespaces.all()
    assert (other.name, other.mode, other.blockdev, other.label, other.uuid, other.raw_uuid) == ("namespace0.0", "raw", "pmem0", "", "", "")
    assert (state.name, state.mode, state.chardev, state.label, state.size) == ("namespace1.0", "devdax", "dax1.0", "state", 528 << 20)
    assert state.lasting == "state" and other.lasting == "0x180000000"
    for wanted in ("state", "0x147000000", "5486149632", "namespace1.0", state.uuid, state.raw_uuid.upper()):
        assert namespaces.find(wanted) == state
    assert by_uuid(state, state.raw_uuid) and not by_uuid(state, "state") and not by_uuid(other, "")
    assert namespaces.region("0x147000000").name == "region1"
    with pytest.raises(
        HotpmemError, match=r"this host has 2 namespaces: namespace0\.0 \(raw, 64 MiB at 0x180000000\); namespace1\.0 \(devdax.*name state"
    ):
        namespaces.find()


def test_its_uuids_are_those_of_ndctl(captured, printed):
    import json

    state = Namespaces(Sysfs(captured(DIMMS))).find("state")
    said = [one for one in json.loads(printed(DIMMS, "ndctl-list-Ni")["stdout"]) if one["dev"] == state.name]
    assert [one["uuid"] for one in said] == [state.uuid]
    assert state.raw_uuid in printed(DIMMS, "ndctl-list-BRNDXvi")["stdout"]


def test_no_such_region(captured):
    with pytest.raises(HotpmemError, match="the region does not exist; the existing regions are: region0"):
        Namespaces(Sysfs(captured("6.1-e820-raw"))).region("region9")


def test_resource_hidden_without_root(tree):
    root = tree("6.1-e820-raw")
    for name in ("region0", "namespace0.0"):
        os.unlink(f"{root}/sys/bus/nd/devices/{name}/resource")
    one = Namespaces(Sysfs(root)).find()
    assert (one.start, one.to_dict()["range"]) == (None, None)
