# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of hosts that do not exist, and ansible-playbook that works on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import yaml
from standin_host import Host, fresh

TOP = Path(__file__).resolve().parents[2]
PLAYBOOK = "hotpmem.fleet.rolling_reboot"


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The output on one line, since Ansible wraps it."""
    return " ".join(done.stdout.split())


class Fleet:
    """A directory with the hosts, their inventory and the journals."""

    # The stdout callback that the playbooks run with.
    callback = "ansible.builtin.default"

    def __init__(self, where: Path, names: list[str], **script: Mapping[str, Any]) -> None:
        self.where, self.names = where, names
        self.hosts = where / "hosts"
        self.hosts.mkdir(parents=True)
        collection = where / "collections/ansible_collections/hotpmem/fleet"
        collection.parent.mkdir(parents=True)
        collection.symlink_to(TOP)
        (where / "ansible.cfg").write_text("", encoding="utf-8")
        for name in names:
            self.write(name, fresh(dict(script.get(name, {}))))
        self.inventory()
        (self.hosts / "node.json").write_text(self._settings(), encoding="utf-8")

    def inventory(self, variables: Mapping[str, Mapping[str, Any]] | None = None, **of_all: Any) -> None:
        """Write the inventory."""
        own = variables or {}
        everything = {
            "ansible_connection": "standin",
            "ansible_pipelining": True,
            "ansible_python_interpreter": "/usr/bin/python3",
            "standin_fleet": str(self.hosts),
            "hotpmem_become": False,
            "hotpmem_journal_dir": str(self.where / "journals"),
            **of_all,
        }
        tree = {"all": {"vars": everything, "hosts": {name: dict(own.get(name, {})) for name in self.names}}}
        (self.where / "inventory.yml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")

    def _settings(self) -> str:
        """/etc/hotpmem/node.json of a host that was provisioned, as the role node_agent writes it."""
        cached = self.where.parent / "node.json"
        if not cached.exists():
            role = TOP / "roles/node_agent"
            task = {"ansible.builtin.copy": {"dest": str(cached), "content": "{{ node_agent_settings | to_json }}", "mode": "0644"}}
            files = [str(role / name / "main.yml") for name in ("defaults", "vars")]
            book = self.where / "settings.yml"
            book.write_text(
                json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars_files": files, "tasks": [task]}]),
                encoding="utf-8",
            )
            done = self.run(["--inventory", "localhost,", str(book)])
            assert done.returncode == 0, done.stdout + done.stderr
        return cached.read_text(encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """The environment of ansible-playbook, without the configuration of whoever runs this."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "XDG_"))}
        return {
            **inherited,
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            "ANSIBLE_COLLECTIONS_PATH": str(self.where / "collections"),
            "ANSIBLE_CONFIG": str(self.where / "ansible.cfg"),
            "ANSIBLE_CONNECTION_PLUGINS": str(TOP / "tests/fleet/plugins/connection"),
            "ANSIBLE_HOME": str(self.where / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_STDOUT_CALLBACK": self.callback,
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def words(self, *words: str, playbook: str = PLAYBOOK, **variables: Any) -> list[str]:
        """The command for a playbook. Variables are given as text, as an operator does with -e."""
        given = ["-e", json.dumps({name: str(value) for name, value in variables.items()})] if variables else []
        return ["--inventory", str(self.where / "inventory.yml"), playbook, *given, *words]

    def start(self, words: list[str], output: IO[str] | None = None) -> subprocess.Popen[str]:
        """Start ansible-playbook in a new process group."""
        return subprocess.Popen(
            [sys.executable, "-m", "ansible", "playbook", *words],
            cwd=self.where,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(words)
        output = process.communicate(timeout=1800)[0]
        return subprocess.CompletedProcess(words, process.returncode, output, "")

    def rolling_reboot(self, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run the playbook unattended."""
        return self.run(self.words(*words, **{"confirm": "false", **variables}))

    def clear(self, reason: str = "looked at it", *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Clear the failure budget."""
        return self.run(self.words(*words, "-e", json.dumps({"reason": reason}), playbook="hotpmem.fleet.rollout_clear", **variables))

    def read(self, name: str) -> dict[str, Any]:
        """The state of a host, after what it has done by itself."""
        with Host(self.hosts, name).changed() as state:
            return dict(state)

    def write(self, name: str, state: Mapping[str, Any]) -> None:
        (self.hosts / f"{name}.json").write_text(json.dumps(state), encoding="utf-8")

    def script(self, name: str, **script: Any) -> None:
        """Change what becomes of a host from now on."""
        state = self.read(name)
        state["script"] = script
        state["calls"].pop("lost", None)
        self.write(name, state)

    def reboots(self) -> dict[str, int]:
        """How often each host was rebooted."""
        return {name: len(self.read(name)["reboots"]) for name in self.names}

    def journals(self, rollout: str = "default") -> list[Path]:
        return sorted((self.where / "journals" / rollout).glob("*.jsonl"))

    def events(self, *names: str, rollout: str = "default") -> list[dict[str, Any]]:
        """The events of all runs, or those of some names."""
        lines = [json.loads(line) for path in self.journals(rollout) for line in path.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if not names or line["event"] in names]

    def ended(self) -> dict[str, list[str]]:
        """The outcomes of each host, in order."""
        found: dict[str, list[str]] = {}
        for line in self.events("host_ended"):
            found.setdefault(line["host"], []).append(line["outcome"])
        return found
