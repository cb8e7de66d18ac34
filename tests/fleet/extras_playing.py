# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the task files of the role rollout on this machine, and starts real programs on loopback for the tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Stands in for the action that keeps the journal: it only writes down what it was told.
STEP = """
import json, os
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        with open(os.environ["STEPS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(dict(self._task.args)) + "\\n")
        return dict(result, changed=True)
"""


def collection(where: Path) -> Path:
    """The directory of collections with this checkout, in which the journal is a stand-in."""
    top = where / "collections/ansible_collections/hotpmem/fleet"
    if top.exists():
        return where / "collections"
    (top / "plugins/action").mkdir(parents=True)
    (top / "plugins/modules").mkdir()
    for one in ROOT.iterdir():
        if one.name in ("roles", "playbooks", "meta", "galaxy.yml"):
            (top / one.name).symlink_to(one)
    for one in (ROOT / "plugins").iterdir():
        if one.name not in ("action", "modules"):
            (top / "plugins" / one.name).symlink_to(one)
    for kind in ("action", "modules"):
        for one in (ROOT / "plugins" / kind).glob("*.py"):
            if one.name != "rollout_step.py":
                (top / "plugins" / kind / one.name).symlink_to(one)
    (top / "plugins/action/rollout_step.py").write_text(STEP, encoding="utf-8")
    (top / "plugins/modules/rollout_step.py").write_text("", encoding="utf-8")
    return where / "collections"


class Played:
    """How a play ended, and what the journal was told."""

    def __init__(self, done: subprocess.CompletedProcess, steps: list[dict[str, Any]]) -> None:
        self.rc = done.returncode
        self.text = done.stdout + done.stderr
        self.steps = steps

    @property
    def line(self) -> str:
        """The output with every run of spaces and line breaks as one space."""
        return " ".join(self.text.split())

    def hooks(self) -> list[tuple[str, str, str]]:
        """Point, name and outcome of each hook, in the order of the journal."""
        return [(one["point"], one["name"], one["outcome"]) for one in self.steps if one["state"] == "hook"]


def play(
    where: Path, tasks: list[Any], variables: dict[str, Any], *words: str, hosts: str = "node1", children: dict[str, Any] | None = None
) -> Played:
    """Run tasks on hosts that are all this machine."""
    collections = collection(where)
    plan = {"run": variables.pop("test_run", "run-1"), "rollout": "web", "journal": str(where / "journal")}
    variables = {"hotpmem_rollout_plan": plan, "rollout_plan": plan, **variables}
    book = [{"hosts": "fleet", "gather_facts": False, "tasks": tasks}]
    (where / "play.yml").write_text(json.dumps(book), encoding="utf-8")
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    found = {
        "all": {
            "vars": {**here, **variables},
            "children": {"fleet": {"hosts": {name: {} for name in hosts.split(",")}}, **(children or {})},
        }
    }
    (where / "inventory.json").write_text(json.dumps(found), encoding="utf-8")
    steps = where / "steps.jsonl"
    steps.unlink(missing_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    (where / "ansible.cfg").write_text("", encoding="utf-8")
    own = {
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CONFIG": str(where / "ansible.cfg"),
        "ANSIBLE_HOME": str(where / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
        "PWD": str(where),
        "STEPS": str(steps),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "--inventory", str(where / "inventory.json"), *words, str(where / "play.yml")],
        cwd=where, env={**inherited, **own}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    told = [json.loads(line) for line in steps.read_text(encoding="utf-8").splitlines()] if steps.exists() else []
    return Played(done, told)


def role(tasks_from: str, **variables: Any) -> dict[str, Any]:
    """A task that runs a task file of the role rollout."""
    return {"ansible.builtin.include_role": {"name": "hotpmem.fleet.rollout", "tasks_from": tasks_from}, "vars": variables}


def program(name: str, package: str) -> str:
    """The path of a program. A test is skipped when it is not installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if not found:
        pytest.skip(f"{name} is not installed. Install it with: apt-get install {package}")
    return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(condition: Any, seconds: float = 30) -> Any:
    """Wait until a condition holds; its value."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if found := condition():
                return found
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


@contextlib.contextmanager
def started(argv: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """A program in the foreground. It is ended with the block, together with its children."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
