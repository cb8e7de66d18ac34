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
  - Reads the firmware's memory map, the memory block size, the NUMA nodes and the kernel command line, and says which C(memmap=) value
    sets memory aside so that all of it comes back as System RAM.
  - A region starts 2 MiB before a memory block boundary, because the namespace's info block takes that much, and ends on one.
  - It lies in usable RAM, away from the first 16 MiB, from other C(memmap=) entries and from the crash kernel, above 4 GiB if it can.
  - What an earlier plan reserved stays where it is when it does what is asked for.
  - Fails when it can't be done, with the nearest plan that can in C(nearest). Never changes anything.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.looks
options:
  size:
    description: How much is to be gained as System RAM, such as V(2G). Rounded up to whole memory blocks.
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
    description: Into how many regions it may be split, 1 to 4, when there is no room in one piece. Each becomes a namespace of its own.
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
    - The plan, with memmap (list of values for the kernel), arguments (the same with C(memmap=)), regions (start, size, range,
      gained_bytes, lost_bytes, first_block, last_block of each), block_size, wanted_bytes, gained_bytes, lost_bytes, kept (reserved
      already) and sentences (what was chosen, and why).
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import parse_size
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs, require_root
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.boot_loader import BootLoader
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.reservation import Planner, Wish
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.reservation_input import read_machine
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import run


def act(module: AnsibleModule) -> dict:
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
