# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every YAML example in the project's Markdown is what it looks like: ansible-playbook reads the plays and tasks, ansible-inventory the
inventories, and the code knows the variables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from markdown_it import MarkdownIt

CHECKOUT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
VARIABLE = re.compile(r"\bhotpmem_\w+")


class Example(NamedTuple):
    """A block of YAML. kind: plays, tasks, variables, inventory, other or broken."""

    place: str
    kind: str
    text: str
    data: Any


def kind_of(data: Any, marked: bool) -> str:
    """What a block holds; empty when it is text that only happens to be YAML."""
    if isinstance(data, list) and data and all(isinstance(one, dict) for one in data):
        return "plays" if all("hosts" in one or "ansible.builtin.import_playbook" in one for one in data) else "tasks"
    if isinstance(data, dict) and "all" in data:
        return "inventory"
    if isinstance(data, dict) and any(VARIABLE.fullmatch(str(key)) for key in data):
        return "variables"
    return "other" if marked else ""


def examples_of(name: str, text: str) -> list[Example]:
    """The examples of a page. A block that is marked as YAML and is not YAML is broken."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type not in ("fence", "code_block") or (token.info or "yaml") != "yaml":
            continue
        marked = bool(token.info)
        try:
            data = yaml.safe_load(token.content)
            kind = kind_of(data, marked)
        except yaml.YAMLError:
            data, kind = None, "broken" if marked else ""
        if kind:
            found.append(Example(f"{name}:{token.map[0] + 1}", kind, token.content, data))
    return found


@lru_cache(maxsize=None)
def examples() -> list[Example]:
    """The examples of all pages."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    pages = [name for name in listed if (CHECKOUT / name).is_file()]
    return [one for name in pages for one in examples_of(name, (CHECKOUT / name).read_text(encoding="utf-8"))]


@lru_cache(maxsize=None)
def known_variables() -> frozenset[str]:
    """The variables that the code reads."""
    files = [
        path for top in ("roles", "playbooks", "plugins") for path in (CHECKOUT / top).rglob("*") if path.suffix in (".yml", ".py", ".j2")
    ]
    return frozenset(name for path in files for name in VARIABLE.findall(path.read_text(encoding="utf-8")))


def run(where: Path, *argv: str) -> str:
    """Run a program of Ansible; return what it said when it failed."""
    env = {
        **os.environ,
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(BIN.parent / "collections"),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run([BIN / argv[0], *argv[1:]], cwd=where, capture_output=True, text=True, env=env, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_no_block_is_broken() -> None:
    assert [one.place for one in examples() if one.kind == "broken"] == []
    assert {one.kind for one in examples()} >= {"plays", "tasks", "variables", "inventory"}


def test_plays_and_tasks_pass_the_syntax_check(tmp_path: Path) -> None:
    names = []
    for one in examples():
        if one.kind in ("plays", "tasks"):
            plays = one.data if one.kind == "plays" else [{"hosts": "all", "tasks": one.data}]
            names.append(one.place.replace("/", "_").replace(":", "_line_") + ".yml")
            (tmp_path / names[-1]).write_text(yaml.safe_dump(plays), encoding="utf-8")
    assert run(tmp_path, "ansible-playbook", "--inventory", "node1,", "--syntax-check", *names) == ""


def test_the_syntax_check_finds_a_wrong_example(tmp_path: Path) -> None:
    (tmp_path / "wrong.yml").write_text("- hosts: all\n  tasks:\n    - hotpmem.fleet.no_such_module: {}\n", encoding="utf-8")
    assert "no_such_module" in run(tmp_path, "ansible-playbook", "--inventory", "node1,", "--syntax-check", "wrong.yml")


@pytest.mark.parametrize("one", [one for one in examples() if one.kind == "inventory"], ids=lambda one: one.place)
def test_inventories_are_read(tmp_path: Path, one: Example) -> None:
    (tmp_path / "inventory.yml").write_text(one.text, encoding="utf-8")
    assert run(tmp_path, "ansible-inventory", "--inventory", "inventory.yml", "--list") == ""
    assert set(VARIABLE.findall(one.text)) <= known_variables()


def test_the_code_knows_every_variable() -> None:
    unknown = {
        one.place: sorted(set(map(str, one.data)) - known_variables())
        for one in examples()
        if one.kind == "variables" and not set(one.data) <= known_variables()
    }
    assert unknown == {}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("    - hosts: all\n", ["plays"]),
        ("    - name: a\n      ansible.builtin.debug:\n", ["tasks"]),
        ("    hotpmem_size: 2G\n", ["variables"]),
        ("```yaml\nall:\n  hosts:\n```\n", ["inventory"]),
        ("```yaml\na: [\n```\n", ["broken"]),
        ("```yaml\nversion: 3\n```\n", ["other"]),
        ("    hotpmem_size: 2G\n    size: 1\n", ["variables"]),
        ("    node1: kept\n", []),
        ("    make demo\n", []),
        ("```text\n- hosts: all\n```\n", []),
    ],
)
def test_kinds(text: str, kinds: list[str]) -> None:
    assert [one.kind for one in examples_of("a.md", text)] == kinds
