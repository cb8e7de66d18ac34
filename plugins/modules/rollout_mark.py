# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The mark of a rollout on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_mark
short_description: Note on a host what a rollout did with it
version_added: 0.1.0
description:
  - Writes F(/var/lib/hotpmem/rollout.json), which M(hotpmem.fleet.rollout_facts) reads.
  - A run that is resumed sees from it which hosts it has done already, also when the journal on the controller does not say so.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
options:
  run:
    description: The id of the run.
    type: str
    required: true
  rollout:
    description: The name of the rollout.
    type: str
    required: true
  outcome:
    description:
      - What became of the host. V(kept) means that all items have their state, and V(cold) that some have not.
      - V(failed) means that it failed, and V(back) that it is on its old kernel again.
      - V(refused) means that it was not rebooted, and V(lost) that the run ended before it knew.
    type: str
    choices: [kept, cold, failed, back, refused, lost]
    required: true
  time:
    description: When, in UTC. Without it, now. A mark that says the same of the same boot keeps its time.
    type: str
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_facts
"""

EXAMPLES = r"""
- name: Note that this host is done
  hotpmem.fleet.rollout_mark:
    run: 20261127T101500Z-a1b2c3
    rollout: default
    outcome: kept
"""

RETURN = r"""
before:
  description: The mark before, or null.
  type: dict
  returned: success
after:
  description: The mark now, with C(run), C(rollout), C(outcome), C(time) and C(boot_id).
  type: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.rollout_facts import new_mark
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import MARK, Records
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Plan; unless in check mode, write."""
    sysfs = Sysfs()
    before, after = new_mark(sysfs, module.params)
    if before != after and not module.check_mode:
        # The host may lose power right after it.
        Records(sysfs).write_json(MARK, after, sync=True)
    return {"changed": before != after, "before": before, "after": after}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str", "required": True},
            "rollout": {"type": "str", "required": True},
            "outcome": {"type": "str", "choices": ["kept", "cold", "failed", "back", "refused", "lost"], "required": True},
            "time": {"type": "str"},
        },
        supports_check_mode=True,
    )
    # This run is the rollout's, not the one that holds the host.
    run(module, act, holds=False)


if __name__ == "__main__":
    main()
