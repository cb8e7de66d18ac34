# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""One hook of a rollout, with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import hooks

DOCUMENTATION = r"""
name: rollout_hook
short_description: One hook of a rollout, with its defaults
version_added: 0.1.0
description: For the tasks of the role P(hotpmem.fleet.rollout#role), which loop over the names of the hooks.
options:
  _input:
    description: The variable C(hotpmem_hooks).
    type: dict
    required: true
  point:
    description: The point at which the hook runs.
    type: str
    required: true
    choices: [before_run, after_run, before_host, after_host, drain, undrain]
  name:
    description: The name of the hook.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what a hook does
  ansible.builtin.debug:
    msg: "{{ (hotpmem_hooks | hotpmem.fleet.rollout_hook('drain', 'haproxy')).kind }}"
"""

RETURN = r"""
_value:
  description: The hook, with its C(kind).
  type: dict
"""


def rollout_hook(found: Mapping[str, Any], point: str, name: str) -> dict[str, Any]:
    """Return the hook."""
    known = hooks.at(found, point)
    hook = next((one for one in known if one["name"] == name), None)
    if hook is None:
        names = ", ".join(one["name"] for one in known) or "none"
        raise AnsibleFilterError(f"Cannot find the hook {name!r}: the hooks of {point} are {names}. Use one of these.")
    return hook


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"rollout_hook": rollout_hook}
