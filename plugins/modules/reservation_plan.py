# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where to set memory aside."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reservation_plan
short_description: Plan which memory to set aside, without losing a memory block
version_added: 0.1.0
description:
  - Finds the C(memmap=) value that sets memory aside so that all of it can become System RAM again.
  - Reads the firmware's memory map, the memory block size, the NUMA nodes and the kernel command line.
  - A region starts 2 MiB before a memory block boundary, because the info block of the namespace takes
    these 2 MiB. It ends on a boundary.
  - A region lies in usable RAM, above 4 GiB where possible. It avoids the first 16 MiB, other
    C(memmap=) entries and the crash kernel.
  - An earlier reservation stays where it is as long as it meets the request.
  - When the request can't be met, the module fails and returns the nearest plan that works as
    C(nearest). It never changes anything.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.looks
options:
  size:
    description: How much System RAM to gain, such as V(2G). The module rounds up to whole memory blocks.
    type: str
    required: true
  numa_node:
    description: The NUMA node it must lie on. When left out, on any.
    type: int
  lead:
    description:
      - How far before the boundary a region starts. V(16M) is for regions whose align is not to be set; M(hotpmem.fleet.pmem_namespace)
        sets it, so V(2M) does.
    type: str
    choices: ['2M', '16M']
    default: '2M'
  regions:
    description: Into how many regions it may be split, 1 to 4, when there is no room in one piece. Each becomes its own namespace.
    type: int
    default: 1
  share:
    description: Percent of the RAM that may be set aside at most, 1 to 90.
    type: int
    default: 50
seealso:
  - module: hotpmem.fleet.boot_arguments
author:
  - The hotpmem.fleet authors (@hotpmem)
"""

EXAMPLES = r"""
- name: Plan 2 GiB
  hotpmem.fleet.reservation_plan:
    size: 2G
  register: plan

- name: Say what it would be, and why
  ansible.builtin.debug:
    var: plan.plan.sentences
"""

RETURN = r"""
plan:
  description:
    - C(memmap) is the list of values for the kernel, and C(arguments) the same with C(memmap=).
    - C(regions) holds start, size, range, gained_bytes, lost_bytes, first_block and last_block of each.
    - C(block_size), C(wanted_bytes), C(gained_bytes) and C(lost_bytes) are sizes in bytes.
    - C(kept) tells whether the memory is already reserved.
    - C(sentences) says what was chosen, and why.
  type: dict
  returned: success
  sample:
    memmap: ['2050M!4222M']
    arguments: ['memmap=2050M!4222M']
    block_size: 134217728
    wanted_bytes: 2147483648
    gained_bytes: 2147483648
    lost_bytes: 2097152
    kept: false
nearest:
  description: The nearest plan that works, of the same form, or null when none does.
  type: dict
  returned: failure
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import parse_size
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs, require_root
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.boot_loader import BootLoader
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.free_memory import Wish
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.reservation import Planner
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.reservation_input import read_machine
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Read the machine and plan."""
    params = module.params
    require_root("Cannot read the firmware's memory map")
    sysfs = Sysfs()
    ours = BootLoader(sysfs, Runner()).record()
    wish = Wish(parse_size(params["size"]), params["numa_node"], parse_size(params["lead"]), params["regions"], params["share"])
    planner = Planner(read_machine(sysfs), [word for word in ours["arguments"] if word.startswith("memmap=")], ours["removed"])
    return {"plan": planner.plan(wish).to_dict()}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "size": {"type": "str", "required": True},
            "numa_node": {"type": "int"},
            "lead": {"type": "str", "choices": ["2M", "16M"], "default": "2M"},
            "regions": {"type": "int", "default": 1},
            "share": {"type": "int", "default": 50},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
