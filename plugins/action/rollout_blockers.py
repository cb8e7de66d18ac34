# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask what speaks against beginning a host now, and wait until nothing does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller import web_client
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller.asking import CONTEXT, Asking
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import alerts, blockers, web

FACTS = "hotpmem.fleet.rollout_facts"


class ActionModule(Asking):
    """The action."""

    _spec: ClassVar[dict[str, Any]] = {
        **CONTEXT,
        "blockers": {"type": "list", "elements": "dict", "default": []},
        "waited": {"type": "float", "default": 0},
        "slice": {"type": "float", "default": 0},
    }
    _vars: dict[str, Any]

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(argument_spec=self._spec)
        self._remember(args)
        self._vars = task_vars or {}
        asked = [blockers.prepared(one) for one in args["blockers"]]
        result.update(changed=False, again=False, waited=args["waited"], notes=[])
        if self._task.check_mode:
            return result
        found = blockers.wait(
            asked,
            self._ask,
            sleep=time.sleep,
            clock=time.monotonic,
            waited=args["waited"],
            slice_seconds=args["slice"] or float("inf"),
            tell=lambda text: self._tell(f"waits, because it is blocked by {text}"),
        )
        secrets = web.secrets_of(args["blockers"])
        result.update(again=found.again, waited=found.seconds, notes=[web.scrub(f"{one} (ignored)", secrets) for one in found.ignored])
        result["warnings"] = [*result.get("warnings", []), *(f"Blocker {note}." for note in result["notes"])]
        if found.blocked and not found.again:
            raise AnsibleActionFail(web.scrub(found.msg, secrets), result={"waited": found.seconds, "blocked": True})
        return result

    def _ask(self, blocker: Mapping[str, Any]) -> str:
        """Ask a blocker. Returns the empty string or the reason; raises Unknown."""
        kind = blocker["kind"]
        if kind in alerts.PATHS:
            request = web.request(blocker, "GET", alerts.path_of(kind, str(blocker.get("query") or "")), timeout=blocker["timeout"])
            return blockers.of_alerts(blocker, web_client.ask(request))
        if kind in blockers.OF_FACTS:
            facts = self._module(FACTS, {"gather": ["users"]}, self._vars, 60)
            if facts.get("failed"):
                raise blockers.Unknown(f"the host did not tell: {facts.get('msg')}")
            return blockers.of_sessions(blocker, facts) if kind == "sessions" else blockers.of_inhibitors(blocker, facts)
        return self._probe(blocker)
