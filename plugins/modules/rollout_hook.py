# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin rollout_hook."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_hook
short_description: Run one hook of a rollout
version_added: 0.1.0
description:
  - Runs a command on the controller or on the host, or acts for the host on a load balancer, in Alertmanager or on a FleetLock server.
  - A hook that failed makes the task fail, with the name of the hook, what was asked, what the answer was, and what to do.
  - This is an action plugin. The tasks of the role P(hotpmem.fleet.rollout#role) use it.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.asks
  - hotpmem.fleet.rollout_context
  - ansible.builtin.action_common_attributes.flow
options:
  hook:
    description: The hook, as in C(hotpmem_hooks).
    type: dict
    required: true
  point:
    description: The point. At V(after_run), V(after_host) and V(undrain), a ready-made hook is undone.
    type: str
    choices: [before_run, after_run, before_host, after_host, drain, undrain]
    required: true
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_step
  - module: hotpmem.fleet.rollout_haproxy
  - module: hotpmem.fleet.rollout_nginx
"""

EXAMPLES = r"""
- name: Drain the host
  hotpmem.fleet.rollout_hook:
    hook: {use: haproxy, hosts: lb1}
    point: drain
    host: "{{ inventory_hostname }}"
  delegate_to: lb1
"""

RETURN = r"""
notes:
  description: What the operator should know.
  type: list
  elements: str
  returned: success
silences:
  description: Ids of the silences that were created or expired.
  type: list
  elements: str
  returned: for a silence
"""
