# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a table has no figures for a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: host_failure
short_description: Say why a task has no result for a host
version_added: 0.1.0
description: For tables that show a row for each host, even if a host does not answer.
options:
  _input:
    description: The registered result of the task, or an empty dict if the task did not run on the host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say why the host has no figures
  ansible.builtin.debug:
    msg: "{{ hostvars[item].info | default({}) | hotpmem.fleet.host_failure }}"
"""

RETURN = r"""
_value:
  description: The reason in one line, or an empty string if the task succeeded.
  type: str
"""


def host_failure(result: Mapping[str, Any] | None) -> str:
    """Return the reason, or the empty string."""
    if not result:
        return "was not asked, because this host failed earlier in this run"
    said = " ".join(str(result.get("msg") or "no reason is known").split()).removeprefix("Task failed: ")
    if result.get("unreachable"):
        return f"did not answer: {said}"
    return f"failed: {said}" if result.get("failed") else ""


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"host_failure": host_failure}
