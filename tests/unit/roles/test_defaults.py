# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The argument specs describe the defaults in defaults/main.yml.

antsibull-docs rejects a `default` that is a template, so the description names the value and the inventory variable.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.jump_command_line import JUMP_ARGUMENTS

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parts[-3] for path in ROOT.glob("roles/*/defaults/main.yml"))
TEMPLATE = re.compile(r"\{\{ (hotpmem_\w+) \| default\((.*?)\)(?: \| bool)? \}\}")


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_both_roles_add_the_jump_arguments_of_the_agent() -> None:
    """The agent has them for settings without this key, the roles for inventories without it, and a page of the documentation."""
    for role in ("node_agent", "pre_reboot"):
        template = TEMPLATE.fullmatch(read(ROOT / "roles" / role / "defaults/main.yml")[f"{role}_jump_arguments"])
        assert template and template.group(1) == "hotpmem_jump_arguments"
        assert yaml.safe_load(template.group(2)) == list(JUMP_ARGUMENTS), role
    page = (ROOT / "docs/reference/variables.md").read_text(encoding="utf-8")
    assert f"| `hotpmem_jump_arguments` | `[{', '.join(JUMP_ARGUMENTS)}]` |" in page


@pytest.mark.parametrize("role", ROLES)
def test_the_argument_spec_describes_each_default(role: str) -> None:
    options = read(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read(ROOT / "roles" / role / "defaults/main.yml")
    assert set(options) == set(defaults)
    for name, default in defaults.items():
        described = options[name]["description"]
        last = described if isinstance(described, str) else described[-1]
        template = TEMPLATE.fullmatch(str(default))
        if template:
            variable, value = template.group(1), template.group(2).strip("'")
            wanted = {"": "empty", "[]": "an empty list"}.get(value, f"V({value})".replace("'", ""))
            assert last == f"Default: {wanted}, or the inventory variable C({variable}).", name
        elif "{{" in str(default):
            assert last.startswith("Default: "), name
        else:
            assert options[name]["default"] == default, name
