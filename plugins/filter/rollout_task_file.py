# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a task file of the operator is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import fields

DOCUMENTATION = r"""
name: rollout_task_file
short_description: The absolute path of a task file for a hook or a gate
version_added: 0.1.0
description: A path that is not absolute is looked for in several directories, and the first one that has the file counts.
options:
  _input:
    description: The path as the operator wrote it.
    type: str
    required: true
  bases:
    description: The directories.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Run the operator's tasks
  ansible.builtin.include_tasks: "{{ 'drain.yml' | hotpmem.fleet.rollout_task_file([inventory_dir, playbook_dir]) }}"
"""

RETURN = r"""
_value:
  description: The absolute path, or the path as it was if no directory has the file.
  type: str
"""


def rollout_task_file(name: str, bases: Iterable[str | None]) -> str:
    """Return the path."""
    return fields.find_file(name, [base for base in bases if base]) or name


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"rollout_task_file": rollout_task_file}
