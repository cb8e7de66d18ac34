# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make persistent memory System RAM, or a device for the state image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pmem_hotplug
short_description: Hot-add persistent memory as System RAM, or hot-remove it for the state image
version_added: 0.1.0
description:
  - With V(removed) the module takes the memory out of System RAM. The memory becomes a device that the
    state can be saved to (RV(device)). When a step fails, the module undoes the steps before it.
  - With V(added) the module converts the namespace to devdax, binds its dax device to C(kmem) and brings
    its memory blocks online in C(ZONE_MOVABLE).
  - With O(road=dax) nothing converts the namespace, so the module zeroes the header of an image itself.
    It does so before the memory becomes System RAM and after it was. It reads the header back, and
    does not add the memory to System RAM when this fails.
  - C(hotpmem-node hot-add) and C(hotpmem-node hot-remove) do the same on the host.
  - M(hotpmem.fleet.memblock_offline), M(hotpmem.fleet.dax_kmem) and M(hotpmem.fleet.pmem_namespace) do
    the single steps.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
  - hotpmem.fleet.namespace
  - hotpmem.fleet.namespace.helper
  - hotpmem.fleet.namespace.road
  - hotpmem.fleet.namespace.timeout
options:
  state:
    description: V(added) makes the memory System RAM, and V(removed) takes it out.
    type: str
    choices: [added, removed]
    required: true
  force:
    description:
      - Allow the loss of what the namespace holds. This is a state image that was not restored, or a
        file system when the namespace has to be converted.
      - The content of memory that is System RAM now is never kept.
    type: bool
    default: false
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.pmem_state_copy
"""

EXAMPLES = r"""
- name: Take the memory back
  hotpmem.fleet.pmem_hotplug:
    state: removed
    road: dax
  register: removed

- name: Save to it
  hotpmem.fleet.pmem_state_copy:
    state: saved
    device: "{{ removed.device }}"
    items:
      - name: cache
        path: /srv/state/cache

- name: Make it System RAM again
  hotpmem.fleet.pmem_hotplug:
    state: added
    road: dax
"""

RETURN = r"""
changes:
  description: The steps that were done. In check mode, the steps that would be done.
  type: list
  elements: str
  returned: success
device:
  description:
    - The device for the image (V(/dev/pmem0), V(/dev/dax0.0)). Null while the memory is System RAM.
    - In check mode, the current one.
  type: str
  returned: success
namespace:
  description: The namespace afterwards. In check mode, the current one.
  type: dict
  returned: success
blocks:
  description: Numbers of the memory blocks that were taken offline, or that exist now.
  type: list
  elements: int
  returned: success
online_bytes:
  description: Bytes of these blocks that were, or are, online.
  type: int
  returned: success
before:
  description: Mode (V(system-ram), V(devdax), V(raw) and so on) and bytes online before.
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
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.hotplug import ROADS
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Plan; unless in check mode, move."""
    params = module.params
    engine = Engine(helper=params["helper"], road=params["road"])
    hotplug, found = engine.hotplug, engine.namespaces.find(params["namespace"] or "")
    removing = params["state"] == "removed"
    force = params["force"]
    if module.check_mode:
        return (hotplug.plan_remove if removing else hotplug.plan_add)(found, force).to_dict()
    return (hotplug.hot_remove if removing else hotplug.hot_add)(found, params["timeout"], force).to_dict()


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RUN,
            "namespace": {"type": "str"},
            "state": {"type": "str", "choices": ["added", "removed"], "required": True},
            "road": {"type": "str", "choices": list(ROADS), "default": ROADS[0]},
            "force": {"type": "bool", "default": False},
            "helper": {"type": "path", "default": "/usr/local/sbin/pmem-state"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
