# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tarball of the collection contains, and what ansible-builder makes of it."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ENTRIES = {
    "CHANGELOG.rst",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "COPYING",
    "FILES.json",
    "LICENSES",
    "MANIFEST.json",
    "README.md",
    "REUSE.toml",
    "SECURITY.md",
    "changelogs",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
# What work leaves behind in a checkout.
DIRT = [
    ".venv/bin/python",
    ".cache/x",
    ".idea/x",
    ".mypy_cache/x",
    "build/x86_64/pmem-state",
    "dist/x.tar.gz",
    "hotpmem-report.html",
    "ansible.log",
    "__pycache__/a.pyc",
    "build/x86_64/pmem-state.sha256",
    "hotpmem-fleet-0.0.9.tar.gz",
    "plugins/modules/__pycache__/a.pyc",
    "plugins/.coverage",
    "roles/state_helper/files/src/.clangd/x",
    "extensions/molecule/e820/node1.log",
    "tests/output/x",
    "tests/helper/corpus/x",
]


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a dirty copy of the checkout, as `ansible-galaxy collection install CHECKOUT` does."""
    copy = tmp_path_factory.mktemp("dirty")
    for name in subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")[:-1]:
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for name in DIRT:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("dirt", encoding="utf-8")
    out = tmp_path_factory.mktemp("out")
    build = [BIN / "ansible-galaxy", "collection", "build", "--output-path", out, copy]
    subprocess.run(build, check=True, capture_output=True, env={**os.environ, "ANSIBLE_HOME": str(out / "home")})
    (found,) = out.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parent of ansible_collections/, with the content of the tarball."""
    where = tmp_path_factory.mktemp("installed")
    target = where / "ansible_collections/hotpmem/fleet"
    target.mkdir(parents=True)
    with tarfile.open(tarball) as archive:
        archive.extractall(target, filter="data")
    return where


def test_the_tarball_contains_the_collection_and_no_more(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        files = [entry.name for entry in archive.getmembers() if entry.isfile()]
    assert {name.split("/")[0] for name in files} <= ENTRIES
    assert not set(DIRT) & set(files)
    hidden = [name for name in files if re.search(r"(^|/)(\.|__pycache__)|\.pyc$|^changelogs/fragments/", name)]
    assert not hidden
    shipped = {
        "plugins/modules/pmem_info.py",
        "roles/state_helper/files/src/main.c",
        "playbooks/templates/report.html.j2",
        "meta/runtime.yml",
    }
    assert shipped <= set(files)


def test_each_pattern_of_the_deny_list_leaves_something_out() -> None:
    """A pattern that matches nothing is a mistake, or a leftover."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {str(place) for name in (*listed, *DIRT) for place in (Path(name), *Path(name).parents)} - {"."}
    patterns = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["build_ignore"]
    assert [pattern for pattern in patterns if not fnmatch.filter(names, pattern)] == []


def test_a_page_of_the_tarball_links_only_to_what_is_in_it(installed: Path) -> None:
    """Except to three pages about the tests, which the README says are in the repository."""
    root = installed / "ansible_collections/hotpmem/fleet"
    targets, missing = 0, set()
    for page in root.rglob("*.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            targets += 1
            path = Path(os.path.normpath(page.parent / target))
            missing |= set() if path.exists() else {str(path.relative_to(root))}
    assert targets > 200
    assert missing == {"extensions/molecule/README.md", "tests/lab/README.md", "tests/lab/measurements.md"}
    assert "only in the repository" in (root / "README.md").read_text(encoding="utf-8")


def test_an_execution_environment_gets_the_compiler_and_make(installed: Path) -> None:
    done = subprocess.run([BIN / "ansible-builder", "introspect", installed], capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    pinned = (ROOT / "meta/ee-requirements.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert [line.split("#")[0].strip() for line in found["python"]] == [pinned]
    assert [line.split("#")[0].strip() for line in found["system"]] == ["make [platform:dpkg]", "make [platform:rpm]"]


def test_the_documented_execution_environment_can_be_created(tarball: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs/execution-environment.md").read_text(encoding="utf-8")
    (definition,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "execution-environment.yml").write_text(definition, encoding="utf-8")
    shutil.copy2(tarball, tmp_path)
    argv = [BIN / "ansible-builder", "create", "--file", "execution-environment.yml", "--context", "context"]
    subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    (recipe,) = (path for name in ("Containerfile", "Dockerfile") if (path := tmp_path / "context" / name).exists())
    # As the build does it, in the directory that the recipe copies and enters.
    assert "COPY _build /build\nWORKDIR /build\n" in recipe.read_text(encoding="utf-8")
    install = [BIN / "ansible-galaxy", "collection", "install", "--offline", "-r", "requirements.yml", "--collections-path", tmp_path / "c"]
    env = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "home")}
    subprocess.run(install, cwd=tmp_path / "context/_build", env=env, capture_output=True, text=True, check=True)
    assert (tmp_path / "c/ansible_collections/hotpmem/fleet/MANIFEST.json").exists()
    core = yaml.safe_load(definition)["dependencies"]["ansible_core"]["package_pip"]
    lowest = (
        yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"].removeprefix(">=").removesuffix(".0")
    )
    assert f">={lowest}" in core


def test_every_place_names_the_tested_version_of_the_compiler() -> None:
    names = [
        "meta/ee-requirements.txt",
        "README.md",
        "docs/operators.md",
        "roles/state_helper/README.md",
        "roles/state_helper/files/build.sh",
        "roles/state_helper/tasks/main.yml",
        "tests/requirements/dev.in",
    ]
    found = {name: set(re.findall(r"ziglang==([\w.]+)", (ROOT / name).read_text(encoding="utf-8"))) for name in names}
    assert len(set.union(*found.values())) == 1 and all(found.values()), found
