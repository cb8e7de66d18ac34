# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks that run on the controller run as the user who runs Ansible, whatever the inventory says about sudo."""

from __future__ import annotations

import os
import shutil
import subprocess
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
        # These start a program there. set_fact and the action plugins run in Ansible itself.
        if node.get("delegate_to") == "localhost" and not {"ansible.builtin.set_fact", "hotpmem.fleet.rollout_notify"} & set(node):
            yield node
        for key in ("block", "rescue", "always", "tasks"):
            yield from delegated(node.get(key))


TASKS = [
    pytest.param(
        file.parts[-3],
        task,
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


TOOLS = ("bash", "chmod", "cut", "find", "mkdir", "mktemp", "rm", "sha256sum", "sort", "tail", "uname", "xargs")


def build(where: Path, programs: tuple[str, ...], compiler: str = "") -> str:
    """What the build says on a controller that has only these programs."""
    (where / "bin").mkdir()
    for name in (*TOOLS, *programs):
        (where / "bin" / name).symlink_to(shutil.which(name) or "/bin/true")
    # A Python without ziglang.
    (where / "bin/python").write_text("#!/bin/bash\nexit 1\n")
    (where / "bin/python").chmod(0o755)
    script = ROOT / "roles/state_helper/files/build.sh"
    words = [str(where / "bin/bash"), str(script), str(script.parent / "src"), str(where / "out"), os.uname().machine, "python", compiler]
    done = subprocess.run(words, env={"PATH": str(where / "bin")}, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not (where / "out").exists()
    return done.stderr


@pytest.mark.parametrize(
    "programs, compiler, lacks",
    [
        (("cc",), "", ["make (from"]),
        (("make",), "", ["a C compiler ('python -m pip install ziglang==0.17.1'"]),
        ((), "", ["a C compiler", "and make (from"]),
        (("make",), "arm-gcc -O2", ["the compiler arm-gcc, which state_helper_cc names"]),
    ],
)
def test_one_sentence_says_what_to_install(tmp_path: Path, programs: tuple[str, ...], compiler: str, lacks: list[str]) -> None:
    said = build(tmp_path, programs, compiler)
    assert said.startswith(f"Cannot build pmem-state for {os.uname().machine}: the controller lacks ") and len(said.splitlines()) == 1
    assert all(words in said for words in lacks) and "not found" not in said and said.count("make (") == ("make" not in programs)
