# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a rollout ended, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.hotpmem.fleet.plugins.filter.text_table import text_table
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.result_table import HEADERS, host_results, result_rows

DOCUMENTATION = r"""
name: rollout_table
short_description: Lay out the end of a rollout as a table
version_added: 0.1.0
description:
  - Returns one row for each host with its batch, its outcome, its down time, its time in the rollout, and what to do next. Hosts with
    problems are at the end.
options:
  _input:
    description:
      - The lines of the journal of a run, or one dict for each host.
      - Such a dict has C(host), C(batch), C(outcome), C(down_seconds), C(seconds), C(msg) and C(next).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show how the run ended
  hotpmem.fleet.print_lines:
    lines: "{{ (journal | hotpmem.fleet.rollout_table).splitlines() }}"
"""

RETURN = r"""
_value:
  description: The table, one line a row.
  type: str
"""


def results_of(given: Any) -> Sequence[Mapping[str, Any]]:
    """One dict for each host, from the lines of a journal or from such dicts. Raises AnsibleFilterError."""
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence) or not all(isinstance(one, Mapping) for one in given):
        raise AnsibleFilterError(f"Cannot show how the run ended: {given!r} is not a list of dicts. Give the lines of a journal.")
    return host_results(given) if any("event" in one for one in given) else list(given)


def rollout_table(given: Any) -> str:
    """Return the table."""
    return text_table(result_rows(results_of(given)), HEADERS)


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"rollout_table": rollout_table}
