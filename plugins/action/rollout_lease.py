# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take, renew or release the lease of the whole fleet: a file on a host, or a lock of a FleetLock server."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.hotpmem.fleet.plugins.action.node_handoff import owner
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller import web_client
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller.asking import CONTEXT, Asking
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import fields, fleetlock, lease, web

TTL = 1800.0


class ActionModule(Asking):
    """The action."""

    _spec: ClassVar[dict[str, Any]] = {
        **CONTEXT,
        "state": {"type": "str", "choices": ["taken", "renewed", "released"], "required": True},
        "lease": {"type": "dict", "required": True},
        "take_over": {"type": "bool", "default": False},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(argument_spec=self._spec)
        self._remember(args)
        wanted, state = args["lease"], args["state"]
        result.update(changed=not self._task.check_mode, notes=[])
        if self._task.check_mode:
            return result

        def attempt() -> fleetlock.Attempt:
            return self._server(args) if "fleetlock" in wanted else self._file(args, task_vars or {})

        wait = fields.number(wanted.get("wait"), 0) if state == "taken" else 0
        interval = fields.number(wanted.get("interval"), 10)
        last = lease.obtain(attempt, wait, interval, sleep=time.sleep, clock=time.monotonic, tell=self._tell)
        if not last.done:
            message = web.scrub(last.msg, web.secrets_of(wanted))
            # While the lease has not run out, one renewal that did not get through costs nothing.
            if state == "taken" or last.busy:
                raise AnsibleActionFail(message, result={"held": last.busy, **last.details})
            result.update(changed=False, notes=[message])
        else:
            result.update(last.details)
            result["notes"] = [last.msg] if last.msg else []
        result["warnings"] = [*result.get("warnings", []), *result["notes"]]
        return result

    def _server(self, args: dict[str, Any]) -> fleetlock.Attempt:
        """Ask a FleetLock server."""
        definition = {**args["lease"], "url": args["lease"]["fleetlock"]}
        operation = "unlock" if args["state"] == "released" else "lock"
        client = str(definition.get("id") or f"hotpmem-{args['rollout']}-{args['run_id']}")
        found = fleetlock.outcome(web_client.ask(fleetlock.request(definition, operation, client)), operation, definition["url"])
        if found.done:
            return found
        todo = (
            f"The server knows who holds it. This run asks with the id {client}."
            if found.busy
            else "Check hotpmem_fleet_lease and the server."
        )
        return replace(found, msg=f"{found.msg}. {todo}")

    def _file(self, args: dict[str, Any], task_vars: dict[str, Any]) -> fleetlock.Attempt:
        """Ask the host of the task, to which the task is delegated."""
        wanted = args["lease"]
        arguments = {
            "state": args["state"],
            "owner": owner(),
            "rollout": args["rollout"] or "default",
            "run_id": args["run_id"],
            "ttl": fields.number(wanted.get("ttl"), TTL),
            "take_over": args["take_over"] or fields.boolean(wanted.get("take_over", False)),
            **({"path": wanted["path"]} if "path" in wanted else {}),
        }
        done = self._module("hotpmem.fleet.rollout_lease_file", arguments, task_vars, 60)
        if done.get("failed"):
            said = str(done.get("msg") or "no reason is known")
            if done.get("unreached"):
                said = f"Cannot reach the host {wanted['host']} of the fleet lease: {said}. Check hotpmem_fleet_lease.host."
            return fleetlock.Attempt(False, bool(done.get("held")), said, {"lease": done.get("lease") or {}})
        keys = ("lease", "took_over")
        return fleetlock.Attempt(True, False, str(done.get("notice") or ""), {key: done[key] for key in keys if key in done})
