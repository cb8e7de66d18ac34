# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a rollout ended, in numbers for programs."""

from __future__ import annotations

from typing import Any

from ansible_collections.hotpmem.fleet.plugins.filter.rollout_table import results_of
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.result_table import result_stats

DOCUMENTATION = r"""
name: rollout_stats
short_description: Count how a rollout ended
version_added: 0.1.0
description: For the module P(ansible.builtin.set_stats#action), whose data AWX passes to the next job of a workflow.
options:
  _input:
    description: The lines of the journal of a run, or what else P(hotpmem.fleet.rollout_table#filter) takes.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Give the numbers to the next job
  ansible.builtin.set_stats:
    data:
      hotpmem_rollout: "{{ journal | hotpmem.fleet.rollout_stats }}"
"""

RETURN = r"""
_value:
  description:
    - C(hosts) is the number of hosts, and C(counts) the number for each outcome.
    - C(failed_hosts), C(refused_hosts) and C(hosts_not_begun) name the hosts that need somebody.
    - C(down_seconds) holds C(p50), C(p95), C(p99) and C(max) of the down time. Each is the down time of a host, or null if no down time
      is known.
  type: dict
"""


def rollout_stats(given: Any) -> dict[str, Any]:
    """Return the numbers."""
    return result_stats(results_of(given))


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"rollout_stats": rollout_stats}
