# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that does not exist: its file, and what its modules and its agent answer.

`script` in the file of a host makes it fail:

- refuse: the reason of its preflight
- handoff: refused, fails or never
- down, cold: the name of an item that was not restored
- unreachable: true, or the name of a module at which the connection is lost
- flaps: with unreachable, the next module is answered again
- slow: seconds of a handoff
- answers: seconds of them before it is down
- sleeps: a time before which it does not tell its boot id
- kernel: that of the next boot
- settings: what /etc/hotpmem/node.json holds
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import shlex
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CALL = re.compile(rb"""ansible_module\s*=\s*b?(['"])(?P<name>[\w.]+)\1""")
PARAMS = re.compile(rb"""params\s*=\s*(?P<text>b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*"|b?\"\"\".*?\"\"\")""", re.DOTALL)
MIB = 1 << 20

Answer = tuple[int, str, str]


class NoAnswer(Exception):
    """The host does not answer."""


def new_boot() -> str:
    return str(uuid.uuid4())


def fresh(script: dict[str, Any] | None = None, cycles: int = 3, down: float = 0.8) -> dict[str, Any]:
    """The file of a host that has been through some cycles."""
    history = [
        {"n": n, "ended": n, "down_seconds": down, "seconds": down * 5, "saved_bytes": 512 * MIB, "save_seconds": 0.1, "items": []}
        for n in range(cycles)
    ]
    return {
        "boot_id": new_boot(), "kernel": "6.1.0-1", "newest": "6.1.0-1", "packages": [], "history": history, "mark": None,
        "reboots": [], "handoff": None, "since": 0.0, "log": "", "calls": {}, "down": down, "script": script or {},
    }  # fmt: skip


