# SPDX-License-Identifier: GPL-3.0-or-later
"""No cycles among the files of pmem-state, and no folder that uses one above it. A change of a source file reaches its build."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from layers import MAY_USE, SOURCE, calls, cycle, files, folder, includes, merged, unit, wrong_way

ROLE_FILES = SOURCE.parent
ROOT = SOURCE.parents[3]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """What the files need of one another today."""
    return merged(includes(SOURCE), calls(SOURCE, tmp_path_factory.mktemp("objects")))


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources, to break."""
    shutil.copytree(SOURCE, tmp_path / "src")
    return tmp_path / "src"


def broken(copy, tmp_path):
    """The graph of a broken copy."""
    (tmp_path / "objects").mkdir()
    return merged(includes(copy), calls(copy, tmp_path / "objects"))


def append(path, text):
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_every_file_is_in_a_known_folder():
    assert {folder(unit(SOURCE, path)) for path in files(SOURCE)} == set(MAY_USE)


def test_no_cycle(graph):
    assert cycle(graph) == []
    assert len(graph) > 40  # it did look


def test_folders_use_lower_ones_only(graph):
    assert wrong_way(graph) == []


def test_a_cycle_by_include_is_found(copy):
    append(copy / "image" / "record.c", '#include "image/table.h"\n')  # table.c includes record.h
    found = cycle(merged(includes(copy)))
    assert "image/record.c includes image/table.h" in found and "image/table.c includes image/record.h" in found


def test_a_cycle_by_calls_is_found(copy, tmp_path):
    """Without an #include: the declaration is written out."""
    append(copy / "base" / "paths.c", "int item_fine(const void *it);\nint x(void *it);\nint x(void *it) { return item_fine(it); }\n")
    append(copy / "image" / "report.c", "int y(const char *p);\nint component_ok(const char *, size_t);\n"
           "int y(const char *p) { return component_ok(p, 1); }\n")  # fmt: skip
    edges = broken(copy, tmp_path)
    assert set(cycle(edges)) == {"base/paths.c uses item_fine of image/report.c", "image/report.c uses component_ok of base/paths.c"}
    assert wrong_way(edges) == ["base/paths.c uses item_fine of image/report.c"]


@pytest.mark.parametrize(
    ("user", "used"),
    [("base/json.c", "image/table.h"), ("image/run.c", "save/scan.h"), ("save/links.h", "restore/place.h"),
     ("init/kmsg.c", "image/record.h"), ("restore/place.c", "help.h")],
)  # fmt: skip
def test_a_folder_above_is_found(copy, user, used):
    append(copy / user, f'#include "{used}"\n')
    assert wrong_way(merged(includes(copy))) == [f"{user} includes {used}"]


def test_a_path_from_elsewhere_is_found(copy):
    append(copy / "base" / "json.c", '#include "table.h"\n')
    with pytest.raises(AssertionError, match="not a path from src"):
        includes(copy)


# `image/header.h` in a page, files/src/init/init.c and `# init/early_plan.h` in code.
MENTION = re.compile(
    r"`((?:base|image|save|restore|init)/\w+\.[ch]|(?:main|command|help)\.[ch])`"
    r"|files/src/([\w/]+\.[ch])\b"
    r"|# (\w+/\w+\.h)$",
    re.MULTILINE,
)


def test_mentioned_files_exist():
    """Pages and comments outside of the sources that name a source file."""
    found = {}
    for top in ("docs", "plugins", "roles", "mk", "tests"):
        for path in (ROOT / top).rglob("*"):
            if path.suffix in {".md", ".py", ".yml", ".sh", ".mk", ".j2"}:
                for names in MENTION.findall(path.read_text(encoding="utf-8")):
                    found.setdefault("".join(names), path.relative_to(ROOT))
    assert {"image/header.h", "init/init.c", "init/early_plan.h"} <= found.keys()
    assert {name: str(by) for name, by in found.items() if not (SOURCE / name).is_file()} == {}


COMPILER = """#!/bin/sh
# Stands in for a compiler: what it "builds" is nothing.
[ "$1" = --version ] && { echo 1.0; exit; }
while [ $# -gt 1 ]; do [ "$1" = -o ] && : >"$2" && chmod +x "$2"; shift; done
"""


def build(source: Path, to: Path, cc: Path) -> tuple[str, str]:
    """What build.sh says that it did, and where the binary is."""
    argv = ["bash", ROLE_FILES / "build.sh", source, to, "x86_64", sys.executable, cc]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    compiler, did, path = done.stdout.splitlines()
    assert compiler.startswith("compiler: ")
    assert Path(path).exists()
    bill = json.loads(Path(f"{path}.cdx.json").read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["properties"] == [{"name": "hotpmem:arch", "value": "x86_64"}]
    return did, path


def test_a_changed_file_in_a_folder_is_built_again(copy, tmp_path):
    cc, to = tmp_path / "cc", tmp_path / "build"
    cc.write_text(COMPILER)
    cc.chmod(0o755)
    did, first = build(copy, to, cc)
    assert did == "built" and build(copy, to, cc) == ("cached", first)
    for name in ("image/record.h", "init/kmsg.c", "main.c", "Makefile"):
        append(copy / name, "\n")
        did, path = build(copy, to, cc)
        assert did == "built" and path != first
        first = path
    append(copy / "README.md", "\n")
    assert build(copy, to, cc) == ("cached", first)


def test_two_builds_in_different_directories_are_the_same_bytes(tmp_path):
    sums, bills = set(), set()
    for name in ("one", "another/place"):
        shutil.copytree(ROLE_FILES / "src", tmp_path / name / "src")
        argv = ["bash", ROLE_FILES / "build.sh", tmp_path / name / "src", tmp_path / name / "out", "x86_64", sys.executable]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
        assert "ziglang" in said[0] and said[1] == "built"
        sums.add(hashlib.sha256(Path(said[2]).read_bytes()).hexdigest())
        bills.add(Path(f"{said[2]}.cdx.json").read_text(encoding="utf-8"))
    assert len(sums) == 1 and len(bills) == 1
    (bill,) = map(json.loads, bills)
    assert bill["metadata"]["component"]["hashes"][0]["content"] in sums
