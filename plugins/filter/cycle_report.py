# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the page of the playbook report shows."""

from __future__ import annotations

from typing import Any

from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report.fleet import report

DOCUMENTATION = r"""
name: cycle_report
short_description: Compute what the page of the playbook report shows
version_added: 0.1.0
description:
  - Returns the figures and the geometry of the drawings, for the template of the page. The texts are not escaped.
positional: _input, cycles, facts, failures, rollouts
options:
  _input:
    description: Names of the hosts, in the order of the page.
    type: list
    elements: str
    required: true
  cycles:
    description: The record of the last cycle of each host, or null.
    type: dict
    required: true
  facts:
    description: What the module C(hotpmem.fleet.rollout_facts) returned for each host.
    type: dict
    required: true
  failures:
    description: Why a host has no figures, as P(hotpmem.fleet.host_failure#filter) says it.
    type: dict
    required: true
  rollouts:
    description: The hosts that failed in a rollout, as P(hotpmem.fleet.rollout_failures#filter) returns them.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Compute the page
  ansible.builtin.set_fact:
    page: "{{ hosts | hotpmem.fleet.cycle_report(cycles, facts, failures) }}"
"""

RETURN = r"""
_value:
  description: The parts of the page, such as C(tiles), C(problems), C(phases), C(trend) and C(hosts).
  type: dict
"""


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"cycle_report": report}
