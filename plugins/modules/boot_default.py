# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The default of the boot loader."""

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_default
short_description: Make the running kernel the default of the boot loader
version_added: 0.1.0
description:
  - Makes the boot loader start the kernel that runs now, also at the next reboot through firmware. It never reboots.
  - With GRUB, the module runs C(grub-set-default), or C(grub2-set-default). That has an effect only when F(grub.cfg) was made with
    C(GRUB_DEFAULT=saved). Otherwise the module fails and says what to set, unless the running kernel is the default already.
  - On RHEL and its derivatives, it runs C(grubby --set-default). With systemd-boot, it runs C(bootctl set-default).
  - Everywhere else the module fails. That includes unified kernel images (UKIs), C(proxmox-boot-tool), and machines where it is not clear
    what started them.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
options:
  loader:
    description:
      - The boot loader. V(auto) finds out what started the machine, as M(hotpmem.fleet.boot_arguments) does.
      - With V(external), something outside of the machine chooses the kernel, and the module fails.
    type: str
    choices: [auto, grub, grubby, systemd-boot, external]
    default: auto
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.boot_arguments
"""

EXAMPLES = r"""
- name: Keep the kernel that has proven itself
  hotpmem.fleet.boot_default:
"""

RETURN = r"""
loader:
  description: The boot loader.
  type: str
  returned: success
kernel:
  description: The file of the running kernel.
  type: str
  returned: success
before:
  description: C(default), as the boot loader names it, or null. With GRUB it is C(saved_entry).
  type: dict
  returned: success
after:
  description: The same afterwards. In check mode, what it would be.
  type: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs, require_root
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.boot_default import LOADERS, BootDefault
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Plan; unless in check mode, act."""
    require_root("Cannot read the default of the boot loader")
    loader = module.params["loader"]
    boot = BootDefault(Sysfs(), Runner())
    change = boot.plan(loader)
    if change.command and not module.check_mode:
        boot.apply(change, loader)
    return {
        "changed": bool(change.command),
        "loader": change.loader,
        "kernel": change.kernel,
        "before": {"default": change.before or None},
        "after": {"default": change.after or None},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**RUN, "loader": {"type": "str", "choices": ["auto", *LOADERS], "default": "auto"}}, supports_check_mode=True
    )
    run(module, act)


if __name__ == "__main__":
    main()
