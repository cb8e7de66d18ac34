# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin rollout_step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_step
short_description: Record one step of a rollout and decide whether it goes on
version_added: 0.1.0
description:
  - The role P(hotpmem.fleet.rollout#role) calls this at each step. It runs on the controller and writes the journal of the run. A step
    is on the disk before the next one begins.
  - Only O(state=begin) and O(state=look) ask the host, for its boot id and its kernel.
  - This is an action plugin.
options:
  state:
    description:
      - V(window) waits for a window, if the settings say so. V(lease) records that the lease of another run was taken over.
      - V(batch) begins a batch, unless a budget is spent, a new kernel is bad, or no window is open.
      - V(begin) begins a host. A host that does not answer is recorded as failed.
      - V(look) reads the boot id. It fails, and does not become unreachable, when the host does not answer.
      - V(phase), V(drained), V(undrained) and V(hook) record what happens to the host.
      - V(end) records how the host ended. V(stop) records that the run stops.
      - V(finish) returns how the run ended. V(close) writes the last line of a run in which nothing is left to do.
      - V(clear) clears the failure budget of the last run.
    type: str
    required: true
    choices: [window, lease, batch, begin, look, phase, drained, undrained, hook, end, stop, finish, close, clear]
  plan:
    description: The result of M(hotpmem.fleet.rollout_plan), or the part of it that a step needs.
    type: dict
    default: {}
  settings:
    description: The variables of the rollout, as for M(hotpmem.fleet.rollout_plan).
    type: dict
    default: {}
  journal:
    description: The path of the journal. Without it, the path in O(plan).
    type: str
    default: ""
  directory:
    description: Where journals are kept, for O(state=clear).
    type: str
    default: ""
  hosts:
    description: The hosts of the batch.
    type: list
    elements: str
    default: []
  host:
    description: The host. Without it, the host of the task. For O(state=hook), an empty text means the whole run.
    type: str
    default: ""
  batch:
    description: The number of the batch.
    type: int
    default: 0
  before:
    description: The boot id that the host must not have any more.
    type: str
    default: ""
  phase:
    description: V(blockers), V(drain), V(handoff), V(restore), V(gates) or another word.
    type: str
    default: ""
  point:
    description: The point of a hook.
    type: str
    default: ""
  name:
    description: The name of a hook.
    type: str
    default: ""
  hook:
    description: The name of the hook that drained or undrained the host.
    type: str
    default: ""
  outcome:
    description: Of a host, V(kept), V(cold), V(failed), V(back) or V(refused). Of a hook, V(passed), V(vetoed), V(failed) or V(ignored).
    type: str
    default: ""
  msg:
    description: What happened, in a sentence.
    type: str
    default: ""
  next:
    description: What the operator does next.
    type: str
    default: ""
  reason:
    description: Why the run stops, or why the budget is cleared.
    type: str
    default: ""
  seen:
    description: The boot id that the host had when the plan was made.
    type: str
    default: ""
  held:
    description: With O(state=begin), why the batch holds this host back. Empty if it does not.
    type: str
    default: ""
  began:
    description: When the host was begun, in UTC.
    type: str
    default: ""
  kernel:
    description: The kernel of the host at the end.
    type: str
    default: ""
  history:
    description: The earlier cycles of the host, from M(hotpmem.fleet.rollout_facts).
    type: list
    elements: dict
    default: []
  cycle:
    description: The cycle that the host was taken through now.
    type: dict
    default: {}
  warnings:
    description: What else is worth a warning.
    type: list
    elements: str
    default: []
  lease:
    description: The lease that was taken over.
    type: dict
    default: {}
  slice:
    description: With O(state=batch), how many seconds to wait for a window until RV(again) is returned. 0 means no limit.
    type: float
    default: 0
  pause:
    description: How many seconds to sleep at most between two looks at the clock, while the run waits for a window.
    type: float
    default: 30
attributes:
  check_mode:
    support: full
    description: In check mode it does nothing.
  diff_mode:
    support: none
    description: Returns what changed.
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_plan
"""

EXAMPLES = r"""
- name: Record that the host is being drained
  hotpmem.fleet.rollout_step:
    state: phase
    phase: drain
    plan: "{{ rollout_plan }}"
"""

RETURN = r"""
rollout_event:
  description: The lines that were written to the journal.
  type: list
  elements: dict
  returned: when a line was written
rollout:
  description: Where the run stands, with C(run), C(name), C(batch), C(of), C(done), C(failed), C(left), C(under_way) and C(expected_end).
  type: dict
  returned: when a line was written
again:
  description: Whether the caller has to call again, because the window is not open yet.
  type: bool
  returned: with O(state=batch)
stop:
  description: Whether the run stops before this batch.
  type: bool
  returned: with O(state=batch)
held:
  description: The hosts of the batch that must not begin, because hosts of their failure domain failed, with the reason.
  type: dict
  returned: with O(state=batch)
go:
  description: Whether the host is begun.
  type: bool
  returned: with O(state=begin)
finish:
  description: Whether the host was rebooted before, so that only the rest is done.
  type: bool
  returned: when a host is begun
boot_id:
  description: The boot of the host.
  type: str
  returned: with O(state=begin) and O(state=look)
kernel:
  description: The kernel of the host.
  type: str
  returned: with O(state=begin) and O(state=look)
counts:
  description: How many hosts ended in which way.
  type: dict
  returned: with O(state=finish)
failures:
  description: Why the run fails for a host, and what to do next.
  type: dict
  returned: with O(state=finish)
spent:
  description: The budget that the last batch has spent. Empty if none is, or if the run was stopped before.
  type: str
  returned: with O(state=finish)
left:
  description: The hosts that were not begun, and those whose end nobody saw because this start left them out.
  type: list
  elements: str
  returned: with O(state=finish)
latched:
  description: Why no further run begins until the budget is cleared. Empty if one may begin.
  type: str
  returned: with O(state=finish)
lines:
  description: How the run ended, in sentences.
  type: list
  elements: str
  returned: with O(state=finish)
"""
