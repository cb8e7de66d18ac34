# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin rollout_gate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_gate
short_description: Ask the gates of a host, once or for a soak time
version_added: 0.1.0
description:
  - Asks commands, web servers, TCP ports and systemd units. A gate is asked again as often as its retries say.
  - Gates that are task files are left out. The role runs them.
  - This is an action plugin. The tasks of the role P(hotpmem.fleet.rollout#role) use it.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.asks
  - hotpmem.fleet.rollout_context
  - ansible.builtin.action_common_attributes.flow
options:
  gates:
    description: The gates, as in C(hotpmem_gates).
    type: list
    elements: dict
    default: []
  soak:
    description: Seconds during which the gates are asked again, and at whose end they are asked once more.
    type: float
    default: 0
  interval:
    description: Seconds between two rounds of the soak.
    type: float
    default: 30
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_step
"""

EXAMPLES = r"""
- name: Ask the gates
  hotpmem.fleet.rollout_gate:
    gates: "{{ hotpmem_gates }}"
    soak: 60
"""

RETURN = r"""
passed:
  description: Names of the gates.
  type: list
  elements: str
  returned: success
soaked:
  description: Seconds of the soak.
  type: float
  returned: success
"""
