# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin rollout_notify."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_notify
short_description: Send a notice to webhooks and by mail
version_added: 0.1.0
description:
  - A notice that cannot be sent never fails the task. It is reported as a warning, once for each target.
  - Mail needs the collection C(community.general).
  - This is an action plugin. The tasks of the role P(hotpmem.fleet.rollout#role) use it.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.asks
  - hotpmem.fleet.rollout_context
  - ansible.builtin.action_common_attributes.flow
options:
  targets:
    description: The targets, as in C(hotpmem_notify).
    type: list
    elements: dict
    default: []
  notice:
    description: The kind of the notice.
    type: str
    choices: [start, host_failed, budget_spent, done]
    required: true
  text:
    description: The message.
    type: str
    required: true
  reported:
    description: Names of the targets whose failure was reported before.
    type: list
    elements: str
    default: []
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_step
"""

EXAMPLES = r"""
- name: Tell that the run has begun
  hotpmem.fleet.rollout_notify:
    targets: "{{ hotpmem_notify }}"
    notice: start
    text: The rollout begins.
"""

RETURN = r"""
sent:
  description: Names of the targets that took the notice.
  type: list
  elements: str
  returned: success
problems:
  description: Why the others did not.
  type: list
  elements: str
  returned: success
reported:
  description: Names of the targets whose failure was reported so far.
  type: list
  elements: str
  returned: success
"""
