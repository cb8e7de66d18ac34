# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions of a rollout share: commands on the controller or the host, questions to servers, and modules on another host."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible_collections.hotpmem.fleet.plugins.action.kexec_jump import Lost, end_left_over, limit
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import fields, probes, web

from . import programs, web_client

# Seconds beyond the time limit of a command on a host, for the connection.
CONNECTING = 30.0
# The context that commands get, in HOTPMEM_NAME.
CONTEXT = {"host": {"type": "str", "default": ""}, "rollout": {"type": "str", "default": ""}, "run_id": {"type": "str", "default": ""}}


class Asking(ActionBase):
    """An action that asks."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _context: Mapping[str, str] = {}

    def _remember(self, args: Mapping[str, Any]) -> None:
        self._context = {
            f"HOTPMEM_{name.upper()}": str(args.get(key) or "")
            for name, key in (("host", "host"), ("rollout", "rollout"), ("run", "run_id"))
        }

    def _tell(self, text: str) -> None:
        """Show a line while the task goes on."""
        self._display.display(f"{self._context.get('HOTPMEM_HOST') or 'hotpmem'}: {text}")

    def _on_host(self, argv: list[str], timeout: float, environment: Mapping[str, str]) -> programs.Ended:
        """Run a command on the host of the task, with the time limit of coreutils."""
        words = ["env", *(f"{name}={value}" for name, value in environment.items()), "timeout", "--kill-after=5", f"{timeout:g}", *argv]
        try:
            with limit(timeout + CONNECTING):
                done = self._low_level_execute_command(shlex.join(words))
        except (AnsibleError, Lost) as error:
            end_left_over(error)
            return programs.Ended(rc=255, error=f"the host could not be reached ({web.excerpt(str(error))})")
        ended = programs.Ended(int(done["rc"]), to_text(done["stdout"]), to_text(done["stderr"]))
        # 124 and 137: timeout has stopped it.
        if ended.rc in (124, 137):
            return programs.Ended(ended.rc, error=f"it did not end within {timeout:g} s and was stopped")
        return ended

    def _command(self, definition: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> str:
        """Run the command of a definition. Returns the empty string, or the problem."""
        argv = [str(word) for word in definition["command"]]
        context = {**self._context, **(environment or {})}
        if definition["where"] == "host":
            ended = self._on_host(argv, definition["timeout"], context)
        else:
            ended = programs.run(argv, definition["timeout"], context)
        return probes.command_problem(
            argv, definition["where"], ended.rc, ended.stdout, ended.stderr, error=ended.error, hidden=definition["no_log"]
        )

    def _probe(self, definition: Mapping[str, Any]) -> str:
        """Ask a command, a web server, a TCP port or systemd once. Returns the empty string, or the problem."""
        kind, timeout = definition["kind"], definition["timeout"]
        if kind == "command":
            return self._command(definition)
        if kind == "http":
            asked = probes.http_definition(definition["http"])
            request = web.request(asked, str(asked.get("method") or "GET"), timeout=timeout)
            return web.scrub(probes.http_problem(asked, web_client.ask(request)), web.secrets_of(asked))
        if kind == "tcp":
            host, port = fields.address(definition["tcp"])
            problem = programs.connect(host, port, timeout)
            return f"TCP port {definition['tcp']}: {problem}" if problem else ""
        return self._units(fields.names(definition["units"]), timeout)

    def _units(self, units: list[str], timeout: float) -> str:
        """Whether units are active on the host."""
        ended = self._on_host(["systemctl", "is-active", "--", *units], timeout, {"LC_ALL": "C"})
        states = ended.stdout.split()
        if ended.error or len(states) != len(units):
            return f"systemctl is-active on the host: {ended.error or web.excerpt(ended.stderr or ended.stdout) or f'exit code {ended.rc}'}"
        wrong = [f"{unit} is {state}" for unit, state in zip(units, states) if state != "active"]
        return ", ".join(wrong)

    def _module(self, name: str, arguments: Mapping[str, Any], task_vars: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Run a module on the host of the task. A host that does not answer becomes a failure, and not the end of the host for the play."""
        try:
            with limit(timeout + CONNECTING):
                return dict(self._execute_module(module_name=name, module_args=dict(arguments), task_vars=task_vars))
        except (AnsibleError, Lost) as error:
            end_left_over(error)
            return {"failed": True, "unreached": True, "msg": f"the host could not be reached ({web.excerpt(str(error))})"}
