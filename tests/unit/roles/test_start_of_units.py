# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles leave it to the engine in which order the units of items start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playing import ROOT, evaluated, read

OURS = ("hotpmem-", "{{ item }}")  # a loop over our own units is checked below
PROGRAMS = ("ansible.builtin.systemd_service", "ansible.builtin.systemd", "ansible.builtin.service")


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Every task in a list, also those inside of blocks."""
    for task in node or []:
        yield task
        for key in ("block", "rescue", "always"):
            yield from tasks(task.get(key))


def test_no_role_starts_or_stops_the_units_of_items_itself() -> None:
    """systemd refuses to start a socket after its service, so the engine orders them all (module state_units)."""
    wrong = []
    for file in sorted(ROOT.glob("roles/*/tasks/**/*.yml")):
        for task in tasks(read(file)):
            name = next((str(task[program].get("name", "")) for program in PROGRAMS if program in task), "hotpmem-")
            words = [str(word) for word in task.get("ansible.builtin.command", {}).get("argv", [])]
            looped = "{{ item }}" in name and "node_agent" not in str(task["loop"])
            acts = "systemctl" in words and {"start", "stop", "restart"} & set(words) and not words[-1].startswith("hotpmem-")
            if looped or acts or not name.startswith(OURS) or {"units", "--start"} <= set(words):
                wrong.append(f"{file.relative_to(ROOT)}: {task['name']}")
    assert wrong == []


def test_a_unit_that_must_not_start_cold_stays_down_for_all_its_items(tmp_path: Path) -> None:
    outcomes = [
        {"name": name, "unit": unit, "status": status}
        for name, unit, status in (
            ("a", "both.service", "restored"), ("b", "both.service", "down"), ("c", "cold.service", "cold"),
            ("d", "up.service", "running"), ("e", None, "restored"), ("f", "good.service", "restored"),
        )
    ]  # fmt: skip
    (answer,) = evaluated(tmp_path, "post_boot", [{"post_boot_outcome": outcomes}], {"start": "{{ post_boot_to_start }}"})
    assert answer["start"] == ["c", "e", "f"]
