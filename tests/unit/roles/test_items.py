# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role state_items defines the keys of an item, and the roles that take items validate their lists with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playing import ROOT, evaluated, play, read, template

KEYS = {"name", "path", "unit", "cold_start", "early_start", "on_dirty_stop"}
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
# Wrong in a way that an argument spec cannot express.
REFUSED = {
    "name": ([{"name": "my cache", "path": "/srv/cache"}], "'my cache' is not a valid item name"),
    "relative path": ([{"name": "cache", "path": "srv"}], "the path of the item cache is not absolute: srv"),
    "unit": ([{"name": "cache", "path": "/srv/cache", "unit": "cache@.service"}], "cache@.service, is a template"),
}
ODD = [
    {"name": "null", "path": "/srv/null", "unit": None},
    {"name": "empty", "path": "/srv/empty", "unit": ""},
    {"name": "none", "path": "/srv/none", "cold_start": "false"},
    {"name": "short", "path": "/srv/short", "unit": "memcached", "cold_start": "no", "early_start": "1"},
    {"name": "warm", "path": "/srv/warm", "unit": "warm.socket", "cold_start": "true", "early_start": "off"},
]
TASK = re.compile(r"^TASK \[hotpmem\.fleet\.(\w+) : (.*)\]", re.MULTILINE)


def keys_of_an_item(node: object) -> list[set[str]]:
    """All sets of options in an argument spec that contain a key of an item. A path alone belongs to many things."""
    if not isinstance(node, dict):
        return []
    options = node.get("options")
    mine = [set(options)] if isinstance(options, dict) and (KEYS - {"path"}) & set(options) else []
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


def case(action: str, role: str, wrong: str) -> dict:
    """A block that gives a role wrong items and prints a line with what the role answered."""
    label = f"{action} {role} {wrong}"
    return {
        "block": [
            {
                f"ansible.builtin.{action}": {"name": f"hotpmem.fleet.{role}", "tasks_from": ROLES[role]},
                "vars": {f"{role}_items": {**WRONG, **REFUSED}[wrong][0]},
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


def test_the_filter_refuses_wrong_items_before_the_first_task_of_a_role(tmp_path: Path) -> None:
    cases = [("include_role", role, wrong) for role in ROLES for wrong in REFUSED]
    done = play(tmp_path, {"tasks": [case(*each) for each in cases]})
    assert done.returncode == 0, done.stdout + done.stderr
    answers = dict(re.findall(r'"msg": "ANSWER ([^:]*): (.*)"', done.stdout))
    assert set(answers) == {" ".join(each) for each in cases}
    for label, answer in answers.items():
        assert REFUSED[label.split(" ", 2)[2]][1] in answer, label
    assert {role for role, _name in TASK.findall(done.stdout)} == {"state_items"}


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


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("role", ["unit_guard", "node_agent"])
def test_no_unit_is_the_same_as_an_empty_unit_and_a_short_name_is_a_service(tmp_path: Path, role: str) -> None:
    names = {"unit_guard": "unit_guard_dropins", "node_agent": "node_agent_set_names"}
    (answer,) = evaluated(tmp_path, role, [{f"{role}_items": ODD}], {"units": "{{ %s_units }}" % role, "names": "{{ %s }}" % names[role]})
    assert answer["units"] == ["memcached.service", "warm.socket"]
    of_guard = [f"/etc/systemd/system/{unit}.d/50-hotpmem-pending.conf" for unit in answer["units"]]
    assert answer["names"] == (of_guard if role == "unit_guard" else answer["units"])


def test_the_cold_start_starts_the_units_only(tmp_path: Path) -> None:
    cases = [{"unit_guard_items": ODD}, {"unit_guard_items": ODD[:3]}]
    full, none = evaluated(tmp_path, "unit_guard", cases, {"text": template("unit_guard", "hotpmem-cold-start.service")})
    assert next(line for line in full["text"].splitlines() if "systemctl" in line).endswith("-- memcached.service warm.socket")
    assert "systemctl" not in none["text"]


def test_the_agent_gets_booleans_and_full_names(tmp_path: Path) -> None:
    (answer,) = evaluated(
        tmp_path,
        "node_agent",
        [{"node_agent_items": ODD, "item": "{{ node_agent_named | first }}"}],
        {name: template("node_agent", name) for name in ("hold.conf", "units.conf", "node.json", "dropin.conf")}
        | {"not_early": "{{ node_agent_not_early }}", "set": "{{ node_agent_set_names }}"},
    )
    assert lines(answer["hold.conf"]) == ["none", "short"]
    assert lines(answer["units.conf"]) == ["short memcached.service", "warm warm.socket"]
    assert [(item["unit"], item["cold_start"]) for item in json.loads(answer["node.json"])["items"]] == [
        ("", True), ("", True), ("", False), ("memcached.service", False), ("warm.socket", True),
    ]  # fmt: skip
    assert "DefaultDependencies=no" in lines(answer["dropin.conf"])
    assert "ConditionPathExists=!/run/hotpmem/hold/short" in lines(answer["dropin.conf"])
    assert answer["not_early"] == []
    # What the host does not answer, because the agent is not installed yet, is taken from the inventory.
    assert answer["set"] == ["memcached.service", "warm.socket"]


def test_the_drop_ins_are_those_of_the_units_that_the_host_names(tmp_path: Path) -> None:
    units = [{"name": name, "kept": [], "named": [], "parts": []} for name in (r"a@b\x2dc.service", "a.socket")]
    case = {"node_agent_items": ODD, "node_agent_found": {"stdout": json.dumps({"units": units})}}
    (answer,) = evaluated(tmp_path, "node_agent", [case], {"names": "{{ node_agent_set_names }}"})
    assert answer["names"] == [r"a@b\x2dc.service", "a.socket"]


def test_the_helper_gets_the_checked_items(tmp_path: Path) -> None:
    (answer,) = evaluated(tmp_path, "state_helper", [{"state_helper_items": ODD[:2]}], {"text": template("state_helper", "items.conf")})
    assert lines(answer["text"]) == ["null=/srv/null", "empty=/srv/empty"]
