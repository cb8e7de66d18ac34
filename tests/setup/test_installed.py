# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection, installed from its tarball beside nothing else, is complete: every playbook, module and filter loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty venv and an empty collections path, with the tarball."""
    place = tmp_path_factory.mktemp("user") / "installed"
    done = subprocess.run([ROOT / "tests/setup/installed.sh", sys.executable, place], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    return place


def run(where: Path, *argv: str) -> str:
    """Run a program of the venv; return its standard output."""
    done = subprocess.run([where / "ansible", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_leads_back_to_the_checkout(where: Path) -> None:
    listed = json.loads(run(where, "ansible-galaxy", "collection", "list", "--format", "json"))
    # ansible-core lists its own collection too.
    own = {place: found for place, found in listed.items() if "hotpmem.fleet" in found}
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert own == {f"{where}/collections/ansible_collections": {"hotpmem.fleet": {"version": version}}}
    leading = [path for path in (where / "collections").rglob("*") if ROOT in path.resolve().parents]
    assert leading == []


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_each_playbook_is_found_by_its_name(where: Path, name: str) -> None:
    said = run(where, "ansible-playbook", "--inventory", "node1,", "--syntax-check", f"hotpmem.fleet.{name}")
    assert f"playbook: {where}/collections/ansible_collections/hotpmem/fleet/playbooks/{name}.yml" in said.replace("//", "/")


def test_every_page_is_there(where: Path) -> None:
    said = json.loads(run(where, "ansible-doc", "--metadata-dump", "--no-fail-on-errors", "hotpmem.fleet"))["all"]
    faults = [name for kind in said.values() for name, page in kind.items() if "error" in page]
    assert faults == []
    assert len(said["module"]) == len(list((ROOT / "plugins/modules").glob("[a-z]*.py")))
