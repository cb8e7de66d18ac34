# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a host that was left in its handoff is at rest."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.action import rollout_wait as rw

BOOT = "11111111-2222-3333-4444-555555555555"
CLAIM = '{"pid": 812, "doing": "handoff", "who": "root@control", "run": "20261127T101500Z-0a1b2c"}'


@pytest.mark.parametrize(
    "answer, busy",
    [
        (None, "it does not answer"),
        ("", "it does not answer"),
        ("Welcome\nto\nthis host\n", "it does not answer"),
        (f"{BOOT}\nstopping\nactive\n{CLAIM}\n", "it shuts down"),
        (f"{BOOT}\nrunning\nactive\n{CLAIM}\n", "a handoff is at work on it"),
        # Its unit runs, and has not claimed the host yet; and a handoff that was typed by hand, which has no unit.
        (f"{BOOT}\nrunning\nactivating\n", "a handoff is at work on it"),
        (f"{BOOT}\nrunning\ninactive\n{CLAIM}\n", "a handoff is at work on it"),
        (f"{BOOT}\ndegraded\nfailed\n", ""),
        (f"{BOOT}\nstarting\ninactive\n", ""),
    ],
)
def test_at_rest(answer, busy):
    assert rw.busy_with(answer) == busy
