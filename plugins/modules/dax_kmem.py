# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Use a dax device as System RAM, or take it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dax_kmem
short_description: Use a dax device as System RAM, or take it back
version_added: 0.1.0
description:
  - With V(system_ram) the module binds the device to the kernel's C(kmem) driver and brings its
    memory blocks online. When that fails, it binds the device to C(device_dax) again.
  - With V(devdax) the module unbinds the device from C(kmem) and binds it to C(device_dax).
  - It refuses to unbind the device while one of its memory blocks is online. The kernel would unbind
    it and lose the memory until the next reboot. Use M(hotpmem.fleet.memblock_offline) first.
  - While it works, the module sets the kernel's policy for new memory (C(auto_online_blocks)) to
    O(online), so that neither another policy nor a udev rule decides the zone. Then it restores the
    policy.
  - The module always removes the id of the device from C(kmem) again. Otherwise C(kmem) would bind to
    the next device with the same name.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
  - hotpmem.fleet.namespace
  - hotpmem.fleet.namespace.timeout
options:
  device:
    description: The dax device (V(dax0.0)), instead of O(namespace).
    type: str
  state:
    description: What the device is to be used for.
    type: str
    choices: [system_ram, devdax]
    required: true
  online:
    description:
      - With O(state=system_ram), the zone that the memory blocks are brought online in.
      - From V(movable) they can be taken offline again. From V(kernel) usually not.
      - V(none) leaves them as they are.
    type: str
    choices: [movable, kernel, none]
    default: movable
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.memblock_offline
  - module: hotpmem.fleet.pmem_namespace
"""

EXAMPLES = r"""
- name: Hot-add the persistent memory as System RAM
  hotpmem.fleet.dax_kmem:
    state: system_ram

- name: Hot-remove it, once its blocks are offline
  hotpmem.fleet.dax_kmem:
    device: dax0.0
    state: devdax
"""

RETURN = r"""
device:
  description: The dax device.
  type: str
  returned: success
  sample: dax0.0
blocks:
  description: The memory blocks of the device as they are afterwards. Empty while it is devdax. In check mode, as they are.
  type: list
  elements: dict
  returned: success
  sample: [{block: 8, range: 0x40000000-0x47ffffff, state: online, zone: Movable}]
bytes_gained:
  description: Bytes of RAM that the device gives, or would give, in whole memory blocks.
  type: int
  returned: success
bytes_lost:
  description: Bytes of the namespace that are no RAM, because of its info block and the alignment to memory blocks.
  type: int
  returned: success
before:
  description: Use of the device, bytes online, and number of memory blocks in each state, before.
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
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.system_ram import POLICIES
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Plan; unless in check mode, move the device."""
    params = module.params
    engine = Engine()
    system_ram = engine.system_ram
    device, namespace = engine.device_of("Cannot choose a dax device", params["device"] or "", params["namespace"] or "")
    reserved = namespace.size if namespace else None
    shape = system_ram.shape(device, reserved)
    if params["state"] == "system_ram":
        system_ram.check_ram(shape)
        changed = bool(system_ram.ram_changes(shape, params["online"]))
        after = system_ram.as_ram(shape, params["online"])
    else:
        changed = shape.device.driver != "device_dax"
        after = {"mode": "devdax", "online_bytes": 0, "blocks": {}}
        if changed:
            engine.dax.check_removable(shape.device)
    result = {"changed": changed, "device": device, "before": shape.to_dict(), "after": after if changed else shape.to_dict()}
    if changed and not module.check_mode:
        if params["state"] == "system_ram":
            system_ram.to_ram(shape, params["online"], params["timeout"])
        else:
            engine.dax.to_device_dax(shape.device)
        shape = system_ram.shape(device, reserved)
        result["after"] = shape.to_dict()
    result.update(blocks=[block.to_dict() for block in shape.blocks], bytes_gained=shape.gained, bytes_lost=shape.lost)
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RUN,
            "device": {"type": "str"},
            "namespace": {"type": "str"},
            "state": {"type": "str", "choices": ["system_ram", "devdax"], "required": True},
            "online": {"type": "str", "choices": list(POLICIES), "default": "movable"},
            "timeout": {"type": "int", "default": 60},
        },
        mutually_exclusive=[("device", "namespace")],
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
