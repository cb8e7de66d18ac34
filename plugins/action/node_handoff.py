# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Start a handoff on the host and come back as soon as its new boot answers. All that happens in between, the host does itself."""

from __future__ import annotations

import json
import shlex
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_text
from ansible_collections.hotpmem.fleet.plugins.action.kexec_jump import LOADED, METHODS, Answer
from ansible_collections.hotpmem.fleet.plugins.action.kexec_jump import ActionModule as Jump

AGENT = "/usr/local/sbin/hotpmem-node"


def words(log: str) -> str:
    """The agent's last message in its log: the line before the one that says how it ended."""
    lines = [line for line in log.strip().splitlines() if not line.startswith("ended with ")]
    return lines[-1] if lines else "it said nothing: see journalctl -u hotpmem-handoff"


def message(stdout: str) -> str:
    """``msg`` in the agent's JSON, or what it printed instead."""
    try:
        return str(json.loads(stdout.strip().splitlines()[-1])["msg"])
    except (ValueError, IndexError, KeyError, TypeError):
        return stdout.strip() or "it said nothing"


class ActionModule(Jump):
    """The action."""

    _spec: ClassVar[dict[str, Any]] = {
        "method": {"type": "str", "choices": list(METHODS)},
        "timeout": {"type": "int", "default": 600},
        "agent": {"type": "path", "default": AGENT},
    }
    # Before the jump it removes memory, which takes as long as it takes; its log says when it has failed.
    _settle = float("inf")
    # It starts a Python on the host.
    _starting = 60.0

    def _loaded(self) -> str:
        """The boot id. The agent loads the kernel itself."""
        done = self._low_level_execute_command(LOADED.split(" /sys/", maxsplit=1)[0])
        said = to_text(done["stdout"]).split()
        if not said:
            raise AnsibleActionFail(f"Cannot hand off: the host would not tell its boot id ({to_text(done['stderr']).strip()}).")
        return said[0]

    def _argv(self, args: dict[str, Any], option: str) -> str:
        argv = [args["agent"], "handoff", option, "--json"]
        if args["method"]:
            argv += ["--method", args["method"]]
        return shlex.join(argv)

    def _checked(self, result: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
        done = self._low_level_execute_command(self._argv(args, "--check"))
        if done["rc"] != 0:
            self._not_started(done)
        result["steps"] = json.loads(to_text(done["stdout"]).strip().splitlines()[-1])["steps"]
        return result

    def _command(self, args: dict[str, Any]) -> str:
        return self._argv(args, "--detach")

    def _not_started(self, done: dict[str, Any]) -> None:
        said = message(to_text(done["stdout"])) if to_text(done["stdout"]).strip() else to_text(done["stderr"]).strip()
        raise AnsibleActionFail(f"Cannot hand off (exit code {done['rc']}): {said}", result={"alive": True})

    def _came_back(self, answer: Answer, seconds: float) -> str:
        return f"The host did not reboot: {words(answer.log)}"
