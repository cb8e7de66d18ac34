# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module and filter has its own documentation, with what a reader expects on every page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py") if not path.name.startswith("_"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What `ansible-doc` shows, by kind and name."""
    where = tmp_path_factory.mktemp("collections")
    (where / "ansible_collections/hotpmem").mkdir(parents=True)
    (where / "ansible_collections/hotpmem/fleet").symlink_to(ROOT)
    (where / "ansible.cfg").write_text("", encoding="utf-8")
    argv = [Path(sys.executable).parent / "ansible-doc", "--metadata-dump", "--no-fail-on-errors", "hotpmem.fleet"]
    env = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(where),
        "ANSIBLE_CONFIG": str(where / "ansible.cfg"),
        "ANSIBLE_HOME": str(where / "home"),
    }
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["all"]


def syntax_check(where: Path, plays: list[dict]) -> str:
    """What ansible-playbook says about plays that are wrong."""
    (where / "plays.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    argv = [Path(sys.executable).parent / "ansible-playbook", "--inventory", "node1,", "--syntax-check", "plays.yml"]
    collections = Path(sys.executable).parents[1] / "collections"
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(collections)}
    done = subprocess.run(argv, cwd=where, env=env, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_each_filter_shows_its_own_text(pages: dict) -> None:
    named = set()
    for path in (ROOT / "plugins/filter").glob("*.py"):
        named.update(re.findall(r'"(\w+)":', path.read_text(encoding="utf-8").split("def filters(self)")[1]))
    shown = {name.rsplit(".", 1)[1]: page["doc"]["name"] for name, page in pages["filter"].items()}
    assert shown == {name: name for name in named}


@pytest.mark.parametrize("kind", ["filter", "module"])
def test_no_two_pages_begin_with_the_same_text(pages: dict, kind: str) -> None:
    descriptions = [page["doc"]["short_description"] for page in pages[kind].values()]
    assert len(set(descriptions)) == len(descriptions) > 10


def test_each_example_passes_the_syntax_check(pages: dict, tmp_path: Path) -> None:
    plays = []
    for name, page in [*pages["filter"].items(), *pages["module"].items()]:
        data = yaml.safe_load(page["examples"])
        assert isinstance(data, list), f"the example of {name} is neither tasks nor plays"
        plays += data if all("hosts" in one for one in data) else [{"name": name, "hosts": "all", "tasks": data}]
    assert syntax_check(tmp_path, plays) == ""
    assert "no_such_module" in syntax_check(tmp_path, [{"hosts": "all", "tasks": [{"hotpmem.fleet.no_such_module": {}}]}])


@pytest.mark.parametrize("name", MODULES)
def test_each_module_says_since_when_it_exists_and_what_belongs_to_it(pages: dict, name: str) -> None:
    doc = pages["module"][f"hotpmem.fleet.{name}"]["doc"]
    assert doc.get("version_added") and doc["version_added"] != "historical", "version_added is missing"
    assert doc.get("seealso"), "seealso is missing"
    known = {f"hotpmem.fleet.{other}" for other in MODULES}
    others = [one["module"] for one in doc["seealso"] if one.get("module", "").startswith("hotpmem.")]
    assert set(others) <= known - {f"hotpmem.fleet.{name}"}


def test_the_action_groups_have_every_module_and_all_with_an_option(pages: dict) -> None:
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]
    options = {name: pages["module"][f"hotpmem.fleet.{name}"]["doc"].get("options", {}) for name in MODULES}
    wanted = {option: [name for name in MODULES if option in options[name]] for option in groups if option != "all"}
    assert groups == {**wanted, "all": MODULES} and wanted.keys() == {"namespace", "run"}
