# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin rollout_plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_plan
short_description: Check the variables of a rollout and plan it
version_added: 0.1.0
description:
  - The role P(hotpmem.fleet.rollout#role) calls this once for all hosts. It runs on the controller, and asks no host.
  - It reads what M(hotpmem.fleet.rollout_facts) and M(hotpmem.fleet.pmem_preflight) returned for each host, from the registered
    variables C(rollout_seen) and C(rollout_ready).
  - This is an action plugin.
options:
  state:
    description:
      - With V(inputs), it checks all variables and fails with all problems at once. Each names its variable.
      - With V(planned), it makes the plan and changes nothing.
      - With V(recorded), it makes the plan and writes it to the journal of the run.
    type: str
    choices: [inputs, planned, recorded]
    required: true
  settings:
    description: The variables of the rollout, without the prefix C(hotpmem_).
    type: dict
    required: true
  hosts:
    description: The hosts of the run, in the order of the inventory.
    type: list
    elements: str
    required: true
  directory:
    description: Where journals are kept. Empty means C($XDG_STATE_HOME/hotpmem/rollouts).
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the plan without writing it down.
  diff_mode:
    support: none
    description: Returns what changed.
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_step
"""

EXAMPLES = r"""
- name: Make the plan
  hotpmem.fleet.rollout_plan:
    state: planned
    settings:
      batches: [1, "25%"]
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true
  register: planned
"""

RETURN = r"""
lines:
  description: The plan as a table, line by line.
  type: list
  elements: str
  returned: with a plan
hosts:
  description: The hosts to reboot, in order.
  type: list
  elements: str
  returned: with a plan
serial:
  description: The size of each batch.
  type: list
  elements: int
  returned: with a plan
finish:
  description: Hosts that were rebooted before an earlier start of this run was lost. Only the rest is done for them.
  type: list
  elements: str
  returned: with a plan
undrain:
  description: Hosts that an earlier start of this run left drained.
  type: list
  elements: str
  returned: with a plan
refused:
  description: Hosts that are not ready, with the reason.
  type: dict
  returned: with a plan
left_out:
  description: Hosts that need no reboot, with the reason.
  type: dict
  returned: with a plan
not_answering:
  description: Hosts that did not answer, with the reason.
  type: dict
  returned: with a plan
run:
  description: The id of the run.
  type: str
  returned: with a plan
rollout:
  description: The name of the rollout.
  type: str
  returned: with a plan
resumed:
  description: Whether an earlier run goes on.
  type: bool
  returned: with a plan
journal:
  description: The path of the journal.
  type: str
  returned: with a plan
fleet:
  description: How many hosts the run has. Percentages refer to this number.
  type: int
  returned: with a plan
seconds:
  description: The seconds that the slowest host is expected to take.
  type: float
  returned: with a plan
expected_end:
  description: When the run is expected to end, in UTC.
  type: str
  returned: with a plan
problems:
  description: What is wrong with the variables.
  type: list
  elements: str
  returned: with O(state=inputs)
under_way:
  description: Hosts that a dead controller may have left in their handoff, and how many seconds ago it began.
  type: dict
  returned: with O(state=inputs)
"""
