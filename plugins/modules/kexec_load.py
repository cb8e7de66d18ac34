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
  - Runs C(kexec -s -l). The system call C(kexec_file_load) places the next kernel only in System RAM.
  - The older system call C(kexec_load) may place the kernel over the saved image. C(kexec) uses it with C(-c), and also as a
    silent fallback without C(-s).
  - If the running kernel has only the older call, as Debian's kernels for arm64, the module runs C(kexec -c -l) and tells it to stay
    below all persistent memory. Then it compares the addresses that kexec prints with System RAM. If any part lies outside, the
    module unloads the kernel and fails.
  - The module records what it loaded in F(/run/hotpmem/kexec.json). It does not load the same files with
    the same command line again.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
options:
  state:
    description: V(loaded) loads a kernel, and V(absent) unloads it.
    type: str
    choices: [loaded, absent]
    default: loaded
  kernel:
    description:
      - The kernel image. It can also be a release, such as V(6.12.117+deb13-cloud-amd64), whose file the module looks for.
      - V(newest) means the newest installed kernel of the flavour of the running one, with its own initrd. The module fails when it
        can't be told which one that is, and when that kernel is not completely installed.
      - Without it, the module takes the kernel of the running release. It looks for F(/boot/vmlinuz-RELEASE),
        F(/boot/vmlinux-RELEASE), F(/boot/Image-RELEASE) and F(/boot/kernel-RELEASE), then for the entry of the
        boot loader, F(MACHINE-ID/RELEASE/linux) and F(/usr/lib/modules/RELEASE/vmlinuz).
      - A kernel without a release in its name (Arch) is taken when its header shows the running release.
    type: path
  initrd:
    description:
      - The initial RAM disk. An empty string loads the kernel without one. Can't be used with O(kernel=newest).
      - Without this option, the module takes the initrd that belongs to O(kernel). The entry of the boot loader
        names it, or the module derives it from the name of the kernel. For example, for F(vmlinuz-VERSION) it
        looks for F(initrd.img-VERSION), F(initramfs-VERSION.img) and F(initrd-VERSION) in the same directory.
      - If none of them exists, the module fails and lists the names. It does not take the initrd of another
        kernel.
    type: path
  command_line:
    description:
      - The next kernel's command line.
      - Without it, the module takes that of the running kernel, without C(BOOT_IMAGE=) and C(initrd=), and without the
        O(jump_arguments) of an earlier jump.
      - The module refuses a command line that lacks a C(memmap=) or C(mem=) of the running kernel, because the next
        kernel would then use the reserved memory. It also refuses a command line that is too long for
        kexec (2,016 bytes on x86, 2,047 on arm64).
    type: str
  jump_arguments:
    description:
      - Arguments to add to the command line. C(hotpmem.jump=) in front of them marks how many they are, so that the next jump and
        the boot loader do not get them.
      - They are left out if the command line would become too long with them.
      - They can't set memory apart, as C(memmap=), C(mem=) and C(crashkernel=) do.
    type: list
    elements: str
    default: []
  force:
    description: Accept a command line that lacks a C(memmap=) or C(mem=) of the running kernel.
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

- name: Load another one, with the initrd that belongs to it
  hotpmem.fleet.kexec_load:
    kernel: /boot/vmlinuz-6.12.0-cloud-amd64

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
chosen:
  description: Which kernel was chosen, as words. Empty when O(kernel) named the file, or was left out.
  type: str
  returned: success
  sample: the newest installed kernel, 6.12.117+deb13-cloud-amd64
before:
  description: What was loaded before. Kernel, initrd and command line are null when something else loaded it.
  type: dict
  returned: success
after:
  description: The same afterwards.
  type: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.jump_command_line import fault
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_load import Kexec
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run

NOTHING = {"loaded": False, "kernel": None, "initrd": None, "command_line": None}


def outline(kexec: Kexec) -> dict[str, Any]:
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


def act(module: AnsibleModule) -> dict[str, Any]:
    """Plan; unless in check mode, load or unload."""
    params = module.params
    kexec = Engine().kexec
    before, chosen = outline(kexec), ""
    if params["state"] == "absent":
        changed, after = kexec.loaded, dict(NOTHING)
        if changed and not module.check_mode:
            kexec.unload()
    else:
        wrong = fault(params["jump_arguments"])
        if wrong:
            raise HotpmemError("Cannot load a kernel for kexec", wrong, "Nothing was changed")
        target = kexec.target(params["kernel"], params["initrd"], params["command_line"], params["jump_arguments"])
        problems = kexec.problems(target, without_initrd=params["initrd"] == "", may_lose_reservation=params["force"])
        if problems:
            raise HotpmemError(
                "Cannot load a kernel for kexec",
                "; ".join(problems),
                "Nothing was changed. Fix each of these, then try again",
                problems=problems,
                **target.to_dict(),
            )
        changed, after, chosen = not kexec.is_loaded(target), dict(target.to_dict(), loaded=True), target.chosen
        if changed and not module.check_mode:
            kexec.load(target)
    return dict(after, changed=changed, chosen=chosen, before=before, after=after)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RUN,
            "state": {"type": "str", "choices": ["loaded", "absent"], "default": "loaded"},
            "kernel": {"type": "path"},
            "initrd": {"type": "path"},
            "command_line": {"type": "str"},
            "jump_arguments": {"type": "list", "elements": "str", "default": []},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
