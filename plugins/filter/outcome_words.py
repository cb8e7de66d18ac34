# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The outcome of an item in words, for tables and reports."""

from __future__ import annotations

from typing import Any

from ansible_collections.hotpmem.fleet.plugins.module_utils._image.restore_outcome import outcome_words

DOCUMENTATION = r"""
name: outcome_words
short_description: Say in words what became of an item
version_added: 0.1.0
description: For tables and reports.
options:
  _input:
    description: One outcome, as P(hotpmem.fleet.item_outcomes#filter) returns them.
    type: dict
    required: true
seealso:
  - plugin: hotpmem.fleet.item_outcomes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say what became of each item
  ansible.builtin.debug:
    msg: "{{ hotpmem_outcome | map('hotpmem.fleet.outcome_words') | join('; ') }}"
"""

RETURN = r"""
_value:
  description: Name and status, and the reason when there is one.
  type: str
"""


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"outcome_words": outcome_words}
