# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Start the units of items."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state_units
short_description: Start the units of items, with the sockets and timers that belong to them
version_added: 0.1.0
description:
  - Starts the units of items, and the units that stop and start with them and whose start a condition has prevented. Such a condition
    keeps sockets, timers and instances of a unit down while its state waits for a restore.
  - All units start with one command. A socket starts before its service, because systemd refuses to start it afterwards.
  - A unit that runs is left alone. If the unit of one of these items does not exist, the module starts nothing and fails.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
options:
  items:
    description: The items of the host. Each has C(name), C(path) and C(unit). Other keys are ignored.
    type: list
    elements: dict
    required: true
  start:
    description: The names of the items whose units start. Items without a unit have nothing to start.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds that the start of all units may take. V(0) sets no limit.
    type: int
    default: 0
seealso:
  - module: hotpmem.fleet.pmem_state_copy
  - module: ansible.builtin.systemd_service
    description: One unit, without those that belong to it.
author:
  - The hotpmem.fleet authors (@hotpmem)
"""

EXAMPLES = r"""
- name: Start what uses the restored state
  hotpmem.fleet.state_units:
    items: "{{ hotpmem_items }}"
    start: [cache, database]
"""

RETURN = r"""
started:
  description:
    - The units that were started, in this order.
    - Check mode does not foresee that a condition of a unit prevents its start.
  type: list
  elements: str
  returned: success
before:
  description: The state of each unit as systemd names it (C(ActiveState)).
  type: dict
  returned: success
after:
  description: The same afterwards. In check mode, what it would be.
  type: dict
  returned: success
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cycle.node_settings import Settings, items_with_units
from ..module_utils._cycle.state_units import StateUnits
from ..module_utils._host.errors import HotpmemError
from ..module_utils._host.programs import Runner
from ..module_utils._host.sysfs import Sysfs
from ..module_utils._host.systemd import Services
from ..module_utils._module import RUN, run


def act(module: AnsibleModule) -> Dict[str, Any]:
    """Plan; unless in check mode, act."""
    settings = Settings(items=items_with_units(module.params["items"]))
    names = module.params["start"]
    unknown = sorted(set(names) - {kept.name for kept in settings.items})
    if unknown:
        raise HotpmemError("Cannot start the units", f"no item has the name {', '.join(unknown)}", "Name items of the option items")
    services = Services(Runner(), module.params["timeout"] or None)
    units = StateUnits(Sysfs(), services, settings)
    items = [kept for kept in settings.items if kept.name in names and kept.unit]
    missing = units.missing(items)
    if missing:
        raise HotpmemError("Cannot start the units", "; ".join(missing), "Nothing was started. Correct the list of items")
    units.find()
    ordered = units.to_start([kept.unit for kept in items])
    before = dict(services.states(ordered))
    down = [unit for unit in ordered if before[unit] not in ("active", "reloading")]
    if module.check_mode:
        after = dict.fromkeys(ordered, "active")
    else:
        services.start(down)
        after = dict(services.states(ordered))
        units.find()
        # systemctl succeeds also when a condition, such as one that is not ours, prevents the start.
        skipped = units.skipped([kept.unit for kept in items])
        down = [unit for unit in down if unit not in skipped]
    return {"changed": bool(down), "started": down, "before": before, "after": after}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RUN,
            "items": {"type": "list", "elements": "dict", "required": True},
            "start": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
