# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take, renew or release the lease of the whole fleet, a file on this host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_lease_file
short_description: Keep the lease of the fleet in a file on a host
version_added: 0.1.0
description:
  - The lease is a file on one host. It keeps a second controller from rolling out at the same time.
  - Reading and writing the file is one step, so of two controllers that ask at once, one gets the lease.
  - A lease that was not renewed in time runs out. The next run takes it over and says so.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
options:
  state:
    description:
      - V(taken) takes the lease, or fails and says who holds it. The same run may take it again.
      - V(renewed) sets a new end. It fails if another run has taken the lease.
      - V(released) removes the lease of this run. It leaves the lease of another run alone.
    type: str
    choices: [taken, renewed, released]
    required: true
  path:
    description: The file.
    type: path
    default: /var/lib/hotpmem/fleet-lease.json
  owner:
    description: Who runs the rollout, for others who find the lease taken.
    type: str
    required: true
  rollout:
    description: The name of the rollout.
    type: str
    default: default
  run_id:
    description: The id of the run.
    type: str
    required: true
  ttl:
    description: Seconds after which a lease that is not renewed runs out.
    type: float
    default: 1800
  take_over:
    description: Take the lease even if another run holds it.
    type: bool
    default: false
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_lease
"""

EXAMPLES = r"""
- name: Take the lease
  hotpmem.fleet.rollout_lease_file:
    state: taken
    owner: alice@control
    run_id: 20261127T101500Z-1a2b3c
  delegate_to: lease-host
"""

RETURN = r"""
lease:
  description: The lease after this task, or the lease of somebody else that was found.
  type: dict
  returned: when the file exists
took_over:
  description: The lease of somebody else that was taken over.
  type: dict
  returned: when a lease was taken over
held:
  description: Whether somebody else holds the lease.
  type: bool
  returned: always
notice:
  description: What the operator should know.
  type: str
  returned: success
"""

import os
import time
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.errors import HotpmemError
from ..module_utils._module import run
from ..module_utils._rollout.lease_file import Asker, LeaseFile, decide

TODO = {
    "taken": "Wait until that run ends. If it is lost, run again with -e take_over=true",
    "renewed": "No further host is begun. Find out who took the lease over before you run again",
}


def act(module: AnsibleModule) -> Dict[str, Any]:
    """Decide and write under one lock."""
    params = module.params
    path = params["path"]
    where = f"{os.uname().nodename} ({path})"
    asker = Asker(params["owner"], params["rollout"], params["run_id"])
    file = LeaseFile(path)

    def one_step() -> Dict[str, Any]:
        known = file.read(may_be_damaged=params["take_over"])
        decision = decide(known, asker, params["state"], time.time(), params["ttl"], params["take_over"])
        if not decision.allowed:
            verb = "take" if params["state"] == "taken" else "renew"
            raise HotpmemError(
                f"Cannot {verb} the fleet lease on {where}", decision.msg, TODO[params["state"]], lease=decision.content, held=True
            )
        if decision.changed and not module.check_mode:
            file.write(decision.content)
        found: Dict[str, Any] = {"changed": decision.changed, "held": False, "notice": decision.msg}
        found.update({"lease": decision.content} if decision.content else {})
        found.update({"took_over": decision.took_over} if decision.took_over else {})
        return dict(found, before=known or {}, after=decision.content or {})

    if module.check_mode:
        return one_step()
    with file.locked():
        return one_step()


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["taken", "renewed", "released"], "required": True},
            "path": {"type": "path", "default": "/var/lib/hotpmem/fleet-lease.json"},
            "owner": {"type": "str", "required": True},
            "rollout": {"type": "str", "default": "default"},
            "run_id": {"type": "str", "required": True},
            "ttl": {"type": "float", "default": 1800},
            "take_over": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
