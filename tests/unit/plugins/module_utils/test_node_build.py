# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packed agent: the same bytes each time, the engine's own files, nothing but the standard library, and it runs."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
UTILS = ROOT / "plugins" / "module_utils"
BUILD = ROOT / "roles" / "node_agent" / "files" / "build.py"


def build(out, *more):
    return subprocess.run([sys.executable, str(BUILD), str(UTILS), str(out), *more], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def packed(tmp_path):
    assert build(tmp_path / "hotpmem-node", sys.executable) == "built\n"
    return tmp_path / "hotpmem-node"


def test_same_bytes(packed, tmp_path):
    assert build(packed, sys.executable) == "unchanged\n"
    build(tmp_path / "again", sys.executable)
    assert packed.read_bytes() == (tmp_path / "again").read_bytes()


def test_it_is_the_engine_itself(packed):
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        engine = {name: archive.read(name) for name in names if "/module_utils/_" in name and "__init__" not in name}
    assert sorted(os.path.basename(name) for name in engine) == sorted(
        path.name for path in UTILS.glob("_*.py") if path.name != "_module.py"
    )
    assert all((UTILS / os.path.basename(name)).read_bytes() == text for name, text in engine.items())


def test_standard_library_and_syntax_of_3_8(packed):
    with zipfile.ZipFile(packed) as archive:
        for name in archive.namelist():
            tree = ast.parse(archive.read(name), feature_version=(3, 8))
            wanted = set()
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    wanted |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    wanted.add(node.module.split(".")[0])
            wanted -= {"ansible_collections", "hotpmem_node", "__future__"}
            assert all(importlib.util.find_spec(one) for one in wanted)
            assert "ansible" not in wanted, name


def test_it_runs_anywhere(packed, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('not mine')\n")
    done = subprocess.run(
        [str(packed), "--help"], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "exit status:" in done.stdout and "hot-remove" in done.stdout
