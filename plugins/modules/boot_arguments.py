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
  - Adds kernel arguments for the next boot, replaces those that an earlier run added, or removes them again.
    It never reboots.
  - The module does not change arguments that somebody else wrote. It records its own in
    F(/var/lib/hotpmem/reservation.json).
  - With C(grubby) and systemd-boot, an argument that already existed is not recorded, and is not removed
    later. With GRUB, the module owns every argument in its drop-in file. A setting of somebody else that has
    the same argument stays.
  - The module edits the boot loader that started the machine. The EFI variable C(LoaderInfo) tells which
    (see C(bootctl status)). Without EFI it follows from the installed programs.
  - With GRUB, the module writes a drop-in file, which GRUB reads last, and runs C(update-grub). Where GRUB
    reads only F(/etc/default/grub) (SUSE, Arch, Gentoo), the module adds a block at the end of that file and
    runs C(grub-mkconfig) or C(grub2-mkconfig).
  - The module then reads F(grub.cfg). If a kernel there lacks the arguments, the module fails, names the
    file that overrides them, and restores the files.
  - On RHEL and its derivatives, C(grubby) edits the entries of all kernels. With systemd-boot, the module
    edits F(/etc/kernel/cmdline) and the entries of this installation.
  - Everywhere else the module fails, unless the running kernel already has the arguments. That includes
    unified kernel images (UKIs), C(proxmox-boot-tool), and machines where it is not clear what started them.
  - The module refuses a command line that is longer than the kernel accepts (2,047 bytes on x86 and arm64).
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
options:
  arguments:
    description: The arguments, such as V(memmap=2050M!4222M). Several C(memmap=) become one. Required with O(state=present).
    type: list
    elements: str
    default: []
  state:
    description: V(present) adds the arguments, and V(absent) removes all that this module added.
    type: str
    choices: [present, absent]
    default: present
  loader:
    description:
      - The boot loader. V(auto) finds out what started the machine.
      - V(external) means that something outside of the machine sets the command line.
    type: str
    choices: [auto, grub, grubby, systemd-boot, external]
    default: auto
  drop_in:
    description:
      - The GRUB drop-in file to write.
      - GRUB reads these files in the order of their names. A later file that sets C(GRUB_CMDLINE_LINUX) anew
        would override this one.
      - The module removes F(/etc/default/grub.d/60-hotpmem.cfg), which earlier versions wrote.
    type: path
    default: /etc/default/grub.d/zz-hotpmem.cfg
seealso:
  - module: hotpmem.fleet.reservation_plan
author:
  - The hotpmem.fleet authors (@hotpmem)
"""

EXAMPLES = r"""
- name: Reserve 2 GiB at the next boot
  hotpmem.fleet.boot_arguments:
    arguments: ["memmap=2050M!4222M", nokaslr]

- name: Undo that
  hotpmem.fleet.boot_arguments:
    state: absent
"""

RETURN = r"""
loader:
  description: The boot loader, V(grub), V(grubby), V(systemd-boot) or V(external).
  type: str
  returned: success
arguments:
  description: The arguments that this module added and will remove again.
  type: list
  elements: str
  returned: success
running:
  description: Whether the running kernel has exactly the wanted C(memmap=).
  type: bool
  returned: success
reboot_required:
  description: The opposite of RV(running).
  type: bool
  returned: success
before:
  description: The same arguments before.
  type: dict
  returned: success
after:
  description: The same arguments afterwards.
  type: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs, require_root
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.boot_loader import BootLoader, summary
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Plan, and carry out unless in check mode."""
    params = module.params
    what = "Cannot change the kernel arguments"
    require_root(what)
    for word in params["arguments"]:
        # They end up in a file that a shell reads.
        if not word or any(char in word for char in "\"'`$\\ \t\n;&|<>()"):
            raise HotpmemError(what, f"{word!r} is not a plain kernel argument", "Use only letters, digits and =,.!@#%:/_-+")
    if params["state"] == "present" and not params["arguments"]:
        raise HotpmemError(what, "the option arguments is empty", "List the arguments, or set state: absent")
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
            "drop_in": {"type": "path", "default": "/etc/default/grub.d/zz-hotpmem.cfg"},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
