# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Wait for a host that a dead controller left in its handoff: until it answers, and nothing hands it over any more.

Such a host goes on alone. For a moment it still answers, then it is down, and then its new boot answers. A play that asks it once
meanwhile takes it for unreachable, or for held by somebody else.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.hotpmem.fleet.plugins.action import kexec_jump as jump

# The unit starts a Python before it claims the host, so both are asked.
REST = f"cat /proc/sys/kernel/random/boot_id; {jump.STOPPING}; systemctl is-active hotpmem-handoff.service 2>/dev/null; {jump.CLAIM}; true"
AT_WORK = ("active", "activating", "deactivating", "reloading")
PAUSE = 0.5  # seconds between two questions


def busy_with(answer: str | None) -> str:
    """What keeps a host from being at rest, from its answer to REST. Empty when nothing does."""
    lines = [line.strip() for line in (answer or "").strip().splitlines()]
    if len(lines) < 3 or len(lines[0]) != 36:
        return "it does not answer"
    if lines[1] == "stopping":
        return "it shuts down"
    return "a handoff is at work on it" if lines[2] in AT_WORK or any(lines[3:]) else ""


class ActionModule(jump.ActionModule):
    """The action. It changes nothing, so it runs in check mode too."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = ActionBase.run(self, tmp, task_vars)
        _valid, args = self.validate_argument_spec(argument_spec={"timeout": {"type": "float", "required": True}})
        if args["timeout"] < 0:
            raise AnsibleActionFail("Cannot wait for the host: timeout is below 0 seconds.")
        self._name = str((task_vars or {}).get("inventory_hostname", ""))
        began = time.monotonic()
        with self._patience():
            left = self._until_rest(began, args["timeout"])
        return {**result, "changed": False, "at_rest": not left, "busy_with": left, "seconds": round(time.monotonic() - began, 3)}

    def _until_rest(self, began: float, timeout: float) -> str:
        """Ask until the host is at rest, or the time is over. Returns what it is still busy with."""
        attempt, tell = 0, 1.0
        while True:
            elapsed = time.monotonic() - began
            left = busy_with(self._ask(REST, jump.connect_timeout(attempt, elapsed)))
            if not left or elapsed >= timeout:
                return left
            if elapsed >= tell:
                waited = f"{left} ({elapsed:.0f} s, at most {timeout:.0f} s)"
                jump.display.display(f"{self._name}: its handoff was under way when the last controller died; {waited}")
                tell = max(jump.TELL, elapsed * 2)
            attempt += 1
            time.sleep(PAUSE)
