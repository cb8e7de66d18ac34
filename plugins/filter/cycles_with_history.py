# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put the history of each host into its cycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: cycles_with_history
short_description: Add the history of each host to its last cycle
version_added: 0.1.0
description: For the JSON file of the playbook report.
positional: _input, facts
options:
  _input:
    description: The record of the last cycle of each host, or null.
    type: dict
    required: true
  facts:
    description: What the module C(hotpmem.fleet.rollout_facts) returned for each host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Put the history of each host beside its last cycle
  ansible.builtin.set_fact:
    data: "{{ cycles | hotpmem.fleet.cycles_with_history(facts) }}"
"""

RETURN = r"""
_value:
  description: The same, each record with the keys C(history) and C(helper_sha256). Hosts without a record stay null.
  type: dict
"""


def cycles_with_history(cycles: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return each cycle with the keys history and helper_sha256."""
    told = {host: facts.get(host) or {} for host in cycles}
    return {
        host: {**cycle, "history": told[host].get("history") or [], "helper_sha256": told[host].get("helper_sha256")} if cycle else None
        for host, cycle in cycles.items()
    }


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"cycles_with_history": cycles_with_history}
