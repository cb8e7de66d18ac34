# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Convert a persistent memory namespace."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pmem_namespace
short_description: Put a persistent memory namespace into a mode
version_added: 0.1.0
description:
  - Converts a namespace between raw, devdax, fsdax and sector mode with C(ndctl), and reads sysfs again to check the result.
  - C(ndctl) lists a raw namespace of reserved RAM (C(memmap=)) as fsdax. This module knows it as raw.
  - Sets the region's C(align) to what C(ndctl) needs. The kernel puts it back to 16 MiB at each boot.
  - Does nothing when the namespace already is in this mode.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
  - hotpmem.fleet.namespace
options:
  region:
    description:
      - Only look at this region, by its name (V(region0)), which moves when a DIMM is added, or its start address (V(0x147000000)).
      - When the region has no namespace, one is created in it. On a labelled DIMM it takes all that is free, down to a multiple of 16 MiB,
        because other sizes may be lost at the next boot.
    type: str
  name:
    description:
      - The name of a namespace that is created (C(ndctl) calls it so as well). It stays over conversions and boots.
      - Labels on the DIMM keep it. On a region without labels it is refused.
      - A namespace that already exists must have this name. It is not renamed.
    type: str
  mode:
    description: The mode to have.
    type: str
    choices: [raw, devdax, fsdax, sector]
    required: true
  map:
    description:
      - Where the page structures of a V(devdax) or V(fsdax) namespace are kept, in RAM or in the namespace itself.
      - V(dev) writes about 16 MiB a GiB into the namespace. A conversion without this option uses V(mem).
      - When left out, what a namespace in the right mode has is left as it is.
    type: str
    choices: [mem, dev]
  align:
    description:
      - Alignment of a V(devdax) or V(fsdax) namespace, such as V(2M).
      - When left out, what a namespace in the right mode has is left as it is, and a conversion uses 2 MiB.
    type: str
  force:
    description:
      - Convert although something is lost by it, a state image that was not restored, a file system, or what a process has
        open; RV(destroys) says what.
      - Never overrides a mount, swap space, a device built on the namespace, or memory in use as System RAM.
    type: bool
    default: false
requirements:
  - ndctl
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.dax_kmem
"""

EXAMPLES = r"""
- name: Make the only namespace a dax device
  hotpmem.fleet.pmem_namespace:
    mode: devdax

- name: Make the namespace at this address raw
  hotpmem.fleet.pmem_namespace:
    namespace: "0x3fe00000"
    mode: raw

- name: Create a namespace on a labelled DIMM, known by its name from now on
  hotpmem.fleet.pmem_namespace:
    region: "0x147000000"
    name: state
    mode: devdax

- name: Say what a conversion would destroy
  hotpmem.fleet.pmem_namespace:
    mode: devdax
    force: true
  check_mode: true
  register: plan
"""

RETURN = r"""
namespace:
  description: The namespace as it is afterwards. In check mode, as it is.
  type: dict
  returned: success
  sample: {namespace: namespace0.0, mode: devdax, map: mem, size: 538968064, start: 1071644672, chardev: dax0.0, state: enabled}
region:
  description: The region it is in.
  type: dict
  returned: success
changes:
  description: What is done, one sentence each.
  type: list
  elements: str
  returned: success
  sample: ["create a devdax namespace of 528 MiB in region0, named state"]
destroys:
  description: What the conversion destroys, one sentence each.
  type: list
  elements: str
  returned: success, or when the conversion is refused
blockdev:
  description: The block device (V(pmem0)), or null.
  type: str
  returned: success
chardev:
  description: The dax device (V(dax0.0)), or null.
  type: str
  returned: success
before:
  description: Name, mode, map, alignment and state of the namespace before.
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
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import MIB, parse_size
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.namespace import Namespace
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.namespace_conversion import MODES, Plan
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run


def outline(namespace: Namespace | None) -> dict[str, Any]:
    """What before and after compare."""
    if namespace is None:
        return {"mode": None}
    facts = namespace.to_dict()
    return {key: facts[key] for key in ("namespace", "mode", "map", "align", "state")}


def predicted(plan: Plan, mapping: str, align: int) -> dict[str, Any]:
    """What outline() will say when the plan was carried out."""
    after = dict(outline(plan.before), mode=plan.mode, state="enabled")
    if not plan.before:
        # ndctl takes the first when it is idle (region_get_namespace), and here all are.
        after["namespace"] = f"{plan.region.name.replace('region', 'namespace')}.0"
    if plan.argv:
        paged = plan.mode in ("devdax", "fsdax")
        after.update(map=(mapping or "mem") if paged else None, align=(align or 2 * MIB) if paged else None)
    return after


def act(module: AnsibleModule) -> dict[str, Any]:
    """Plan; unless in check mode, convert."""
    params = module.params
    engine = Engine()
    mapping, align = params["map"] or "", parse_size(params["align"] or 0)
    plan = engine.converter.plan_named(
        params["namespace"] or "", params["region"] or "", params["mode"], mapping, align, label=params["name"] or ""
    )
    engine.converter.allow(plan, params["force"])
    result = {"changed": bool(plan.changes), "changes": plan.changes, "destroys": plan.destroys, "before": outline(plan.before)}
    result["region"] = plan.region.to_dict()
    if plan.changes and module.check_mode:
        now = plan.before
        result["after"] = predicted(plan, mapping, align)
    else:
        now = engine.converter.apply(plan)
        result["after"] = outline(now)
    facts = now.to_dict() if now else None
    result.update(namespace=facts, blockdev=facts and facts["blockdev"], chardev=facts and facts["chardev"])
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RUN,
            "namespace": {"type": "str"},
            "region": {"type": "str"},
            "name": {"type": "str"},
            "mode": {"type": "str", "choices": list(MODES), "required": True},
            "map": {"type": "str", "choices": ["mem", "dev"]},
            "align": {"type": "str"},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
