# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Planning a reservation on the controller, from facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import parse_size
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.free_memory import Machine, Wish
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.reservation import Planner
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.memory_map import usable_ram

DOCUMENTATION = r"""
name: plan_reservation
short_description: Plan which memory to set aside, from a memory map
version_added: 0.1.0
description:
  - Plans as M(hotpmem.fleet.reservation_plan) does, from facts of a machine that does not run now, or does not exist yet.
positional: _input, size, block_size
options:
  _input:
    description:
      - The firmware's memory map, as a list of dicts with C(start), C(end) (included; numbers or V(0x1000)) and C(type), as in
        C(/sys/firmware/memmap), or the text of dmesg with its C(BIOS-e820) lines.
    type: raw
    required: true
  size:
    description: How much is to be gained, such as V(2G).
    type: str
    required: true
  block_size:
    description: Bytes in a memory block of the machine, such as V(128M).
    type: str
    default: 128M
  command_line:
    description: The kernel command line.
    type: str
    default: ''
  numa_node:
    description: The NUMA node it must lie on.
    type: int
  nodes:
    description: For each NUMA node its ranges, as lists of start and end (excluded) in bytes.
    type: dict
    default: {}
  lead:
    description: How far before the boundary a region starts, V(2M) or V(16M).
    type: str
    default: 2M
  regions:
    description: Into how many regions it may be split.
    type: int
    default: 1
  share:
    description: Percent of the RAM that may be set aside at most.
    type: int
    default: 50
"""

EXAMPLES = r"""
- name: Plan from what dmesg says
  ansible.builtin.debug:
    msg: "{{ (dmesg.stdout | hotpmem.fleet.plan_reservation('2G', command_line=ansible_facts.proc_cmdline | default(''))).sentences }}"
"""

RETURN = r"""
_value:
  description: The plan, as M(hotpmem.fleet.reservation_plan) returns it.
  type: dict
"""


def plan_reservation(
    firmware_map: str | Iterable[Mapping[str, Any]],
    size: str | int,
    block_size: str | int = "128M",
    *,
    command_line: str = "",
    numa_node: int | None = None,
    nodes: Mapping[Any, Sequence[Sequence[int]]] | None = None,
    lead: str | int = "2M",
    regions: int = 1,
    share: int = 50,
) -> dict[str, Any]:
    """Return the plan. Raises AnsibleFilterError with the planner's three sentences."""
    try:
        ranges = {int(node): [(int(start), int(end)) for start, end in found] for node, found in (nodes or {}).items()}
        machine = Machine(tuple(usable_ram(firmware_map)), parse_size(block_size), command_line, ranges)
        return Planner(machine).plan(Wish(parse_size(size), numa_node, parse_size(lead), regions, share)).to_dict()
    except HotpmemError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"plan_reservation": plan_reservation}
