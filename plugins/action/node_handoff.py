# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Start a handoff on the host and come back as soon as its new boot answers. All that happens in between, the host does itself."""

from __future__ import annotations

import datetime
import getpass
import json
import secrets
import shlex
import socket
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_text
from ansible_collections.hotpmem.fleet.plugins.action.kexec_jump import LOADED, METHODS, Answer
from ansible_collections.hotpmem.fleet.plugins.action.kexec_jump import ActionModule as Jump

AGENT = "/usr/local/sbin/hotpmem-node"
BUSY = 9  # the exit code of hotpmem-node when somebody else holds the host


def owner() -> str:
    """Who runs this play, for others who find the host held."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def new_run() -> str:
    """An id for a run: its start in UTC, and something that no other run has."""
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


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
        "method": {"type": "str", "choices": [*METHODS, "firmware"]},
        "timeout": {"type": "int", "default": 600},
        "agent": {"type": "path", "default": AGENT},
        "hold": {"type": "bool", "default": False},
        "lease": {"type": "int", "default": 300},
        "run": {"type": "str"},
        "kernel": {"type": "str"},
        "initrd": {"type": "str"},
        "boot_id": {"type": "str"},
    }
    # Before the jump it removes memory, which takes as long as it takes; its log says when it has failed.
    _settle = float("inf")
    # It starts a Python on the host.
    _starting = 60.0
    _run = ""
    _resumes = False  # whether the play names a run that holds the host

    def _loaded(self) -> str:
        """The boot id. The agent loads the kernel itself."""
        done = self._low_level_execute_command(LOADED.split(" /sys/", maxsplit=1)[0])
        said = to_text(done["stdout"]).split()
        if not said:
            raise AnsibleActionFail(f"Cannot hand off: the host would not tell its boot id ({to_text(done['stderr']).strip()}).")
        return str(said[0])

    def _argv(self, args: dict[str, Any], option: str) -> str:
        argv = [args["agent"], "handoff", option, "--json"]
        if args["method"]:
            argv += ["--method", args["method"]]
        if args["initrd"] and not args["kernel"]:
            raise AnsibleActionFail("Cannot hand off: the option initrd needs the option kernel.", result={"alive": True})
        # A handoff that holds the host has chosen its kernel.
        if args["kernel"] and not (self._resumes and not args["hold"]):
            argv += ["--kernel", args["kernel"]] + (["--initrd", args["initrd"]] if args["initrd"] else [])
        if option == "--detach":
            argv += ["--run", args["run"], "--owner", owner()]
            argv += ["--hold", str(args["lease"])] if args["hold"] else []
            argv += ["--resume"] if self._resumes and not args["hold"] else []
        return shlex.join(argv)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._resumes = bool(self._task.args.get("run"))
        if not self._resumes:
            self._task.args["run"] = new_run()
        self._run = self._task.args["run"]
        return super().run(tmp, task_vars)

    def _begin(self, result: dict[str, Any], args: dict[str, Any]) -> bool:
        """With hold, hold the host, and nothing more. A host that has left the boot that the play means is left alone."""
        result["run"] = args["run"]
        if args.get("boot_id") and result["before"]["boot_id"] != args["boot_id"]:
            result.update(changed=False, before={"boot_id": args["boot_id"]})
            return False
        if not args["hold"]:
            return True
        done = self._low_level_execute_command(self._command(args))
        if done["rc"] != 0:
            self._not_started(done)
        return False

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
        raise AnsibleActionFail(
            f"Cannot hand off (exit code {done['rc']}): {said}",
            # With the run, the play can undo what this handoff may have begun.
            result={"alive": True, "exit": done["rc"], **({} if done["rc"] == BUSY else {"run": self._run})},
        )

    def _came_back(self, answer: Answer, seconds: float) -> str:
        return f"The host did not reboot: {words(answer.log)}"
