# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take memory blocks offline, or bring them online."""

from __future__ import annotations

DOCUMENTATION = r"""
module: memblock_offline
short_description: Take memory blocks offline, or bring them online
version_added: 0.1.0
description:
  - Brings all memory blocks of a dax device, of a range, or of a list to a state. It changes all of them
    or none.
  - One deadline applies to all blocks together. The attempt ends when a block does not reach the state in
    time, for example because a process has pinned one of its pages.
  - The module then puts back the blocks that it has changed. The error names the block, its range, its
    zone and the reason.
  - Without any selection, the module takes the blocks of the dax device of the only namespace.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
  - hotpmem.fleet.namespace
  - hotpmem.fleet.namespace.timeout
options:
  device:
    description:
      - Select the blocks of this dax device (V(dax0.0)).
      - Together with O(start) or O(blocks), the module refuses blocks outside of the device.
    type: str
  start:
    description: Physical start of a range, such as V(0x40000000). This selects the blocks that lie completely inside the range.
    type: str
  size:
    description: Size of the range, such as V(512M).
    type: str
  blocks:
    description: Numbers of memory blocks.
    type: list
    elements: int
  state:
    description: The state to reach. Only blocks in V(online_movable) go offline again reliably.
    type: str
    choices: [offline, online_movable, online_kernel]
    default: offline
  retries:
    description: How many more times the module tries blocks that the kernel reports as busy. Without it, the module tries until O(timeout).
    type: int
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.dax_kmem
"""

EXAMPLES = r"""
- name: Take the persistent memory offline
  hotpmem.fleet.memblock_offline:
    device: dax0.0
    timeout: 30

- name: Bring it online again
  hotpmem.fleet.memblock_offline:
    device: dax0.0
    state: online_movable

- name: Take a range offline
  hotpmem.fleet.memblock_offline:
    start: "0x40000000"
    size: 512M
"""

RETURN = r"""
blocks:
  description: The blocks afterwards. In check mode, the current ones.
  type: list
  elements: dict
  returned: success
  sample: [{block: 8, range: 0x40000000-0x47ffffff, state: offline, zone: ""}]
failed_blocks:
  description:
    - The blocks that did not reach the state, with block, range, zone, errno and reason.
    - For the block that the message names, C(owners) names who uses its pages, as far as the kernel tells.
  type: list
  elements: dict
  returned: success, or when a block did not get to the state
  sample:
    - block: 9
      range: 0x48000000-0x4fffffff
      zone: Movable
      errno: EINTR
      reason: a page in it could not be moved before the deadline
      owners: [process 812 (qemu) maps 16 pages of the block]
rolled_back:
  description: Numbers of the blocks that were put back after a failure.
  type: list
  elements: int
  returned: success, or when a block did not get to the state
not_rolled_back:
  description: Blocks that could not be put back after a failure, as in RV(failed_blocks).
  type: list
  elements: dict
  returned: success, or when a block did not get to the state
before:
  description: State of each block before, by number.
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
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import format_range, parse_size
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.memory_blocks import STATES, Block, whole_blocks
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run

WHAT = "Cannot choose memory blocks"


def choose(engine: Engine, params: dict[str, Any]) -> list[Block]:
    """The blocks meant. Raises HotpmemError when one is missing, or lies outside of the device."""
    numbers: list[int] | None = None
    if params["blocks"] is not None:
        numbers = sorted(set(params["blocks"]))
    elif params["start"] is not None:
        start, size = parse_size(params["start"]), parse_size(params["size"])
        numbers = list(whole_blocks(start, size, engine.dax.blocks.block_size()))
        if not numbers:
            raise HotpmemError(
                WHAT,
                f"no whole memory block lies in {format_range(start, size)}",
                "The module pmem_info shows the block size. Widen the range",
            )
    if numbers is None or params["device"] or params["namespace"]:
        name = engine.device_of(WHAT, params["device"] or "", params["namespace"] or "")[0]
        device = engine.dax.read(name)
        own = engine.dax.whole(device)
        foreign = [number for number in numbers or [] if number not in own]
        if foreign:
            raise HotpmemError(
                WHAT,
                f"the memory blocks {', '.join(map(str, foreign))} lie outside of {name} ({format_range(device.start, device.size)})",
                "To change them anyway, leave out the option device",
                outside=foreign,
            )
        if numbers is None:
            found = engine.dax.present(device)
            if not found and params["state"] != "offline":
                raise HotpmemError(
                    WHAT, f"{name} has no memory blocks: kmem does not hold it", "Hand it over first: dax_kmem with state: system_ram"
                )
            return found
    found = engine.dax.blocks.present(numbers)
    missing = sorted(set(numbers) - {block.number for block in found})
    if missing:
        raise HotpmemError(
            WHAT, f"the memory blocks {', '.join(map(str, missing))} do not exist", "pmem_info lists those that exist", missing=missing
        )
    return found


def outline(blocks: list[Block]) -> dict[str, Any]:
    """What before and after compare."""
    return {str(block.number): block.what_it_is for block in blocks}


def act(module: AnsibleModule) -> dict[str, Any]:
    """Plan; unless in check mode, bring the blocks to the state."""
    params = module.params
    engine = Engine()
    memory = engine.dax.blocks
    blocks = choose(engine, params)
    todo = memory.to_change(blocks, params["state"])
    before = outline(blocks)
    result: dict[str, Any] = {"changed": bool(todo), "before": before, "failed_blocks": [], "rolled_back": [], "not_rolled_back": []}
    if todo and module.check_mode:
        result["after"] = dict.fromkeys(before, params["state"])
    else:
        memory.set_state(todo, params["state"], params["timeout"], params["retries"])
        blocks = memory.present([block.number for block in blocks])
        result["after"] = outline(blocks)
    result["blocks"] = [block.to_dict() for block in blocks]
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RUN,
            "device": {"type": "str"},
            "namespace": {"type": "str"},
            "start": {"type": "str"},
            "size": {"type": "str"},
            "blocks": {"type": "list", "elements": "int"},
            "state": {"type": "str", "choices": list(STATES), "default": "offline"},
            "timeout": {"type": "int", "default": 60},
            "retries": {"type": "int"},
        },
        mutually_exclusive=[("device", "namespace"), ("start", "blocks")],
        required_together=[("start", "size")],
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
