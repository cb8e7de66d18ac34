# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print lines as they are.

ansible.builtin.debug leaves its text to the callback. With result_format=yaml, that breaks a row of a table after 80 columns. With json, it
quotes each row. A callback can't be told which text is a table, so this action prints to the display, as ansible.builtin.pause does.
"""

from __future__ import annotations

from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.words import visible

# These callbacks print one JSON document or stream. Any other text would spoil it, and the result is in it anyway.
FOR_PROGRAMS = ("json", "jsonl")
display = Display()


class ActionModule(ActionBase):
    """The action. It changes nothing, so it runs in check mode too."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _valid, args = self.validate_argument_spec(argument_spec={"lines": {"type": "list", "elements": "str", "required": True}})
        if str(C.config.get_config_value("DEFAULT_STDOUT_CALLBACK")).rpartition(".")[2] not in FOR_PROGRAMS:
            display.display("\n".join(visible(line) for line in args["lines"]))
        return {**result, "changed": False, "lines": args["lines"]}
