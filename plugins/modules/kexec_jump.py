# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin kexec_jump."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kexec_jump
short_description: Jump to the kernel loaded for kexec and wait for the new boot
version_added: 0.1.0
description:
  - Jumps to the kernel that M(hotpmem.fleet.kexec_load) loaded, and returns as soon as a new boot answers.
    Unlike M(ansible.builtin.reboot) it polls at a constant short interval, so it wastes no seconds.
  - Refuses when no kernel is loaded, and on a local connection.
  - Detects that the jump did not happen, and then reports the answer of the host.
  - This is an action plugin. It runs on the controller and needs no Python on the host.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.jumps
  - hotpmem.fleet.attributes.acts
  - ansible.builtin.action_common_attributes.flow
options:
  method:
    description:
      - V(systemd) shuts the services down in order (C(systemctl kexec)).
      - V(fast) stops nothing. It syncs, remounts all file systems read-only (sysrq C(s), C(u)), and jumps
        (C(kexec -e)). Stop your services and save their state before.
    type: str
    choices: [systemd, fast]
    default: systemd
  timeout:
    description: Seconds within which the new boot must answer.
    type: int
    default: 300
requirements:
  - kexec-tools
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.kexec_load
  - module: ansible.builtin.reboot
"""

EXAMPLES = r"""
- name: Jump
  hotpmem.fleet.kexec_jump:
    timeout: 120
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
  description: Seconds from the start of the jump until the new boot answered, by the clock of the controller.
  type: float
  returned: success
uptime:
  description: Seconds that the new boot had been up when it answered.
  type: float
  returned: success
alive:
  description: After a failure, whether the old boot still answers, so that the host can be put back as it was.
  type: bool
  returned: failure
"""
