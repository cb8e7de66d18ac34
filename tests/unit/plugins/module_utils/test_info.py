# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of captured machines: always an answer, whatever is missing."""

from __future__ import annotations

import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.host_report import HostReport
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import Helper

NOT_INSTALLED = dict.fromkeys(("ndctl", "daxctl", "kexec", "/helper"))


@pytest.fixture
def gather(recorder):
    """Facts of a machine on which nothing is installed but what answers."""

    def build(root, answers=None, **arguments):
        runner = recorder({**(answers or {}), **NOT_INSTALLED})
        return HostReport(Sysfs(root), runner, Helper(runner, "/helper")).gather(**arguments)

    return build


@pytest.mark.parametrize(
    "name, expected",
    [
        ("6.1-e820-raw", ("raw", None, 0, "pmem0")),
        ("6.1-e820-devdax", ("devdax", "device_dax", 0, None)),
        ("6.1-e820-system_ram", ("devdax", "kmem", 0x20000000, None)),
        ("6.1-nfit-system_ram", ("devdax", "kmem", 0x20000000, None)),
    ],
)
def test_captured(captured, gather, name, expected):
    facts = gather(captured(name))
    selected = facts["selected"]
    assert (selected["mode"], selected["driver"], selected["online_bytes"], selected["blockdev"]) == expected
    assert (selected["gained_bytes"], selected["lost_bytes"]) == (0x20000000, 0x200000)
    assert facts["memory_blocks"]["block_size"] == 128 << 20
    assert facts["memory"]["total_bytes"] > facts["memory"]["available_bytes"] > 1 << 30
    assert facts["leaks"] == []
    (device,) = facts["dax_devices"] or [{"blocks": []}]
    assert [block["zone"] for block in device["blocks"]] == ["Movable"] * (expected[2] // (128 << 20))
    assert {piece["kind"] for piece in facts["memory_map"]} == {"ram", "pmem"} | ({"kmem"} if expected[2] else set())
    assert [f"{tool} is not installed." in facts["warnings"] for tool in ("ndctl", "daxctl", "kexec")] == [True] * 3


def test_a_machine_without_anything(tmp_path, gather):
    facts = gather(str(tmp_path))
    assert (facts["regions"], facts["namespaces"], facts["dax_devices"], facts["selected"], facts["memory_blocks"]) == (
        [],
        [],
        [],
        None,
        {},
    )
    assert facts["kexec"]["ready"] is False
    assert any("CONFIG_MEMORY_HOTPLUG" in warning for warning in facts["warnings"])


@pytest.mark.parametrize("name, device", [("6.1-e820-raw", "/dev/pmem0"), ("6.1-e820-devdax", "/dev/dax0.0")])
def test_image_of_either_road(captured, gather, name, device):
    answer = '{"event": "result", "image": {"state": "valid", "items": ["a"]}}'
    answers = {"/helper --version": (0, "pmem-state 0.1.0\n", ""), f"/helper info --device {device}": (0, answer, "")}
    facts = gather(captured(name), answers)
    assert facts["image"] == {"state": "valid", "items": ["a"], "device": device}
    assert facts["tools"]["pmem-state"] == "pmem-state 0.1.0"


def test_image_that_cannot_be_read(captured, gather):
    answer = '{"event": "result", "error": {"what": "Cannot open /dev/pmem0", "said": "EACCES", "todo": "x"}}'
    answers = {"/helper --version": (0, "pmem-state 0.1.0", ""), "/helper info": (2, answer, "")}
    facts = gather(captured("6.1-e820-raw"), answers)
    assert facts["image"]["state"] == "unknown"
    assert any("EACCES" in warning for warning in facts["warnings"])


def test_leak_is_a_warning(kernel, gather):
    fake = kernel("6.1-e820-system_ram")
    fake.write("/sys/bus/dax/drivers/kmem/unbind", "dax0.0")
    facts = gather(fake.root)
    assert facts["leaks"][0]["device"] == "dax0.0"
    assert any("Only a reboot" in warning for warning in facts["warnings"])


def test_unknown_namespace_is_a_warning(captured, gather):
    facts = gather(captured("6.1-e820-raw"), wanted="other")
    assert facts["selected"] is None
    assert any("Cannot find the namespace other" in warning for warning in facts["warnings"])


def test_nothing_is_run_that_changes_anything(tree, recorder):
    root = tree("6.1-e820-system_ram")
    before = [(path, sorted(files)) for path, _dirs, files in os.walk(root)]
    tools = {"ndctl": (0, "76.1\n", ""), "daxctl": (0, "76.1\n", ""), "kexec": (0, "kexec-tools 2.0.25\n", "")}
    runner = recorder({**tools, "/helper --version": (0, "pmem-state 0.1.0\n", "")})
    HostReport(Sysfs(root), runner, Helper(runner, "/helper")).gather()
    assert [(path, sorted(files)) for path, _dirs, files in os.walk(root)] == before
    assert [call for call in runner.calls if call[1:] != ["--version"]] == []
