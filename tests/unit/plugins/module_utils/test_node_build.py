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
FILES = ROOT / "roles" / "node_agent" / "files"
BUILD, PRECOMPILE = FILES / "build.py", FILES / "precompile.py"
# Runs the agent where compiling a source that came out of the archive is an error.
NO_COMPILING = """
import runpy, sys, zipimport
zipimport._compile_source = None
sys.argv = [sys.argv[1], "--version"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def build(out, *more):
    return subprocess.run([sys.executable, str(BUILD), str(UTILS), str(out), *more], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def packed(tmp_path):
    assert build(tmp_path / "hotpmem-node", sys.executable) == "built\n"
    return tmp_path / "hotpmem-node"


@pytest.fixture
def precompile(packed, tmp_path):
    """A run of precompile.py: what it prints. The agent is in its place afterwards, as tmp_path/sbin/hotpmem-node."""
    (tmp_path / "sbin").mkdir()
    words = [sys.executable, "-I", str(PRECOMPILE), str(packed), str(tmp_path / "sbin" / "hotpmem-node")]
    return lambda how="--act": subprocess.run([*words, how], check=True, capture_output=True, text=True).stdout


def test_same_bytes(packed, tmp_path):
    assert build(packed, sys.executable) == "unchanged\n"
    build(tmp_path / "again", sys.executable)
    assert packed.read_bytes() == (tmp_path / "again").read_bytes()


def test_it_is_the_engine_itself(packed):
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        engine = {name.split("/module_utils/")[1]: archive.read(name) for name in names if "/module_utils/_" in name}
    del engine["__init__.py"]
    assert engine == {str(path.relative_to(UTILS)): path.read_bytes() for path in UTILS.rglob("*.py") if path.name != "_module.py"}


def test_standard_library_and_syntax_of_3_8(packed):
    with zipfile.ZipFile(packed) as archive:
        sources = {name: archive.read(name) for name in archive.namelist()}
    sources[PRECOMPILE.name] = PRECOMPILE.read_bytes()
    for name, source in sources.items():
        wanted = set()
        for node in ast.walk(ast.parse(source, feature_version=(3, 8))):
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


def test_on_the_host_nothing_is_compiled_at_a_start(packed, precompile, tmp_path):
    assert precompile() == "built\n"
    agent = tmp_path / "sbin" / "hotpmem-node"

    def starts(path):
        return subprocess.run([sys.executable, "-I", "-c", NO_COMPILING, str(path)], capture_output=True, text=True, check=False)

    assert starts(agent).stdout.startswith("hotpmem-node ")
    assert "NoneType" in starts(packed).stderr  # so the packed sources alone are compiled
    assert subprocess.run([str(agent), "--version"], capture_output=True, text=True, check=True).stdout == starts(agent).stdout
    with zipfile.ZipFile(packed) as sources, zipfile.ZipFile(agent) as archive:
        assert all(archive.read(name) == sources.read(name) for name in sources.namelist())


def test_another_python_takes_the_sources(packed, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("precompile", PRECOMPILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(importlib.util, "MAGIC_NUMBER", b"\x01\x02\r\n")
    agent = tmp_path / "agent"
    agent.write_bytes(module.extend(packed.read_bytes(), str(agent)))
    monkeypatch.undo()
    done = subprocess.run([sys.executable, "-I", str(agent), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hotpmem-node ")


def test_it_is_built_when_it_has_to_be(packed, precompile, tmp_path):
    agent = tmp_path / "sbin" / "hotpmem-node"
    assert precompile("--check") == "built\n" and not agent.exists()
    assert [precompile(), precompile(), precompile("--check")] == ["built\n", "unchanged\n", "unchanged\n"]
    assert agent.stat().st_mode & 0o7777 == 0o755
    for change in (
        lambda: agent.chmod(0o775),
        lambda: agent.write_bytes(agent.read_bytes() + b" "),
        agent.unlink,
        lambda: packed.write_bytes(packed.read_bytes().replace(b" -I\n", b" -Es\n", 1)),
        (tmp_path / "hotpmem-node.built").unlink,
    ):
        change()
        assert [precompile("--check"), precompile(), precompile()] == ["built\n", "built\n", "unchanged\n"]
    assert agent.read_bytes().startswith(b"#!%s -Es\n" % os.fsencode(sys.executable))
