# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of hotpmem_size and hotpmem_reserve as YAML reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playing import evaluated

NOTHING = {"hotpmem": {"regions": [], "reservation": {"arguments": []}}}


CASES: list[tuple[dict[str, Any], bool, list[str]]] = [
    ({"hotpmem_size": "2G"}, True, ["planned"]),
    ({"hotpmem_size": 2147483648}, True, ["planned"]),
    ({"hotpmem_size": None, "hotpmem_reserve": None}, False, []),
    ({}, False, []),
    ({"hotpmem_size": "2G", "hotpmem_reserve": "514M!1022M"}, False, ["memmap=514M!1022M"]),
    ({"hotpmem_reserve": 514}, False, ["memmap=514"]),  # the role refuses this one by its form
]


def test_values_of_yaml(tmp_path: Path) -> None:
    facts = {"reserve_memory_info": NOTHING, "reserve_memory_planned": {"plan": {"arguments": ["planned"]}}}
    wanted = {"plans": "{{ reserve_memory_plans }}", "arguments": "{{ reserve_memory_arguments }}"}
    found = evaluated(tmp_path, "reserve_memory", [{**facts, **given} for given, _plans, _arguments in CASES], wanted)
    assert found == [{"plans": plans, "arguments": arguments} for _given, plans, arguments in CASES]
