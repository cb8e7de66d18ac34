# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is a host ready for a cycle."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pmem_preflight
short_description: Check that a host is ready to save its state and reboot
version_added: 0.1.0
description:
  - Looks for everything that would make a cycle fail, before anything is changed. It fails with all
    reasons at once.
  - Checks that the namespace exists and that no memory leaked.
  - Checks that the memory blocks can be removed, and that enough memory stays available afterwards.
  - Checks that the items exist, can be read, and fit into the persistent memory.
  - Checks that the units of the items exist, that they wait for their state at boot, and that no other process uses the items.
  - Checks that no item disappears when its unit stops, and that no mount of an item stops with a unit.
  - Checks that no socket of an item starts a unit for each connection.
  - Checks that the copy helper works, and that a kernel can be loaded for kexec.
  - Never changes anything.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.looks
  - hotpmem.fleet.namespace
  - hotpmem.fleet.namespace.helper
  - hotpmem.fleet.namespace.road
options:
  items:
    description: What would be saved. Each has C(name) and C(path), and may have C(unit). Other keys are ignored.
    type: list
    elements: dict
    default: []
  reserve:
    description: How much memory must stay available after the persistent memory was removed, such as V(512M).
    type: str
    default: 256M
  kexec:
    description: Whether a kernel must be loadable for kexec.
    type: bool
    default: true
  kernel:
    description: Which one, as O(hotpmem.fleet.kexec_load#module:kernel). When left out, the running one.
    type: path
  initrd:
    description: Its initrd. When left out, the one that belongs to O(kernel). Can't be used with O(kernel=newest).
    type: path
  command_line:
    description: Its command line. When left out, that of the running kernel.
    type: str
seealso:
  - module: hotpmem.fleet.pmem_info
  - module: hotpmem.fleet.node_handoff
author:
  - The hotpmem.fleet authors (@hotpmem)
"""

EXAMPLES = r"""
- name: Check before touching anything
  hotpmem.fleet.pmem_preflight:
    items:
      - name: cache
        path: /srv/state/cache
    reserve: 512M
"""

RETURN = r"""
ok:
  description: Whether the host is ready.
  type: bool
  returned: always
reasons:
  description: Why the host is not ready, one sentence each.
  type: list
  elements: str
  returned: always
numbers:
  description: In bytes, total, available, free swap (not counted), reserve, online (in the persistent memory), left (available once
    that is removed), region, needed and capacity. C(huge_bytes) and C(hugetlb_bytes) are huge pages that have to move, and
    C(huge_room_bytes) and C(hugetlb_room_bytes) the room for them. C(warnings) lists what may go wrong.
  type: dict
  returned: always
  sample:
    total_bytes: 2080374784
    available_bytes: 1610612736
    swap_free_bytes: 0
    reserve_bytes: 268435456
    online_bytes: 536870912
    left_bytes: 1073741824
    region_bytes: 538968064
    needed_bytes: 209715200
    capacity_bytes: 536870912
kernel:
  description: The kernel that a handoff would load, or null.
  type: str
  returned: success
initrd:
  description: Its initrd, or null.
  type: str
  returned: success
chosen:
  description: Which kernel was chosen, as words. Empty when O(kernel) named the file, or was left out.
  type: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.hotplug import ROADS
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings, items_with_units
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.state_units import StateUnits
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import parse_size
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.systemd import Services
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Gather the reasons; raise when there is one."""
    params = module.params
    engine = Engine(helper=params["helper"], road=params["road"])
    target = engine.kexec.target(params["kernel"], params["initrd"], params["command_line"])
    settings = Settings(items=items_with_units(params["items"]))
    units = StateUnits(engine.sysfs, Services(engine.runner, settings.stop_timeout), settings)
    found = engine.preflight.check(
        params["namespace"] or "", settings.state_items, parse_size(params["reserve"]), params["kexec"], target, of_units=units.problems
    )
    jump = {"kernel": target.kernel or None, "initrd": target.initrd or None, "chosen": target.chosen}
    return {"ok": True, "reasons": [], "numbers": found.require(), **jump}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "namespace": {"type": "str"},
            "items": {"type": "list", "elements": "dict", "default": []},
            "helper": {"type": "path", "default": "/usr/local/sbin/pmem-state"},
            "road": {"type": "str", "choices": list(ROADS), "default": ROADS[0]},
            "reserve": {"type": "str", "default": "256M"},
            "kexec": {"type": "bool", "default": True},
            "kernel": {"type": "path"},
            "initrd": {"type": "path"},
            "command_line": {"type": "str"},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
