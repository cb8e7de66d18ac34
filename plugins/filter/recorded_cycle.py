# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the record of a cycle."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: recorded_cycle
short_description: Read the record of a cycle
version_added: 0.1.0
description: Returns the record of the last cycle that M(ansible.builtin.slurp) has read, C(/var/lib/hotpmem/cycle.json).
options:
  _input:
    description: The result of M(ansible.builtin.slurp).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Fetch the record
  ansible.builtin.slurp:
    src: /var/lib/hotpmem/cycle.json
  register: file

- name: Read it
  ansible.builtin.set_fact:
    cycle: "{{ file | hotpmem.fleet.recorded_cycle }}"
"""

RETURN = r"""
_value:
  description: The record, or null if the host has none or the file is damaged.
  type: dict
"""


def recorded_cycle(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the record of a cycle in the result of slurp. None without a record, or when it is damaged."""
    try:
        cycle = json.loads(base64.b64decode(str((result or {}).get("content") or "")))
    except ValueError:
        return None
    return cycle if isinstance(cycle, dict) else None


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"recorded_cycle": recorded_cycle}
