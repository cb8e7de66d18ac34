# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin rollout_blockers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_blockers
short_description: Wait until nothing blocks the reboot of a host
version_added: 0.1.0
description:
  - Asks Prometheus, Alertmanager, commands, web servers and TCP ports, and the host about sessions and inhibitors.
  - While a blocker blocks, the task waits and asks again, or it fails at once. The blocker says which.
  - This is an action plugin. The tasks of the role P(hotpmem.fleet.rollout#role) use it.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.asks
  - hotpmem.fleet.rollout_context
  - ansible.builtin.action_common_attributes.flow
options:
  blockers:
    description: The blockers, as in C(hotpmem_blockers).
    type: list
    elements: dict
    default: []
  waited:
    description: Seconds that earlier tasks have waited. They count towards the limit of each blocker.
    type: float
    default: 0
  slice:
    description: Seconds after which the task returns although a blocker still blocks, so that the play can renew a lease. V(0) means never.
    type: float
    default: 0
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_step
  - module: hotpmem.fleet.rollout_facts
"""

EXAMPLES = r"""
- name: Wait until nothing blocks the host
  hotpmem.fleet.rollout_blockers:
    blockers: "{{ hotpmem_blockers }}"
    host: "{{ inventory_hostname }}"
"""

RETURN = r"""
again:
  description: Whether a blocker still blocks, and the task ended because O(slice) was over.
  type: bool
  returned: success
waited:
  description: Seconds waited so far.
  type: float
  returned: always
notes:
  description: Blockers that could not be asked and that were ignored.
  type: list
  elements: str
  returned: success
"""
