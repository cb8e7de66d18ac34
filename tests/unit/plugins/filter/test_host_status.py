# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a captured host stands."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.filter.host_failure import host_failure
from ansible_collections.hotpmem.fleet.plugins.filter.host_status import host_status
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.host_report import HostReport
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import Helper

M = 1 << 20


@pytest.mark.parametrize(
    "name, mode, online, blocks",
    [
        ("6.1-e820-raw", "raw", 0, []),
        ("6.1-e820-system_ram", "system-ram", 512 * M, ["blocks 8-11 (0x40000000-0x5fffffff): online, Movable"]),
        ("6.1-nfit-system_ram", "system-ram", 512 * M, ["blocks 41-44 (0x148000000-0x167ffffff): online, Movable"]),
    ],
)
def test_captured(captured, name, mode, online, blocks):
    runner = Runner()
    facts = HostReport(Sysfs(captured(name)), runner, Helper(runner, "/nowhere")).gather()
    stands = host_status(facts, {"ok": True, "reasons": []})
    assert (stands["answered"], stands["ready"], stands["reasons"]) == (True, True, [])
    assert (stands["mode"], stands["online_bytes"], stands["blocks"]) == (mode, online, blocks)
    assert (stands["reserved_bytes"], stands["usable_bytes"], stands["lost_bytes"]) == (514 * M, 512 * M, 2 * M)


def test_the_digest_of_the_helper(captured, tmp_path):
    program = tmp_path / "pmem-state"
    runner = Runner()
    report = HostReport(Sysfs(captured("6.1-e820-raw")), runner, Helper(runner, str(program)))
    assert host_status(report.gather(), {})["helper_sha256"] is None
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o755)
    assert host_status(report.gather(), {})["helper_sha256"] == "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf"


def test_blocks_in_different_states():
    blocks = [
        {"block": number, "range": f"{number * 128 * M:#x}-{(number + 1) * 128 * M - 1:#x}", "state": state, "zone": zone}
        for number, state, zone in ((8, "online", "Movable"), (9, "offline", ""), (10, "offline", ""), (12, "offline", ""))
    ]
    facts = {"selected": {"chardev": "dax0.0"}, "dax_devices": [{"device": "dax1.0"}, {"device": "dax0.0", "blocks": blocks}]}
    assert host_status(facts, {})["blocks"] == [
        "block 8 (0x40000000-0x47ffffff): online, Movable",
        "blocks 9-10 (0x48000000-0x57ffffff): offline",
        "block 12 (0x60000000-0x67ffffff): offline",
    ]


@pytest.mark.parametrize(
    "ready, reasons",
    [({"ok": False, "reasons": ["no kexec"]}, ["no kexec"]), ({"msg": "it broke"}, ["it broke"]), ({}, []), (None, [])],
)
def test_not_ready(ready, reasons):
    stands = host_status({"memory": {"total_bytes": 1}}, ready)
    assert (stands["ready"], stands["reasons"], stands["mode"]) == (False, reasons, "no namespace")


@pytest.mark.parametrize(
    "result, words",
    [
        ({"changed": False}, ""),
        ({"unreachable": True, "msg": "Task failed: ssh said:\nno route"}, "did not answer: ssh said: no route"),
        ({"failed": True, "msg": "sudo: a password is required"}, "failed: sudo: a password is required"),
        ({"failed": True}, "failed: no reason is known"),
        ({}, "was not asked, because this host failed earlier in this run"),
        (None, "was not asked, because this host failed earlier in this run"),
    ],
)
def test_why_a_host_has_no_figures(result, words):
    assert host_failure(result) == words


def test_no_answer():
    assert host_status({}, None)["answered"] is False
