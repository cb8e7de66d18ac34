# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin rollout_wait."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_wait
short_description: Wait for a host that a dead controller left in its handoff
version_added: 0.1.0
description:
  - Asks the host until it answers, does not shut down, and no handoff is at work on it.
  - It never fails. When the time is over, the next task finds the host as it is.
  - This is an action plugin. The tasks of the role P(hotpmem.fleet.rollout#role) use it.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.asks
  - ansible.builtin.action_common_attributes.flow
options:
  timeout:
    description: How many seconds to wait at most.
    type: float
    required: true
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.node_handoff
  - module: hotpmem.fleet.rollout_plan
"""

EXAMPLES = r"""
- name: Wait for the rest of its handoff
  hotpmem.fleet.rollout_wait:
    timeout: 600
"""

RETURN = r"""
at_rest:
  description: Whether the host answers, and no handoff is at work on it.
  type: bool
  returned: always
busy_with:
  description: What kept it from being at rest until the end. Empty when nothing did.
  type: str
  returned: always
seconds:
  description: How long this task has waited.
  type: float
  returned: always
"""
