# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a rollout wants to know about a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_facts
short_description: Read whether a host needs a reboot, how long its last cycles took, and who uses it
version_added: 0.1.0
description:
  - Reads what a rollout wants to know about a host before it plans.
  - Never changes anything, and does not fail for what can't be read. RV(not_read) names it.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.looks
options:
  gather:
    description:
      - What to read besides RV(boot_id) and RV(kernel).
      - V(needs) reads RV(newest_kernel) and RV(needs). It asks the package manager, which may take a minute.
      - V(history) reads RV(history), V(users) reads RV(sessions) and RV(inhibitors), and V(mark) reads RV(mark).
      - V(helper) reads RV(helper_sha256).
    type: list
    elements: str
    choices: [needs, history, users, mark, helper]
    default: [needs, history, users, mark, helper]
  helper:
    description: Path of C(pmem-state) on the host.
    type: path
    default: /usr/local/sbin/pmem-state
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_mark
"""

EXAMPLES = r"""
- name: Read what a rollout has to know
  hotpmem.fleet.rollout_facts:
  register: facts

- name: Show the hosts that do not run their newest kernel
  ansible.builtin.debug:
    msg: "{{ facts.kernel }} runs, and {{ facts.newest_kernel.version }} is installed"
  when: facts.needs.kernel
"""

RETURN = r"""
boot_id:
  description: The id of this boot.
  type: str
  returned: success
kernel:
  description: The release of the running kernel, as C(uname -r) prints it.
  type: str
  returned: success
newest_kernel:
  description:
    - The newest installed kernel of the flavour of the running one, with C(version), C(path), and the C(initrd) that belongs to it.
    - Null when it can't be told which one that is, or when it is not completely installed. RV(not_read) has the reason.
  type: dict
  returned: when O(gather) has V(needs)
needs:
  description: Why the host needs a reboot.
  type: dict
  returned: when O(gather) has V(needs)
  contains:
    kernel:
      description: Whether the running kernel is not the newest installed one. Null when that can't be told.
      type: bool
    packages:
      description: The packages that ask for a reboot. V(unknown) stands for packages that the system does not name.
      type: list
      elements: str
    reasons:
      description: The reasons as sentences. Empty when the host needs no reboot.
      type: list
      elements: str
history:
  description:
    - The last cycles of this host, at most 20, the newest last. What a record does not hold is null.
    - C(items) of a record is a list with C(name) and C(status) of each item (V(restored), V(cold), V(down) or V(running)).
  type: list
  elements: dict
  returned: when O(gather) has V(history)
  contains:
    n:
      description: The number of the cycle.
      type: int
    ended:
      description: When the memory was System RAM again, in UTC.
      type: str
    down_seconds:
      description: Seconds from the stop of the units until they were ready.
      type: float
    seconds:
      description: Seconds of all phases, which begin after the preflight and end with the hot-add.
      type: float
    phases:
      description: The seconds of each phase, by its name.
      type: dict
    saved_bytes:
      description: Bytes of the state that was saved.
      type: int
    save_seconds:
      description: Seconds that the save took.
      type: float
    kernel:
      description: The release of the kernel that the cycle led to.
      type: str
sessions:
  description:
    - The sessions of users with C(user), C(tty) and C(since) (UTC), except the session of this play.
    - Without systemd-logind they come from C(who), which does not tell C(since) completely, so that it is null.
  type: list
  elements: dict
  returned: when O(gather) has V(users)
inhibitors:
  description: The inhibitors of systemd-logind with C(who), C(what) (such as V(shutdown:sleep)), C(why) and C(mode) (V(block) or V(delay)).
  type: list
  elements: dict
  returned: when O(gather) has V(users)
mark:
  description:
    - What the last rollout has left on this host with M(hotpmem.fleet.rollout_mark). Null when it has left nothing.
    - It has C(run), C(rollout), C(outcome), C(time) and C(boot_id).
  type: dict
  returned: when O(gather) has V(mark)
helper_sha256:
  description: SHA-256 of C(pmem-state) on the host. Null when it is missing or can't be read.
  type: str
  returned: when O(gather) has V(helper)
not_read:
  description: What could not be read or told, and why, as sentences.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.rollout_facts import PARTS, gather
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import HELPER
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import run


def act(module: AnsibleModule) -> dict[str, Any]:
    """Gather."""
    return gather(Sysfs(), Runner(), module.params["gather"], module.params["helper"])


def main() -> None:
    """Entry point."""
    spec = {
        "gather": {"type": "list", "elements": "str", "choices": list(PARTS), "default": list(PARTS)},
        "helper": {"type": "path", "default": HELPER},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), act)


if __name__ == "__main__":
    main()
