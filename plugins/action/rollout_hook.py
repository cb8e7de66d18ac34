# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run one hook of a rollout: a command, a load balancer, a silence or a lock."""

from __future__ import annotations

import datetime
import time
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller import web_client
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._controller.asking import CONTEXT, Asking
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import fleetlock, hooks, lease, silences, web

# The options of a hook that its module takes.
MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "haproxy": ("hotpmem.fleet.rollout_haproxy", ("backend", "socket", "timeout", "up_timeout", "on_timeout")),
    "nginx": ("hotpmem.fleet.rollout_nginx", ("file", "test", "reload", "pid_file", "timeout", "on_timeout")),
}


class ActionModule(Asking):
    """The action."""

    _spec: ClassVar[dict[str, Any]] = {
        **CONTEXT,
        "hook": {"type": "dict", "required": True},
        "point": {"type": "str", "choices": list(hooks.POINTS), "required": True},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(argument_spec=self._spec)
        self._remember(args)
        hook = hooks.prepared(args["hook"], args["point"])
        result.update(changed=not self._task.check_mode, notes=[])
        if self._task.check_mode and hook["kind"] not in MODULES:
            return result
        problem = ""
        for attempt in range(hook["retries"] + 1):
            if attempt:
                time.sleep(hook["delay"])
            problem = self._once(hook, args, result, task_vars or {})
            if not problem:
                result["warnings"] = [*result.get("warnings", []), *(f"Hook {hook['name']}: {note}." for note in result["notes"])]
                return result
        raise AnsibleActionFail(web.scrub(f"Hook {hook['name']} ({args['point']}): {problem}", web.secrets_of(hook)))

    def _once(self, hook: dict[str, Any], args: dict[str, Any], result: dict[str, Any], task_vars: dict[str, Any]) -> str:
        """Run the hook. Returns the empty string, or the problem with what to do."""
        kind = hook["kind"]
        if kind == "command":
            problem = self._command(hook, {"HOTPMEM_POINT": args["point"]})
            return f"{problem}." if problem else ""
        if kind in MODULES:
            return self._balancer(hook, args, result, task_vars)
        if kind == "alertmanager_silence":
            return self._silence(hook, args, result)
        return self._fleetlock(hook, args)

    def _balancer(self, hook: dict[str, Any], args: dict[str, Any], result: dict[str, Any], task_vars: dict[str, Any]) -> str:
        """Drain or put back the host on the load balancer, to which the task is delegated."""
        module, options = MODULES[hook["kind"]]
        arguments = {option: hook[option] for option in options if option in hook}
        arguments["state"] = "ready" if hook["undo"] else "drained"
        arguments["server"] = hook.get("server") or args["host"]
        done = self._module(module, arguments, task_vars, hook["timeout"])
        if done.get("failed"):
            if done.get("unreached"):
                return f"the load balancer could not be asked: {done['msg']}. Check the key hosts of the hook."
            return str(done.get("msg"))
        result["changed"] = bool(done.get("changed"))
        result["notes"] = list(done.get("warnings_text") or [])
        return ""

    def _silence(self, hook: dict[str, Any], args: dict[str, Any], result: dict[str, Any]) -> str:
        """Create or extend the silence of this host, or expire it."""
        where = web.safe_url(str(hook["url"]))
        said = silences.comment(args["rollout"], args["host"])
        todo = "Check the key url of the hook, and that Alertmanager runs there."
        try:
            known = silences.own(web_client.ask(web.request(hook, "GET", silences.PATH)), hook["matchers"], said)
        except ValueError as error:
            return f"Cannot read the silences of Alertmanager at {where}: {error}. {todo}"
        if hook["undo"]:
            for one in known:
                reply = web_client.ask(web.request(hook, "DELETE", f"/api/v2/silence/{one}"))
                # 404: it has expired meanwhile.
                if not reply.good and reply.status != 404:
                    return f"Cannot expire the silence {one} of Alertmanager at {where}: {web.said(reply)}. {todo}"
            result.update(changed=bool(known), silences=known)
            return ""
        now = datetime.datetime.now(datetime.timezone.utc)
        payload = silences.silence(hook["matchers"], said, now, float(hook.get("duration") or 3600), known[0] if known else "")
        try:
            result["silences"] = [silences.new_id(web_client.ask(web.request(hook, "POST", silences.PATH, payload=payload)))]
        except ValueError as error:
            return f"Cannot create a silence in Alertmanager at {where}: {error}. {todo}"
        return ""

    def _fleetlock(self, hook: dict[str, Any], args: dict[str, Any]) -> str:
        """Take or give back a slot."""
        operation = "unlock" if hook["undo"] else "lock"
        client = str(hook.get("id") or args["host"] or f"hotpmem-{args['rollout']}")

        def attempt() -> fleetlock.Attempt:
            return fleetlock.outcome(web_client.ask(fleetlock.request(hook, operation, client)), operation, str(hook["url"]))

        wait, interval = float(hook.get("wait", 600)), float(hook.get("interval", 10))
        last = lease.obtain(attempt, wait if operation == "lock" else 0, interval, sleep=time.sleep, clock=time.monotonic, tell=self._tell)
        if last.done:
            return ""
        todo = (
            "Somebody else reboots now. Run again later, or raise wait." if last.busy else "Check the key url of the hook and the server."
        )
        return f"{last.msg}. {todo}"
