# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send a notice to webhooks and by mail. A notice that cannot be sent never fails the run."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller import web_client
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller.asking import CONTEXT, Asking
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import notify, web


class ActionModule(Asking):
    """The action."""

    _spec: ClassVar[dict[str, Any]] = {
        **CONTEXT,
        "targets": {"type": "list", "elements": "dict", "default": []},
        "notice": {"type": "str", "choices": list(notify.NOTICES), "required": True},
        "text": {"type": "str", "required": True},
        "reported": {"type": "list", "elements": "str", "default": []},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(argument_spec=self._spec)
        self._remember(args)
        now = datetime.datetime.now(datetime.timezone.utc)
        facts = {
            "notice": args["notice"],
            "text": args["text"],
            "time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "rollout": args["rollout"],
            "run": args["run_id"],
            "host": args["host"],
        }
        wanted = notify.targets(args["targets"], args["notice"])
        problems = {}
        for one in [] if self._task.check_mode else wanted:
            problem = self._send(one, facts, task_vars or {})
            if problem:
                problems[one["name"]] = web.scrub(problem, web.secrets_of(one))
        # Each target that fails is reported once a run.
        new = [name for name in problems if name not in args["reported"]]
        result.update(
            changed=False,
            sent=[one["name"] for one in wanted if one["name"] not in problems],
            problems=list(problems.values()),
            reported=[*args["reported"], *new],
        )
        if new:
            result["warnings"] = [*result.get("warnings", []), *(problems[name] for name in new)]
        return result

    def _send(self, target: Mapping[str, Any], facts: Mapping[str, Any], task_vars: dict[str, Any]) -> str:
        """Send the notice to a target. Returns the empty string, or the problem."""
        try:
            if "webhook" in target:
                return notify.problem(target, web_client.ask(notify.webhook(target, facts)))
            arguments = notify.mail(target, facts)
            done = self._module(notify.MAIL_MODULE, arguments, task_vars, arguments["timeout"])
            if not done.get("failed"):
                return ""
            server = f"{arguments['host']}:{arguments['port']}"
            return f"The notification {target['name']} could not be mailed through {server}: {web.excerpt(str(done.get('msg')))}."
        # Whatever goes wrong here must not end the run.
        except Exception as error:  # pylint: disable=broad-except
            return f"The notification {target['name']} could not be sent: {type(error).__name__}."
