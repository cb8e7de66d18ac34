# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the settings of a host differ from the inventory, for the role node_agent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: settings_difference
short_description: Compare the settings of a host with the inventory
version_added: 0.1.0
description:
  - Compares settings as the role P(hotpmem.fleet.node_agent#role) would write them with the file that the host has.
  - Items are compared by their name.
positional: _input, on_host, not_compared
options:
  _input:
    description: The settings that the inventory asks for.
    type: dict
    required: true
  on_host:
    description: The text of C(/etc/hotpmem/node.json). Empty when the host does not have this file.
    type: str
    required: true
  not_compared:
    description: The settings that may differ.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Say what the host was told otherwise
  ansible.builtin.debug:
    msg: "{{ settings | hotpmem.fleet.settings_difference(file.content | b64decode) }}"
"""

RETURN = r"""
_value:
  description: One sentence for each difference. Empty when the host has these settings.
  type: list
  elements: str
"""


def _items(value: Any) -> dict[str, Any]:
    return {str(one.get("name")): one for one in value or [] if isinstance(one, Mapping)}


def _value(value: Any) -> str:
    return "not set" if value is None else repr(value)


def _item_difference(name: str, wanted: Any, found: Any) -> str:
    if found is None:
        return f"the item {name} is not on the host"
    if wanted is None:
        return f"the item {name} is on the host, and not in the inventory"
    keys = [key for key in sorted({*wanted, *found}) if wanted.get(key) != found.get(key)]
    return ", ".join(
        f"{key} of the item {name} is {_value(found.get(key))} on the host and {_value(wanted.get(key))} in the inventory" for key in keys
    )


def settings_difference(wanted: Mapping[str, Any], on_host: str, not_compared: Sequence[str] = ()) -> list[str]:
    """Return the differences, in the order of the names."""
    if not on_host.strip():
        return ["the host has no settings, so the agent is not installed on it"]
    try:
        found = json.loads(on_host)
    except ValueError as error:
        return [f"the file of the host is not valid JSON ({error})"]
    if not isinstance(found, dict):
        return ["the file of the host holds no settings, although it is valid JSON"]
    # As the file holds them: a tuple is a list there, and a number has one type.
    asked = json.loads(json.dumps(dict(wanted)))
    said = []
    for key in sorted({*asked, *found} - set(not_compared)):
        if key == "items":
            mine, its = _items(asked.get(key)), _items(found.get(key))
            said += [
                _item_difference(name, mine.get(name), its.get(name)) for name in sorted({*mine, *its}) if mine.get(name) != its.get(name)
            ]
        elif asked.get(key) != found.get(key):
            said.append(f"{key} is {_value(found.get(key))} on the host and {_value(asked.get(key))} in the inventory")
    return said


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"settings_difference": settings_difference}
