# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which hooks run at a point of a rollout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import hooks

DOCUMENTATION = r"""
name: rollout_hooks
short_description: Names of the hooks that run at a point of a rollout
version_added: 0.1.0
description:
  - Returns names only, so that a loop over them prints no tokens of a hook.
  - A ready-made hook of V(before_run), V(before_host) or V(drain) is undone at V(after_run), V(after_host) or V(undrain) by itself, in the
    reverse order.
options:
  _input:
    description: The variable C(hotpmem_hooks).
    type: dict
    required: true
  point:
    description: The point.
    type: str
    required: true
    choices: [before_run, after_run, before_host, after_host, drain, undrain]
  begun:
    description: Names of the hooks of the first point that were begun. The others are not undone. Without it, all are undone.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show which hooks undo the drain
  ansible.builtin.debug:
    msg: "{{ hotpmem_hooks | hotpmem.fleet.rollout_hooks('undrain') }}"
"""

RETURN = r"""
_value:
  description: The names, in the order in which the hooks run.
  type: list
  elements: str
"""


def rollout_hooks(found: Mapping[str, Any] | None, point: str, begun: Iterable[str] | None = None) -> list[str]:
    """Return the names."""
    return [one["name"] for one in hooks.at(found or {}, point, begun)]


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"rollout_hooks": rollout_hooks}
