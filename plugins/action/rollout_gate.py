# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask the gates of a host, once or again and again for the soak time."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller.asking import CONTEXT, Asking
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import gates


class ActionModule(Asking):
    """The action."""

    _spec: ClassVar[dict[str, Any]] = {
        **CONTEXT,
        "gates": {"type": "list", "elements": "dict", "default": []},
        "soak": {"type": "float", "default": 0},
        "interval": {"type": "float", "default": 30},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(argument_spec=self._spec)
        self._remember(args)
        asked = [one for one in map(gates.prepared, args["gates"]) if one["kind"] != "tasks"]
        result.update(changed=False, soaked=args["soak"], passed=[one["name"] for one in asked])
        if self._task.check_mode:
            return result
        problem = next(filter(None, (gates.passes(one, self._probe, time.sleep) for one in asked)), "")
        if not problem and args["soak"] > 0:
            problem = gates.soak(asked, args["soak"], args["interval"], probe=self._probe, sleep=time.sleep, clock=time.monotonic)
        if problem:
            raise AnsibleActionFail(problem)
        return result
