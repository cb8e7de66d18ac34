# SPDX-License-Identifier: GPL-3.0-or-later
"""How the fleet benchmark counts what went over ssh."""

from __future__ import annotations

import pytest
from rollout_cost import exchanges, kind

MODULE = r"1.0	-o ControlPath=/x/cm node1 \/bin\/sh\ -c\ \'/usr/bin/python3\ \&\&\ sleep\ 0\' "
HANDOFF = r"2.0	-o X node1 /bin/sh\ -c\ \'/usr/local/sbin/hotpmem-node\ handoff\ --detach\ --json\' "
POLL = r"3.0	-o X node1 cat\ /proc/sys/kernel/random/boot_id\ /proc/uptime "
GATE = r"3.5	-o X node1 cat\ /proc/sys/kernel/random/boot_id\;\ uname\ -r "
OTHER = r"4.0	-o X node1 /bin/sh\ -c\ \'true\' "


@pytest.mark.parametrize(
    ("line", "expected"), [(MODULE, "module"), (HANDOFF, "handoff"), (POLL, "poll"), (GATE, "other"), (OTHER, "other")]
)
def test_kind(line, expected):
    assert kind(line) == expected


def test_a_module_in_the_down_time_is_seen():
    quiet, loud = [MODULE, HANDOFF, POLL, POLL, MODULE], [MODULE, HANDOFF, POLL, MODULE, POLL]
    assert exchanges("\n".join(quiet), ["node1"])["node1"] == {"modules": 2, "handoff": 1, "polls": 2, "other": 0, "during": 0}
    assert exchanges("\n".join(loud), ["node1"])["node1"]["during"] == 1
    # The gates ask for the boot once more, when the host is back.
    assert exchanges("\n".join([*quiet, GATE]), ["node1"])["node1"]["during"] == 0


def test_each_host_has_its_own_lines():
    counted = exchanges("\n".join([MODULE, MODULE.replace("node1", "node12")]), ["node1", "node12"])
    assert [counted[host]["modules"] for host in ("node1", "node12")] == [1, 1]
