# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets for the tests of the report, as the hosts would describe themselves. The same arguments give the same fleet."""

from __future__ import annotations

import random
from typing import Any

from ansible_collections.hotpmem.fleet.plugins.module_utils._image.timeline import PHASES, UP

# Seconds of the phases in the lab, about.
SECONDS = {
    "stopping": 21.0, "units_stopped": 0.31, "saved": 0.12, "jump": 0.42, "kernel_start": 0.55, "userspace_start": 1.1, "restoring": 0.35,
    "restored": 0.2, "units_starting": 0.08, "units_ready": 0.33, "hot_added": 6.0,
}  # fmt: skip
GIB = 1 << 30


def one_cycle(chance: random.Random, slow: float = 1.0, cold: bool = False) -> dict[str, Any]:
    """A record as the agent writes it."""
    phases = [
        {"name": name, "mark": mark, "seconds": round(SECONDS[mark] * slow * chance.uniform(0.8, 1.2), 6), "down": mark not in UP}
        for mark, name in PHASES
    ]
    items = [
        {"name": "memcached", "status": "restored", "bytes": GIB, "reason": ""},
        {"name": "sessions", "status": "cold" if cold else "restored", "bytes": 0, "reason": "its first chunk is damaged" if cold else ""},
    ]
    return {
        "state_bytes": 2 * GIB, "save_seconds": 0.12, "restore_seconds": 0.2, "items": items,
        "memory_before": {"total_bytes": 6 * GIB}, "memory_with": {"total_bytes": 8 * GIB},
        "timeline": {"phases": phases, "down_seconds": round(sum(phase["seconds"] for phase in phases if phase["down"]), 6)},
    }  # fmt: skip


def past(number: int, cycle: dict[str, Any]) -> dict[str, Any]:
    """A cycle as the module rollout_facts returns it in its history."""
    phases = cycle["timeline"]["phases"]
    return {
        "n": number, "ended": f"2026-11-{number:02d}T10:00:00Z", "down_seconds": cycle["timeline"]["down_seconds"],
        "seconds": sum(phase["seconds"] for phase in phases), "phases": {phase["name"]: phase["seconds"] for phase in phases},
        "saved_bytes": cycle["state_bytes"], "save_seconds": cycle["save_seconds"], "kernel": "6.12.0",
        "items": [{"name": item["name"], "status": item["status"]} for item in cycle["items"]],
    }  # fmt: skip


def sample(
    hosts: int, cycles: int = 20, failed: tuple[int, ...] = (), cold: tuple[int, ...] = (), unreachable: tuple[int, ...] = ()
) -> tuple[list[str], dict[str, Any], dict[str, Any], dict[str, str]]:
    """The arguments of report(). failed: those hosts failed in a rollout, and were slow."""
    chance = random.Random(hosts)
    names = [f"node{number}" for number in range(1, hosts + 1)]
    last: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    failures: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        if number in unreachable:
            last[name], failures[name] = None, "did not answer: ssh: connect to host 192.0.2.1 port 22: No route to host"
            continue
        all_cycles = [one_cycle(chance) for _one in range(cycles - 1)] + [one_cycle(chance, 4 if number in failed else 1, number in cold)]
        last[name] = all_cycles[-1]
        mark = {"run": "20261127T101500Z-ab12cd", "rollout": "default", "time": "2026-11-27T10:17:41Z", "boot_id": "b"}
        facts[name] = {
            "history": [past(at, cycle) for at, cycle in enumerate(all_cycles, 1)],
            "helper_sha256": "5e" * 32,
            "mark": {**mark, "outcome": "failed" if number in failed else "kept"},
        }
    return names, last, facts, failures
