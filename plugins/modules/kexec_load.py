# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Load the kernel to jump to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kexec_load
short_description: Load the next kernel with kexec, without endangering persistent memory
version_added: 0.1.0
description:
  - Runs C(kexec -s -l). The C(kexec_file_load) system call places the next kernel in System RAM only. The other system
    call, which C(kexec) uses with C(-c) or falls back to silently, may place it on top of the saved image, so it is never used.
  - What was loaded is recorded in F(/run/hotpmem/kexec.json), so that the same files with the same command line are not loaded again.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
options:
  state:
    description: Whether a kernel is loaded.
    type: str
    choices: [loaded, absent]
    default: loaded
  kernel:
    description:
      - The kernel image.
      - When left out, that of the running release, the first there is of F(/boot/vmlinuz-RELEASE), F(/usr/lib/modules/RELEASE/vmlinuz),
        F(/boot/vmlinux-RELEASE) and F(/boot/Image-RELEASE).
    type: path
  initrd:
    description:
      - The initial RAM disk. An empty string for none.
      - When left out, the first there is of F(/boot/initrd.img-RELEASE), F(/boot/initramfs-RELEASE.img) and F(/boot/initrd-RELEASE).
    type: path
  command_line:
    description:
      - The next kernel's command line.
      - When left out, the running kernel's, without C(BOOT_IMAGE=) and C(initrd=).
      - One that lacks a C(memmap=) of the running kernel is refused, because the next kernel would then use the reserved memory.
    type: str
  force:
    description: Accept a command line that lacks a C(memmap=) of the running kernel.
    type: bool
    default: false
requirements:
  - kexec-tools
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.kexec_jump
"""

EXAMPLES = r"""
- name: Load the running kernel again
  hotpmem.fleet.kexec_load:

- name: Load another one
  hotpmem.fleet.kexec_load:
    kernel: /boot/vmlinuz-6.12.0-cloud-amd64
    initrd: /boot/initrd.img-6.12.0-cloud-amd64

- name: Unload
  hotpmem.fleet.kexec_load:
    state: absent
"""

RETURN = r"""
loaded:
  description: Whether a kernel is loaded. In check mode, whether one would be.
  type: bool
  returned: success
kernel:
  description: The kernel image.
  type: str
  returned: success
initrd:
  description: The initial RAM disk, or null.
  type: str
  returned: success
command_line:
  description: The next kernel's command line.
  type: str
  returned: success
before:
  description: What was loaded before. Kernel, initrd and command line are null when it wasn't this module that loaded it.
  type: dict
  returned: success
after:
  description: The same afterwards.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_load import Kexec
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import run

NOTHING = {"loaded": False, "kernel": None, "initrd": None, "command_line": None}


def outline(kexec: Kexec) -> dict:
    """What before and after compare."""
    if not kexec.loaded:
        return dict(NOTHING)
    record = kexec.record() or {}
    return {
        "loaded": True,
        "kernel": (record.get("kernel") or {}).get("path"),
        "initrd": (record.get("initrd") or {}).get("path"),
        "command_line": record.get("command_line"),
    }


def act(module: AnsibleModule) -> dict:
    """Plan; unless in check mode, load or unload."""
    params = module.params
    kexec = Engine().kexec
    before = outline(kexec)
    if params["state"] == "absent":
        changed, after = kexec.loaded, dict(NOTHING)
        if changed and not module.check_mode:
            kexec.unload()
    else:
        target = kexec.target(params["kernel"], params["initrd"], params["command_line"])
        problems = kexec.problems(target, without_initrd=params["initrd"] == "", may_lose_memmap=params["force"])
        if problems:
            raise HotpmemError(
                "Cannot load a kernel for kexec", "; ".join(problems), "Nothing was changed", problems=problems, **target.to_dict()
            )
        changed, after = not kexec.is_loaded(target), dict(target.to_dict(), loaded=True)
        if changed and not module.check_mode:
            kexec.load(target)
    return dict(after, changed=changed, before=before, after=after)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["loaded", "absent"], "default": "loaded"},
            "kernel": {"type": "path"},
            "initrd": {"type": "path"},
            "command_line": {"type": "str"},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
