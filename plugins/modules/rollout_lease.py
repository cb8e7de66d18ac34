# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin rollout_lease."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_lease
short_description: Take, renew or release the lease of the whole fleet
version_added: 0.1.0
description:
  - The lease is a file on a host, to which the task is delegated, or a lock of a FleetLock server.
  - A renewal that does not get through is a warning. It fails only if another run has the lease.
  - This is an action plugin. The tasks of the role P(hotpmem.fleet.rollout#role) use it.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.asks
  - hotpmem.fleet.rollout_context
  - ansible.builtin.action_common_attributes.flow
options:
  state:
    description: What to do.
    type: str
    choices: [taken, renewed, released]
    required: true
  lease:
    description: The lease, as in C(hotpmem_fleet_lease).
    type: dict
    required: true
  take_over:
    description: Take the lease even if another run holds it.
    type: bool
    default: false
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_lease_file
  - module: hotpmem.fleet.rollout_plan
"""

EXAMPLES = r"""
- name: Take the lease
  hotpmem.fleet.rollout_lease:
    state: taken
    lease: {host: lease-host}
    run_id: 20261127T101500Z-1a2b3c
  delegate_to: lease-host
"""

RETURN = r"""
lease:
  description: The lease, or the lease of another run.
  type: dict
  returned: for a file
took_over:
  description: The lease of another run that was taken over.
  type: dict
  returned: when a lease was taken over
"""
