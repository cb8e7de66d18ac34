# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role state_items defines the keys of an item, and the roles that take items validate their lists with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
KEYS = {"name", "path", "unit", "cold_start", "early_start"}
# An entry point of each role. The one of post_boot shows that tasks_from validates the items as well.
ROLES = {
    "node_agent": "main.yml",
    "post_boot": "record.yml",
    "pre_reboot": "main.yml",
    "state_helper": "main.yml",
    "unit_guard": "main.yml",
}
WRONG = {
    "unknown key": ([{"name": "cache", "path": "/srv/cache", "units": "cache.service"}], "units"),
    "missing path": ([{"name": "cache"}], "missing required arguments: path"),
    "wrong type": ([{"name": "cache", "path": "/srv/cache", "cold_start": "perhaps"}], "cold_start"),
    "no list": ({"name": "cache"}, "list"),
}
TASK = re.compile(r"^TASK \[hotpmem\.fleet\.(\w+) : (.*)\]", re.MULTILINE)


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def keys_of_an_item(node: object) -> list[set[str]]:
    """All sets of options in an argument spec that contain a key of an item."""
    if not isinstance(node, dict):
        return []
    options = node.get("options")
    mine = [set(options)] if isinstance(options, dict) and KEYS & set(options) else []
    return mine + [found for value in node.values() for found in keys_of_an_item(value)]


def test_only_one_role_defines_the_keys() -> None:
    specs = sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
    found = {spec.parts[-3]: keys_of_an_item(read(spec)) for spec in specs}
    assert {role: sets for role, sets in found.items() if sets} == {"state_items": [KEYS]}


@pytest.mark.parametrize("role", ROLES)
def test_the_role_passes_its_list_to_state_items(role: str) -> None:
    assert read(ROOT / "roles" / role / "meta/main.yml")["dependencies"] == [
        {"role": "hotpmem.fleet.state_items", "vars": {"state_items": "{{ %s_items }}" % role}}
    ]


def test_every_role_with_items_is_in_this_test() -> None:
    dependent = {path.parts[-3] for path in ROOT.glob("roles/*/meta/main.yml") if read(path)["dependencies"]}
    assert dependent == set(ROLES)


def play(tmp_path: Path, content: dict) -> subprocess.CompletedProcess:
    """Run a play in check mode on this machine. A role that wrongly accepts its items writes below tmp_path at most."""
    collection = tmp_path / "collections/ansible_collections/hotpmem/fleet"
    collection.parent.mkdir(parents=True)
    collection.symlink_to(ROOT)
    config = tmp_path / "ansible.cfg"
    config.write_text("", encoding="utf-8")
    book = tmp_path / "play.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, **content}]), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(
        ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "collections"),
        ANSIBLE_CONFIG=str(config),
        ANSIBLE_HOME=str(tmp_path / "home"),
        ANSIBLE_NOCOLOR="1",
        LC_ALL="C.UTF-8",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    command = [sys.executable, "-m", "ansible", "playbook", "--check", "--connection", "local", "--inventory", "localhost,"]
    return subprocess.run(command + [str(book)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)


def case(action: str, role: str, wrong: str) -> dict:
    """A block that gives a role wrong items and prints a line with what the role answered."""
    label = f"{action} {role} {wrong}"
    return {
        "block": [
            {
                f"ansible.builtin.{action}": {"name": f"hotpmem.fleet.{role}", "tasks_from": ROLES[role]},
                "vars": {f"{role}_items": WRONG[wrong][0]},
            },
            {"ansible.builtin.debug": {"msg": f"ANSWER {label}: accepted"}},
        ],
        "rescue": [{"ansible.builtin.debug": {"msg": f"ANSWER {label}: {{{{ ansible_failed_result.msg | replace('\\n', ' ') }}}}"}}],
    }


def test_include_role_and_import_role_refuse_wrong_items_before_their_first_task(tmp_path: Path) -> None:
    cases = [("include_role", role, wrong) for role in ROLES for wrong in ("unknown key", "missing path")]
    cases += [("import_role", role, "missing path") for role in ROLES]
    cases += [("include_role", "unit_guard", wrong) for wrong in ("wrong type", "no list")]
    done = play(tmp_path, {"tasks": [case(*each) for each in cases]})
    assert done.returncode == 0, done.stdout + done.stderr
    answers = dict(re.findall(r'"msg": "ANSWER ([^:]*): (.*)"', done.stdout))
    assert set(answers) == {" ".join(each) for each in cases}
    for label, answer in answers.items():
        assert answer.startswith("Validation of arguments failed"), label
        assert WRONG[label.split(" ", 2)[2]][1] in answer, label
    assert {(role, name.startswith("Validating arguments")) for role, name in TASK.findall(done.stdout)} == {("state_items", True)}


def test_the_roles_of_a_play_refuse_wrong_items_before_their_first_task(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        {
            "vars": {"hotpmem_items": WRONG["missing path"][0]},
            "roles": ["hotpmem.fleet.pre_reboot", "hotpmem.fleet.post_boot"],
        },
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "missing required arguments: path found in state_items" in done.stdout
    assert [role for role, name in TASK.findall(done.stdout)] == ["state_items"]


def test_the_role_accepts_right_items(tmp_path: Path) -> None:
    item = {"name": "cache", "path": "/srv/cache", "unit": "cache.service", "cold_start": False, "early_start": True}
    role = {"ansible.builtin.include_role": {"name": "hotpmem.fleet.state_items"}}
    done = play(tmp_path, {"tasks": [{**role, "vars": {"state_items": items}} for items in ([], [item])]})
    assert done.returncode == 0, done.stdout + done.stderr
