# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs plays on this machine for the tests of the roles and playbooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Sequence

import yaml

ROOT = Path(__file__).resolve().parents[3]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def run(where: Path, words: Sequence[str], **environment: str) -> subprocess.CompletedProcess:
    """Run ansible-playbook with this collection, and with no other configuration, in the directory `where`."""
    collection = where / "collections/ansible_collections/hotpmem/fleet"
    if not collection.is_symlink():
        collection.parent.mkdir(parents=True)
        collection.symlink_to(ROOT)
    (where / "ansible.cfg").write_text("", encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    own = {
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_COLLECTIONS_PATH": str(where / "collections"),
        "ANSIBLE_CONFIG": str(where / "ansible.cfg"),
        "ANSIBLE_HOME": str(where / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "LC_ALL": "C.UTF-8",
        "XDG_CACHE_HOME": str(where / "cache"),
        "PWD": str(where),
    }
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", *words],
        cwd=where, env={**inherited, **own, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def play(where: Path, content: Dict[str, Any], *words: str) -> subprocess.CompletedProcess:
    """Run a play on this machine. Unless words are given, in check mode: then a role writes below `where` at most."""
    book = where / "play.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, **content}]), encoding="utf-8")
    return run(where, [*(words or ("--check",)), "--connection", "local", "--inventory", "localhost,", str(book)])


def role_variables(role: str) -> Dict[str, Any]:
    """The defaults and the variables of a role, as they are written."""
    files = [ROOT / "roles" / role / name / "main.yml" for name in ("defaults", "vars")]
    return {name: value for file in files if file.exists() for name, value in read(file).items()}


def evaluated(where: Path, role: str, cases: Sequence[Dict[str, Any]], expressions: Dict[str, str]) -> list[Dict[str, Any]]:
    """Evaluate expressions as the role would, once for each case. A case holds variables, which override those of the role."""
    tasks = [
        {
            "ansible.builtin.copy": {"dest": str(where / f"answer{number}.json"), "content": "{{ answer | to_json }}"},
            "vars": {"answer": expressions, **role_variables(role), "ansible_managed": "Ansible managed", **case},
        }
        for number, case in enumerate(cases)
    ]
    done = play(where, {"tasks": tasks}, "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((where / f"answer{number}.json").read_text(encoding="utf-8")) for number in range(len(cases))]


def template(role: str, name: str) -> str:
    """An expression that renders a template of a role."""
    return "{{ lookup('ansible.builtin.template', '%s') }}" % (ROOT / "roles" / role / "templates" / f"{name}.j2")
