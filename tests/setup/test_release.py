# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is built only from a tagged commit with its notes and with public addresses, and the notes are in the tree."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
FIELDS = ("repository", "documentation", "homepage", "issues")


def git(tree: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *words], cwd=tree, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A new repository with the files of this checkout, and the program that builds the tarball."""
    copy = tmp_path / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split("\0")[:-1]:
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    git(tmp_path, "init", "--quiet", "tree")
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "-m", "all")
    return copy


def release(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["tests/setup/release.sh"], cwd=tree, capture_output=True, text=True, check=False)


def test_a_tree_that_is_not_a_release_is_refused_with_every_reason(tree: Path) -> None:
    galaxy = tree / "galaxy.yml"
    galaxy.write_text(galaxy.read_text(encoding="utf-8").replace(f"version: {VERSION}", "version: 9.9.9"), encoding="utf-8")
    (tree / "plugins/modules/new_module.py").write_text("", encoding="utf-8")
    (tree / "changelogs/fragments/a.yml").write_text("---\ntrivial:\n  - A.\n", encoding="utf-8")
    git(tree, "add", "--all")
    done = release(tree)
    assert done.returncode == 1 and not (tree / "build/release").exists()
    said = done.stderr
    assert "CHANGELOG.rst lacks the module new_module" in said
    assert "CHANGELOG.rst has no notes for 9.9.9" in said and "changelogs/fragments has notes" in said
    assert "work tree has changes" in said and "does not have the tag v9.9.9" in said


def test_a_release_is_built_from_the_tagged_commit(tree: Path) -> None:
    galaxy = tree / "galaxy.yml"
    lines = [line for line in galaxy.read_text(encoding="utf-8").splitlines() if not line.startswith(FIELDS)]
    public = [f"{field}: https://fleet.example/{field}" for field in FIELDS]
    galaxy.write_text("\n".join([*lines, *public, ""]), encoding="utf-8")
    for path in (tree / "changelogs/fragments").glob("*.yml"):  # what came after the last notes
        path.unlink()
    git(tree, "commit", "--quiet", "-am", "release")
    git(tree, "tag", f"v{VERSION}")
    done = release(tree)
    assert done.returncode == 0, done.stderr
    tarball = tree / f"build/release/hotpmem-fleet-{VERSION}.tar.gz"
    assert f"ansible-galaxy collection publish {tarball}" in done.stdout
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tarball.parent, check=True)
    with tarfile.open(tarball) as archive:
        names = set(archive.getnames())
    assert {"CHANGELOG.rst", "changelogs/changelog.yaml"} <= names and "galaxy.yml" not in names


def test_the_placeholder_is_refused(tree: Path) -> None:
    galaxy = tree / "galaxy.yml"
    lines = [line for line in galaxy.read_text(encoding="utf-8").splitlines() if not line.startswith(FIELDS)]
    galaxy.write_text("\n".join([*lines, "repository: https://example.invalid/hotpmem/fleet", ""]), encoding="utf-8")
    said = release(tree).stderr
    assert [field for field in FIELDS if f"galaxy.yml has no public address for {field}" in said] == list(FIELDS)


def test_this_version_has_notes_with_the_rules_for_versions() -> None:
    notes = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text(encoding="utf-8"))["releases"]["0.1.0"]
    summary = notes["changes"]["release_summary"]
    assert "semantic versioning" in summary and "format version" in summary and notes["release_date"]
    text = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert "semantic versioning" in text


def test_the_readme_installs_this_version() -> None:
    assert f"ansible-galaxy collection install hotpmem-fleet-{VERSION}.tar.gz\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_programs_have_the_version_of_the_collection() -> None:
    header = (ROOT / "roles/state_helper/files/src/base/status.h").read_text(encoding="utf-8")
    assert f'#define PMEM_STATE_VERSION "{VERSION}"' in header
    assert f'VERSION = "hotpmem-node {VERSION}"' in (ROOT / "roles/node_agent/files/hotpmem_node/cli.py").read_text(encoding="utf-8")
