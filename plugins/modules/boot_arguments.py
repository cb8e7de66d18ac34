# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kernel arguments in the boot loader."""

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_arguments
short_description: Put the kernel arguments of a reservation into the boot loader
version_added: 0.1.0
description:
  - Adds kernel arguments for the next boot, replaces those that an earlier run added, or takes them out again. Never reboots.
  - Arguments that somebody else wrote are never touched. What is ours is recorded in C(/var/lib/hotpmem/reservation.json); an argument
    that was there already does not become ours.
  - On Debian and its kin a drop-in is written and C(update-grub) run; on RHEL and its kin C(grubby) edits all kernels; with systemd-boot
    C(/etc/kernel/cmdline) and the entries of this installation are edited.
  - Without any of these it fails, unless the running kernel has the arguments already.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
options:
  arguments:
    description: The arguments, such as V(memmap=2050M!4222M). Several of C(memmap=) are joined into one. Needed with O(state=present).
    type: list
    elements: str
    default: []
  state:
    description: Whether the arguments are to be there.
    type: str
    choices: [present, absent]
    default: present
  loader:
    description: The boot loader. V(auto) finds out; V(external) means that something outside of this machine gives the command line.
    type: str
    choices: [auto, grub, grubby, systemd-boot, external]
    default: auto
  drop_in:
    description: The GRUB drop-in to write.
    type: path
    default: /etc/default/grub.d/60-hotpmem.cfg
seealso:
  - module: hotpmem.fleet.reservation_plan
author:
  - The hotpmem.fleet authors (@hotpmem)
"""

EXAMPLES = r"""
- name: Reserve 2 GiB at the next boot
  hotpmem.fleet.boot_arguments:
    arguments: ["memmap=2050M!4222M", nokaslr]

- name: Take it back
  hotpmem.fleet.boot_arguments:
    state: absent
"""

RETURN = r"""
loader:
  description: The boot loader, V(grub), V(grubby), V(systemd-boot) or V(external).
  type: str
  returned: success
arguments:
  description: The arguments that are ours.
  type: list
  elements: str
  returned: success
running:
  description: Whether the running kernel's C(memmap=) are already as asked for.
  type: bool
  returned: success
reboot_required:
  description: The opposite of RV(running).
  type: bool
  returned: success
before:
  description: The arguments that were ours before.
  type: dict
  returned: success
after:
  description: Those that are ours afterwards.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs, require_root
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.boot_loader import BootLoader, summary
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run


def act(module: AnsibleModule) -> dict:
    """Plan, and carry out unless in check mode."""
    params = module.params
    what = "Cannot change the kernel arguments"
    require_root(what)
    for word in params["arguments"]:
        # They end up in a file that a shell reads.
        if not word or any(char in word for char in "\"'`$\\ \t\n;&|<>()"):
            raise HotpmemError(what, f"{word!r} is not a plain kernel argument", "Use only letters, digits and =,.!@#%:/_-+")
    if params["state"] == "present" and not params["arguments"]:
        raise HotpmemError(what, "arguments is empty", "List the arguments, or set state: absent")
    loader = BootLoader(Sysfs(), Runner(), params["drop_in"])
    change = loader.plan(params["arguments"] if params["state"] == "present" else [], params["loader"])
    if not module.check_mode:
        loader.apply(change)
    return summary(change)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RUN,
            "arguments": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "loader": {"type": "str", "choices": ["auto", "grub", "grubby", "systemd-boot", "external"], "default": "auto"},
            "drop_in": {"type": "path", "default": "/etc/default/grub.d/60-hotpmem.cfg"},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
