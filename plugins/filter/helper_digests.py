# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which build of pmem-state each host has."""

from __future__ import annotations

from typing import Any

from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report.helpers import helper_digests

DOCUMENTATION = r"""
name: helper_digests
short_description: Group hosts by the build of pmem-state that they have
version_added: 0.1.0
description:
  - The playbook report shows with it whether all hosts have the same C(pmem-state).
positional: _input, facts
options:
  _input:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  facts:
    description: What the module C(hotpmem.fleet.rollout_facts) returned for each host, with its C(helper_sha256).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say whether all hosts have the same pmem-state
  ansible.builtin.debug:
    msg: "{{ (ansible_play_hosts | hotpmem.fleet.helper_digests(facts)).words }}"
"""

RETURN = r"""
_value:
  description:
    - C(words) is a sentence.
    - C(rows) has C(sha256) and C(hosts) of each build. C(sha256) is empty for the hosts that did not tell it.
  type: dict
"""


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"helper_digests": helper_digests}
