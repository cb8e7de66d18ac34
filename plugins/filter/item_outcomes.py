# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What became of each item after a restore, for the role post_boot and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.hotpmem.fleet.plugins.filter.state_items import state_items
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.restore_outcome import item_outcomes

DOCUMENTATION = r"""
name: item_outcomes
short_description: Judge what became of each item after a restore
version_added: 0.1.0
description:
  - Joins the items of the inventory with the result of M(hotpmem.fleet.pmem_state_copy) in state V(restored).
positional: _input, result
options:
  _input:
    description: Items with the keys that O(hotpmem.fleet.state_items#role:main:state_items) describes.
    type: list
    elements: dict
    required: true
  result:
    description: Result of the restore; C(none) when none was tried.
    type: dict
    required: true
  running:
    description: Names of items whose unit ran already, so that they were not restored.
    type: list
    elements: str
    default: []
  saved:
    description:
      - The save that was to be restored is known to have ended.
      - Without an image, this tells whether firmware cleared the region.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Judge each item
  ansible.builtin.set_fact:
    outcome: "{{ hotpmem_items | hotpmem.fleet.item_outcomes(restored, running=[]) }}"
"""

RETURN = r"""
_value:
  description:
    - One dict an item with C(name), C(unit), C(bytes), C(status) and C(reason). The status is V(restored), V(cold) (its unit starts without
      its state), V(down) (its unit stays down, because C(cold_start) is false) or V(running) (its unit ran already).
  type: list
  elements: dict
"""


def outcomes(
    items: Sequence[Mapping[str, Any]], result: Mapping[str, Any] | None, running: Sequence[str] = (), saved: bool = False
) -> list[dict[str, Any]]:
    """Return the outcome of each item, after the checks and casts that the roles use."""
    result = result or {}
    return item_outcomes(state_items(items), {**result, "items": result.get("outcomes")}, running, saved)


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"item_outcomes": outcomes}
