# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes `pytest tests/unit` from a checkout and `ansible-test units` see the same modules, and lends captured machines.

fixtures/NAME/root holds what the engine reads on a real machine, fixtures/NAME/cmd what commands printed there; NAME begins
with the kernel's version. Both come from tests/lab/capture.py.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import types
from pathlib import Path
from typing import Callable

import pytest

HERE = Path(__file__).resolve().parent

# Trees of /sys: their links run in circles.
collect_ignore = ["fixtures"]


def _provide_collection() -> None:
    """Put the checkout where imports expect a collection, unless ansible-test has done so."""
    try:
        importlib.import_module("ansible_collections.hotpmem.fleet")
    except ImportError:
        for name, path in (
            ("ansible_collections", []),
            ("ansible_collections.hotpmem", []),
            ("ansible_collections.hotpmem.fleet", [str(HERE.parent.parent)]),
        ):
            module = sys.modules.setdefault(name, types.ModuleType(name))
            module.__path__ = path + list(getattr(module, "__path__", []))


_provide_collection()


@pytest.fixture
def captured() -> Callable[[str], str]:
    """The root of a captured machine, to read only."""

    def root(name: str) -> str:
        return str(HERE / "fixtures" / name / "root")

    return root


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[str], str]:
    """A copy of a captured machine's root that may be written."""

    def copy(name: str) -> str:
        target = tmp_path / name
        shutil.copytree(HERE / "fixtures" / name / "root", target, symlinks=True)
        return str(target)

    return copy


@pytest.fixture
def printed() -> Callable[[str, str], dict]:
    """What a command printed on a captured machine: argv, rc, stdout, stderr."""

    def load(name: str, command: str) -> dict:
        return json.loads((HERE / "fixtures" / name / "cmd" / f"{command}.json").read_text(encoding="utf-8"))

    return load