class Host:
    """One host."""

    def __init__(self, fleet: Path, name: str) -> None:
        self.fleet, self.name, self.file = fleet, name, fleet / f"{name}.json"

    @contextmanager
    def changed(self) -> Iterator[dict[str, Any]]:
        """The state of the host, locked, and written when the block ends."""
        with open(self.fleet / f".{self.name}.lock", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads(self.file.read_text(encoding="utf-8"))
            self._go_on(state)
            yield state
            new = self.fleet / f".{self.name}.new"
            new.write_text(json.dumps(state), encoding="utf-8")
            os.replace(new, self.file)

    def _go_on(self, state: dict[str, Any]) -> None:
        """What the host has done by itself since."""
        handoff = state["handoff"]
        if not handoff or time.time() < handoff["until"]:
            return
        state["handoff"] = None
        if handoff["fails"]:
            state["log"] = "Handoff failed at save: Cannot save: it changed. The units run, as before.\nended with 7\n"
            return
        state.update(boot_id=handoff["boot_id"], since=handoff["until"], log="", kernel=handoff["kernel"])
        state["reboots"].append({"boot_id": handoff["boot_id"], "run": handoff["run"], "at": handoff["until"]})
        cycle = {"n": len(state["history"]), "ended": handoff["until"], "down_seconds": state["down"], "seconds": state["down"] * 5}
        items = (
            [{"name": state["script"]["cold"], "status": "cold", "reason": "its image was damaged"}] if "cold" in state["script"] else []
        )
        state["history"].append({**cycle, "saved_bytes": 512 * MIB, "save_seconds": 0.1, "items": items, "kernel": state["kernel"]})

    def _answers(self, state: dict[str, Any], what: str) -> None:
        """Raise NoAnswer for a host that is down, or whose connection is lost at this moment."""
        lost = state["script"].get("unreachable")
        if lost is True or (lost and lost == what):
            state["calls"]["lost"] = True
            raise NoAnswer(f"Failed to connect to {self.name}: No route to host")
        if lost and state["calls"].get("lost") and not state["script"].get("flaps"):
            raise NoAnswer(f"Failed to connect to {self.name}: No route to host")
        handoff = state["handoff"]
        if handoff and not handoff["fails"] and time.time() >= handoff["at"]:
            raise NoAnswer(f"Failed to connect to {self.name}: Connection refused")

    # Commands

    def command(self, cmd: str) -> Answer:
        words = shlex.split(cmd)
        text = words[-1] if len(words) > 2 and words[1] == "-c" else cmd
        if "uname" in text:
            until = json.loads(self.file.read_text(encoding="utf-8"))["script"].get("sleeps", 0)
            time.sleep(max(0.0, until - time.time()))
        with self.changed() as state:
            self._count(state, "exec")
            return self._command(state, text)

    def _command(self, state: dict[str, Any], text: str) -> Answer:
        if " handoff " in text:
            return self._handoff(state, shlex.split(text))
        self._answers(state, "command")
        if "boot_id" in text and "uname" in text:
            return 0, f"{state['boot_id']}\n{state['kernel']}\n", ""
        if "is-active" in text:
            return 0, f"{state['boot_id']}\nrunning\n{'active' if state['handoff'] else 'inactive'}\n", ""
        if "boot_id" in text:
            up = f"{time.time() - state['since']:.2f} 1.0\n" if "uptime" in text else ""
            return 0, f"{state['boot_id']}\n{up}{state['log'] if up else ''}", ""
        if "is-system-running" in text:
            return 0, "running\n", ""
        return 127, "", f"the stand-in does not know this command: {text}"

    def _handoff(self, state: dict[str, Any], words: list[str]) -> Answer:
        self._answers(state, "handoff")
        script = state["script"]
        if script.get("handoff") == "refused":
            return 5, json.dumps({"msg": "Handoff refused: item cache does not fit."}) + "\n", ""
        if "--check" in words:
            return 0, json.dumps({"steps": ["save", "jump"]}) + "\n", ""
        if state["handoff"]:
            return 9, json.dumps({"msg": "A handoff holds this host."}) + "\n", ""
        now = time.time()
        takes = {"never": 1e9}.get(script.get("handoff", ""), float(script.get("slow", 0.05)))
        state["handoff"] = {
            "at": now + float(script.get("answers", 0)), "until": now + takes,
            "boot_id": new_boot(), "run": words[words.index("--run") + 1],
            "fails": script.get("handoff") == "fails", "kernel": script.get("kernel", state["kernel"]),
        }  # fmt: skip
        return 0, json.dumps({"started": True}) + "\n", ""

    # Modules

    def _count(self, state: dict[str, Any], what: str) -> None:
        state["calls"][what] = state["calls"].get(what, 0) + 1

    def module(self, payload: bytes) -> Answer:
        found, given = CALL.search(payload), PARAMS.search(payload)
        if not found or not given:
            return 1, "", "the stand-in cannot read this module"
        import ast

        text = ast.literal_eval(given["text"].decode())
        params = json.loads(text)["ANSIBLE_MODULE_ARGS"]
        name = found["name"].decode().rpartition(".")[2]
        with self.changed() as state:
            self._count(state, name)
            self._answers(state, name)
            answer = getattr(self, f"_module_{name}", None)
            if answer is None:
                return 1, json.dumps({"failed": True, "msg": f"the stand-in does not know the module {name}"}), ""
            result = answer(state, params)
        return (1 if result.get("failed") else 0), json.dumps(result), ""

    def _module_rollout_facts(self, state: dict[str, Any], _params: dict[str, Any]) -> dict[str, Any]:
        newest = state["newest"]
        return {
            "changed": False, "boot_id": state["boot_id"], "kernel": state["kernel"], "history": state["history"][-20:],
            "newest_kernel": {"version": newest, "path": f"/boot/vmlinuz-{newest}", "initrd": f"/boot/initrd.img-{newest}"},
            "needs": {"kernel": newest != state["kernel"], "packages": state["packages"], "reasons": []},
            "sessions": [], "inhibitors": [], "mark": state["mark"],
            "helper_sha256": "5e" * 32,
        }  # fmt: skip

    def _module_rollout_mark(self, state: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        state["mark"] = {key: params.get(key) for key in ("run", "rollout", "outcome")} | {"boot_id": state["boot_id"], "time": time.time()}
        return {"changed": True}

    def _module_pmem_preflight(self, state: dict[str, Any], _params: dict[str, Any]) -> dict[str, Any]:
        reason = state["script"].get("refuse")
        if state["handoff"]:
            reason = "A handoff holds this host."
        if reason:
            return {"failed": True, "ok": False, "reasons": [reason], "msg": f"The host is not ready: {reason}"}
        return {"changed": False, "ok": True, "reasons": [], "numbers": {}}

    def _module_slurp(self, state: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        if params["src"] != "/etc/hotpmem/node.json":
            return {"failed": True, "msg": f"file not found: {params['src']}"}
        text = state["script"].get("settings") or (self.fleet / "node.json").read_text(encoding="utf-8")
        return {"changed": False, "encoding": "base64", "source": params["src"], "content": base64.b64encode(text.encode()).decode()}

    def _module_command(self, state: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        argv = params.get("argv") or shlex.split(params.get("_raw_params") or "")
        stdout, code = "", 0
        if argv[:2] == ["systemctl", "show"]:
            stdout = "Job=0\nActiveState=inactive\nUnitFileState=enabled"
        elif argv[-2:] == ["outcome", "--json"]:
            status = "down" if "down" in state["script"] else "cold" if "cold" in state["script"] else ""
            name = state["script"].get("down") or state["script"].get("cold")
            items = [{"name": name, "status": status, "reason": "Its image was damaged.", "unit": "cache.service"}] if status else []
            stdout, code = json.dumps({"outcomes": items}), 6 if status else 0
        return {
            "changed": True,
            "rc": code,
            "stdout": stdout,
            "stdout_lines": stdout.splitlines(),
            "stderr": "",
            "stderr_lines": [],
            "cmd": argv,
        }

    def _module_stat(self, _state: dict[str, Any], _params: dict[str, Any]) -> dict[str, Any]:
        return {"changed": False, "stat": {"exists": False}}

    def _module_pmem_info(self, _state: dict[str, Any], _params: dict[str, Any]) -> dict[str, Any]:
        memory = {"total_bytes": 8 << 30}
        return {"changed": False, "hotpmem": {"selected": {"mode": "devdax"}, "owner": None, "warnings": [], "memory": memory, "image": {}}}

    def _module_pmem_hotplug(self, _state: dict[str, Any], _params: dict[str, Any]) -> dict[str, Any]:
        return {"changed": False, "changes": [], "device": "/dev/dax0.0"}
