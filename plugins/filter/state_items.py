# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The list of items in the one form that the roles use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import ON_DIRTY_STOP
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import items_from

DOCUMENTATION = r"""
name: state_items
short_description: Check a list of items and complete its keys
version_added: 0.1.0
description:
  - Returns the items with all keys set, so that a role can use them without defaults and casts.
  - A name has at most 64 letters, digits, C(.), C(_) and C(-), and starts with a letter, a digit or C(_). A path is absolute.
  - Adds C(.service) to a unit without a type, as systemctl does. A missing, empty or null unit becomes an empty string.
  - Converts C(cold_start) and C(early_start) to booleans, because a value from C(--extra-vars) can be text.
  - Completes C(on_dirty_stop).
  - Fails for an item with an invalid name, path, unit, boolean or C(on_dirty_stop). Keys that it does not know are kept.
positional: _input
options:
  _input:
    description: Items with the keys that O(hotpmem.fleet.state_items#role:main:state_items) describes.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: List the units of the items
  ansible.builtin.debug:
    msg: "{{ hotpmem_items | hotpmem.fleet.state_items | selectattr('unit') | map(attribute='unit') | unique }}"
"""

RETURN = r"""
_value:
  description: The items, each with C(name), C(path), C(unit) (empty without a unit), C(cold_start), C(early_start) and C(on_dirty_stop).
  type: list
  elements: dict
"""

BOOLEANS = {"cold_start": True, "early_start": False}
TYPES = ("service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")
# https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html, "Unit File Names"
_UNIT = re.compile(rf"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\@-]*)?\.({'|'.join(TYPES)})")
_LONGEST = 255


def _problem(said: str, todo: str) -> AnsibleFilterError:
    return AnsibleFilterError(str(HotpmemError("Cannot use the list of items", said, todo)))


def unit_name(value: Any, item: str) -> str:
    """Return the full name of the unit of an item, or the empty string. Raises AnsibleFilterError for a name that systemd refuses."""
    if value is None or value == "":
        return ""
    name = str(value)
    if name.rpartition(".")[2] not in TYPES:
        name += ".service"
    if not isinstance(value, str) or len(name) > _LONGEST or not _UNIT.fullmatch(name):
        raise _problem(
            f"{value!r}, the unit of the item {item}, is not a valid unit name",
            "Use ASCII letters, digits, ':', '-', '_', '.', '@' and '\\', at most 255 in all. systemd-escape prints a name for other text",
        )
    if name.rpartition(".")[0].endswith("@") and name.count("@") == 1:
        raise _problem(
            f"the unit of the item {item}, {name}, is a template, so systemd cannot start it",
            f"Name an instance, such as {name.replace('@', '@a')}",
        )
    return name


def _truth(key: str, entry: Mapping[str, Any]) -> bool:
    value = entry.get(key)
    if value is None:
        return BOOLEANS[key]
    try:
        return bool(boolean(value, strict=True))
    except TypeError as error:
        raise _problem(f"{key} of the item {entry['name']} is {value!r}, which is neither true nor false", "Use true or false") from error


def _on_dirty_stop(entry: Mapping[str, Any]) -> str:
    value = entry.get("on_dirty_stop") or ON_DIRTY_STOP[0]
    if value not in ON_DIRTY_STOP:
        raise _problem(f"on_dirty_stop of the item {entry['name']} is {value!r}", f"Use one of: {', '.join(ON_DIRTY_STOP)}")
    return str(value)


def state_items(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the checked items. Raises AnsibleFilterError for the first fault."""
    if isinstance(items, (str, Mapping)) or not isinstance(items, Sequence) or not all(isinstance(one, Mapping) for one in items):
        raise _problem(f"{items!r} is not a list of items", "Give a list of dicts, each with name and path")
    try:
        checked = items_from([dict(one) for one in items], need_path=True)
    except HotpmemError as error:
        raise AnsibleFilterError(str(error)) from error
    return [
        {
            **entry,
            "name": item.name,
            "path": item.path,
            "unit": unit_name(entry.get("unit"), item.name),
            **{key: _truth(key, entry) for key in BOOLEANS},
            "on_dirty_stop": _on_dirty_stop(entry),
        }
        for item, entry in zip(checked, items)
    ]


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"state_items": state_items}
