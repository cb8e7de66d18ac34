# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Booleans and numbers of a role may be text, for example from --extra-vars. They count as what they say.

An argument spec checks a value but does not convert it: Jinja takes the text "false" for true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playing import ROOT, evaluated, read, role_variables, template

CASTS = {"bool": ("bool",), "int": ("int", "float")}
CONDITIONS = ("when", "that", "failed_when", "changed_when", "until")


def options(role: str) -> dict[str, str]:
    """The options of a role that are booleans or numbers, with their type."""
    spec = read(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})
    return {name: option["type"] for name, option in spec.items() if option["type"] in CASTS}


ROLES = [role for role in sorted(path.parts[-3] for path in ROOT.glob("roles/*/meta/argument_specs.yml")) if options(role)]


def expressions(node: Any, condition: bool = False) -> Iterator[str]:
    """The Jinja expressions in tasks or variables. A module converts an argument that is nothing but an option."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from expressions(value, key in CONDITIONS)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value, condition)
    elif isinstance(node, str) and condition:
        yield node
    elif isinstance(node, str) and not re.fullmatch(r"\{\{ \w+ \}\}", node):
        yield from re.findall(r"\{[{%].*?[%}]\}", node, flags=re.DOTALL)


def sources(role: str) -> Iterator[tuple[Path, str]]:
    """All expressions of a role, each with its file."""
    where = ROOT / "roles" / role
    for file in sorted([*where.glob("tasks/*.yml"), *where.glob("vars/*.yml"), *where.glob("handlers/*.yml")]):
        yield from ((file.relative_to(ROOT), expression) for expression in expressions(read(file)))
    for file in sorted(where.glob("templates/*.j2")):
        for expression in re.findall(r"\{[{%].*?[%}]\}", file.read_text(encoding="utf-8"), flags=re.DOTALL):
            yield file.relative_to(ROOT), expression


@pytest.mark.parametrize("role", ROLES)
def test_each_use_of_an_option_converts_it(role: str) -> None:
    bare = []
    for file, expression in sources(role):
        for name, kind in options(role).items():
            for use in re.finditer(rf"\b{name}\b(?! *\| *(?:{'|'.join(CASTS[kind])})\b)", expression):
                bare.append(f"{file}: {expression[use.start() - 10 if use.start() > 10 else 0 : use.end() + 20]}")
    assert not bare, "\n".join(bare)


TEMPLATES = [path.stem for path in sorted((ROOT / "roles/node_agent/templates").glob("*.j2"))]


@pytest.mark.parametrize("native", [True, False])
def test_text_gives_the_same_files_as_a_value(tmp_path: Path, native: bool) -> None:
    values = {name: native if kind == "bool" else 7 for name, kind in options("node_agent").items()}
    text = {name: str(value).lower() for name, value in values.items()}
    inventory = {
        re.search(r"hotpmem_\w+", str(default)).group(): text[name]
        for name, default in role_variables("node_agent").items()
        if name in text and "hotpmem_" in str(default)
    }
    assert len(inventory) > 5
    wanted = {name: template("node_agent", name) for name in TEMPLATES} | {
        name: f"{{{{ {name} }}}}" for name in ("node_agent_settings", "node_agent_network_units")
    }
    more = {"item": "{{ node_agent_named | first }}", "hotpmem_items": [{"name": "a", "path": "/srv/a", "unit": "a.service"}]}
    # An inventory variable takes effect through the default of the option.
    rest = {name: value for name, value in values.items() if "hotpmem_" not in str(role_variables("node_agent")[name])}
    cases = [{**more, **values}, {**more, **text}, {**more, **rest, **inventory}]
    by_value, by_text, by_inventory = evaluated(tmp_path, "node_agent", cases, wanted)
    assert by_value["node_agent_settings"]["force"] is native and by_value["node_agent_settings"]["copy_timeout"] == 7
    assert by_text == by_value and by_inventory == by_value
