# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks that run on the controller run as the user who runs Ansible, whatever the inventory says about sudo."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playing import ROOT, read, run


def delegated(node: Any) -> Iterator[dict]:
    """The tasks that run on the controller."""
    if isinstance(node, list):
        for task in node:
            yield from delegated(task)
    elif isinstance(node, dict):
        if node.get("delegate_to") == "localhost":
            yield node
        for key in ("block", "rescue", "always", "tasks"):
            yield from delegated(node.get(key))


# These still rely on the keyword become.
KEYWORD_ONLY = {"Pack the agent on the controller"}
TASKS = [
    pytest.param(
        file.parts[-3],
        task,
        marks=[pytest.mark.xfail(reason="relies on the keyword become")] if task["name"] in KEYWORD_ONLY else [],
        id=f"{file.parts[-3]}: {task['name']}",
    )
    for file in sorted(ROOT.glob("roles/*/tasks/*.yml"))
    for task in delegated(read(file))
]


@pytest.mark.parametrize("role, task", TASKS)
def test_the_task_runs_without_sudo(tmp_path: Path, role: str, task: dict) -> None:
    copy = tmp_path / "roles" / role
    (copy / "tasks").mkdir(parents=True)
    for name in ("defaults", "vars", "files"):
        if (ROOT / "roles" / role / name).exists():
            (copy / name).symlink_to(ROOT / "roles" / role / name)
    (tmp_path / "plugins").symlink_to(ROOT / "plugins")
    # A make that builds nothing keeps this quick.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/make").write_text(
        '#!/bin/sh\nfor word; do case $word in OUT=*) : >"${word#OUT=}/pmem-state"; chmod +x "${word#OUT=}/pmem-state" ;; esac; done\n'
    )
    (tmp_path / "bin/make").chmod(0o755)
    (copy / "tasks/main.yml").write_text(yaml.safe_dump([task]), encoding="utf-8")
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "roles": [role]}]), encoding="utf-8")
    (tmp_path / "group_vars").mkdir()
    values = {
        "ansible_become": True,
        "ansible_become_exe": "/bin/false",
        "ansible_connection": "local",
        "state_helper_uname": {"stdout": "x86_64"},
        "state_helper_cc": "cc",
    }
    (tmp_path / "group_vars/all.yml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (tmp_path / "hosts").write_text("node1\n", encoding="utf-8")
    path = f"{tmp_path / 'bin'}:{Path(shutil.which('sh')).parent}:/usr/bin:/bin"
    done = run(
        tmp_path, ["--inventory", str(tmp_path / "hosts"), str(tmp_path / "play.yml")], PATH=path, ANSIBLE_BECOME_ALLOW_SAME_USER="1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=1" in done.stdout
