# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bill of materials of pmem-state names what goes into it, and nothing that differs from build to build."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "roles/state_helper/files/src"
ZIG = f"{sys.executable} -m ziglang cc -target x86_64-linux-musl"


def bill(source: Path, binary: Path, command: str) -> dict[str, Any]:
    """What sbom.py writes."""
    argv = [sys.executable, source / "sbom.py", source, binary, "x86_64", command, "a compiler 1.0"]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Something with a digest."""
    path = tmp_path / "pmem-state"
    path.write_bytes(b"a program")
    return path


def test_each_file_that_make_reads_is_named_with_its_digest(binary: Path) -> None:
    made = bill(SOURCE, binary, ZIG)
    hashes = {part["name"]: part["hashes"][0]["content"] for part in made["components"] if part["type"] == "file"}
    # make says itself which files it depends on.
    database = subprocess.run(["make", "-C", SOURCE, "-pqn", f"OUT={binary.parent}"], capture_output=True, text=True, check=False).stdout
    (needed,) = re.findall(rf"^{re.escape(str(binary))}: (.*)$", database, re.MULTILINE)
    assert {str(SOURCE / name) for name in hashes} == set(needed.split())
    assert hashes == {name: hashlib.sha256((SOURCE / name).read_bytes()).hexdigest() for name in hashes}
    assert made["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"a program").hexdigest()}]
    assert set(made["dependencies"][0]["dependsOn"]) == {part["bom-ref"] for part in made["components"]}


def test_the_compiler_is_the_pinned_one(binary: Path) -> None:
    pinned = re.search(r"^ziglang==(\S+)$", (ROOT / "tests/requirements/dev.in").read_text(encoding="utf-8"), re.MULTILINE)
    made = bill(SOURCE, binary, ZIG)
    (compiler,) = made["metadata"]["tools"]["components"]
    assert pinned and compiler["purl"] == f"pkg:pypi/ziglang@{pinned[1]}"
    (library,) = (part for part in made["components"] if part["type"] == "library")
    assert library["name"] == "musl" and re.fullmatch(r"1\.\d+\.\d+", library["version"])


def test_another_compiler_is_named_as_it_names_itself(binary: Path) -> None:
    made = bill(SOURCE, binary, "aarch64-linux-gnu-gcc")
    (compiler,) = made["metadata"]["tools"]["components"]
    assert (compiler["version"], compiler["description"]) == ("a compiler 1.0", "aarch64-linux-gnu-gcc")


def test_the_same_build_has_the_same_bill(binary: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(SOURCE, copy)
    assert bill(SOURCE, binary, ZIG) == bill(copy, binary, ZIG)
    with open(copy / "main.c", "a", encoding="utf-8") as file:
        file.write("\n")
    changed = bill(copy, binary, ZIG)
    assert changed["serialNumber"] != bill(SOURCE, binary, ZIG)["serialNumber"]
