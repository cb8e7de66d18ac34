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
  - Starts C(hotpmem-node handoff) on the host, and returns as soon as a new boot answers. Preflight, hot-remove, stop, save, jump, restore
    and start of the units happen on the host; no task and no connection lies in between.
  - When the handoff fails before the jump, the host has put everything back itself, and this fails with its reason.
  - It is an action plugin. It needs the agent, which the role P(hotpmem.fleet.node_agent#role) installs.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.jumps
  - hotpmem.fleet.attributes.acts
  - ansible.builtin.action_common_attributes.flow
options:
  method:
    description:
      - V(systemd) shuts the services down in order, V(fast) does not. Left out, the host's settings decide.
    type: str
    choices: [systemd, fast]
  timeout:
    description: Seconds until the new boot has to answer, from the start of the handoff.
    type: int
    default: 600
  agent:
    description: Where the agent is on the host.
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
"""

RETURN = r"""
before:
  description: C(boot_id) of the boot before.
  type: dict
  returned: always
after:
  description: C(boot_id) of the boot that answered.
  type: dict
  returned: success
seconds:
  description: From the start of the handoff until the new boot answered, on the controller's clock. Part of it the services were up.
  type: float
  returned: success
uptime:
  description: How long the new boot was up when it answered, in seconds.
  type: float
  returned: success
steps:
  description: What would be done.
  type: list
  elements: str
  returned: in check mode
alive:
  description: After a failure, whether the old boot still answers. It has put everything back by itself then.
  type: bool
  returned: failure
"""
