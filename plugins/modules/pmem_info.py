# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts about persistent memory and its use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pmem_info
short_description: Facts about persistent memory, memory blocks, the state image and kexec
version_added: 0.1.0
description:
  - Reads regions, namespaces, dax devices, memory blocks, the header of the state image, and whether the host can kexec.
  - Never changes anything, never loads a kernel module, and never fails. When a tool or a privilege is
    missing, C(warnings) names what could not be read.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.looks
  - hotpmem.fleet.namespace
  - hotpmem.fleet.namespace.helper
options:
  device:
    description:
      - The device that may hold a state image.
      - Without it, the module takes the device of the selected namespace, when that is raw, or devdax
        without being System RAM.
    type: path
seealso:
  - module: hotpmem.fleet.pmem_preflight
  - module: hotpmem.fleet.pmem_hotplug
author:
  - The hotpmem.fleet authors (@hotpmem)
"""

EXAMPLES = r"""
- name: Read everything
  hotpmem.fleet.pmem_info:
  register: info

- name: Show the namespaces
  ansible.builtin.debug:
    var: info.hotpmem.namespaces
"""

RETURN = r"""
hotpmem:
  description: The facts.
  type: dict
  returned: always
  contains:
    regions:
      description: Regions with region, provider (V(e820), V(ACPI.NFIT)), start, size, range, align, available_size and labelled.
      type: list
      elements: dict
    namespaces:
      description: Namespaces with namespace, region, mode, map, start, size, range, align, uuid, name, state, blockdev and chardev.
      type: list
      elements: dict
    selected:
      description:
        - The namespace that O(namespace) selects, or null. It has the keys of C(namespaces) and these.
        - C(driver) is the driver of its dax device (V(kmem), V(device_dax) or null).
        - C(online_bytes), C(gained_bytes) and C(lost_bytes) are sizes in bytes. For a raw namespace, the
          last two are what it will gain and lose as devdax.
      type: dict
    dax_devices:
      description:
        - Dax devices with device, driver, mode, start, size, range, align, target_node, usable_bytes, lost_bytes, memory, and blocks
          (block, range, state and zone of each, while it is System RAM).
      type: list
      elements: dict
    memory_blocks:
      description: block_size in bytes, auto_online, count, online, movable, and the numbers of those offline.
      type: dict
    memory_map:
      description:
        - The use of physical memory, with start, size and kind. The kind is V(ram), V(pmem), or V(kmem)
          for persistent memory that is System RAM now.
      type: list
      elements: dict
    reservation:
      description:
        - The C(arguments) that M(hotpmem.fleet.boot_arguments) added to the boot loader, and those that it
          has C(removed) since the last boot.
      type: dict
    memory:
      description: total_bytes, available_bytes, and the total as text.
      type: dict
    image:
      description: Header of the state image. C(state) is V(none), V(valid), V(consumed), V(damaged) or V(unknown).
        C(device) is the device that was read.
      type: dict
    kexec:
      description: loaded, loaded_by_us, load_disabled, ready, problems, and the kernel, initrd and command_line that would be loaded.
      type: dict
    tools:
      description: Versions of ndctl, daxctl, kexec and pmem-state, null where one is missing.
      type: dict
    helper_sha256:
      description: SHA-256 of pmem-state on the host, null where it is missing. The build on the controller has it in C(pmem-state.sha256).
      type: str
    leaks:
      description: Memory lost until the next reboot, with device, start, size and sentence.
      type: list
      elements: dict
    warnings:
      description: What could not be read and why, and faults that were found.
      type: list
      elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.host_report import HostReport
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import Helper
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Gather."""
    runner = Runner()
    info = HostReport(Sysfs(), runner, Helper(runner, module.params["helper"]))
    return {"hotpmem": info.gather(module.params["namespace"] or "", module.params["device"] or "")}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "namespace": {"type": "str"},
            "device": {"type": "path"},
            "helper": {"type": "path", "default": "/usr/local/sbin/pmem-state"},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
