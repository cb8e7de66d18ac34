# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin node_handoff."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_handoff
short_description: Let a host hand itself over to its next boot, and wait for it
version_added: 0.1.0
description:
  - Starts C(hotpmem-node handoff) on the host, and returns as soon as a new boot answers.
  - The host itself does the preflight, hot-remove, stop, save, jump, restore and start of the units. No
    task and no connection to the controller lies in between.
  - When the handoff fails before the jump, the host puts everything back, and this module fails with the
    reason.
  - This is an action plugin. It needs the agent, which the role P(hotpmem.fleet.node_agent#role) installs.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.jumps
  - hotpmem.fleet.attributes.acts
  - ansible.builtin.action_common_attributes.flow
options:
  method:
    description:
      - V(systemd) shuts the services down in order, and V(fast) does not. V(firmware) reboots without kexec,
        which keeps the state only when the firmware keeps memory. Without it, the settings of the host decide.
    type: str
    choices: [systemd, fast, firmware]
  kernel:
    description:
      - Jump to this kernel, and not to the one in the settings of the host. As O(hotpmem.fleet.kexec_load#module:kernel), it can be a path,
        a release, or V(newest). The host looks for it when it hands itself over.
      - The settings of the host stay as they are.
      - The second task of a held handoff ignores it, because the first one has chosen the kernel.
    type: str
  initrd:
    description: The initrd of O(kernel). Without it, the one that belongs to the kernel. Can't be used with O(kernel=newest).
    type: str
  timeout:
    description: Seconds within which the new boot must answer, from the start of the handoff.
    type: int
    default: 600
  hold:
    description:
      - Only hold the host. After its preflight, the handoff waits on the host for the next task with the same O(run), and refuses
        everybody else.
      - Modules with this O(run) may act meanwhile, so that they can load the kernel and remove the memory while the services run.
    type: bool
    default: false
  lease:
    description:
      - With O(hold=true), how many seconds may pass without a step of this run. After that the controller counts as lost. The host
        then puts everything back by itself.
    type: int
    default: 300
  boot_id:
    description:
      - Reboot the host only if it still runs this boot. If it runs another one, it has been rebooted meanwhile. The module then changes
        nothing and succeeds.
    type: str
  run:
    description: The run that holds the host, as the task with O(hold=true) returned it. Without it, a new run begins.
    type: str
  agent:
    description: Path of the agent on the host.
    type: path
    default: /usr/local/sbin/hotpmem-node
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.kexec_jump
"""

EXAMPLES = r"""
- name: Hand the host over to its next boot
  hotpmem.fleet.node_handoff:
    method: systemd

- name: Hand it over to its newest kernel
  hotpmem.fleet.node_handoff:
    kernel: newest

- name: Hold the host, so that only this run can act on it
  hotpmem.fleet.node_handoff:
    hold: true
  register: held

- name: Remove the memory while the services run
  hotpmem.fleet.pmem_hotplug:
    state: removed
    run: "{{ held.run }}"

- name: Let the host stop the services, save and jump
  hotpmem.fleet.node_handoff:
    run: "{{ held.run }}"
"""

RETURN = r"""
run:
  description: The id of this run.
  type: str
  returned: success
before:
  description: C(boot_id) of the boot before.
  type: dict
  returned: when the host told its boot id
after:
  description: C(boot_id) of the boot that answered.
  type: dict
  returned: success
seconds:
  description: Seconds from the start of the handoff until the new boot answered, by the clock of the controller. The services run
    during part of this time.
  type: float
  returned: success
uptime:
  description: Seconds that the new boot had been up when it answered.
  type: float
  returned: success
steps:
  description: The steps that would be done.
  type: list
  elements: str
  returned: in check mode
exit:
  description: After a refusal, the exit code of C(hotpmem-node). V(9) means that somebody else holds the host.
  type: int
  returned: when the handoff was not started
alive:
  description: After a failure, whether the old boot still answers. It has then put everything back.
  type: bool
  returned: failure
"""
