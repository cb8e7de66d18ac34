# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes `pytest tests/unit` from a checkout and `ansible-test units` see the same modules, and lends captured machines.

fixtures/NAME.json holds what the engine reads on a real machine (files, links, directories below its root) and what commands
printed there; NAME begins with the kernel's version. tests/lab/capture.py writes it.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import types
from pathlib import Path
from typing import Callable

import pytest

HERE = Path(__file__).resolve().parent


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


def _capture(name: str) -> dict:
    return json.loads((HERE / "fixtures" / f"{name}.json").read_text(encoding="utf-8"))


def _lay_out(name: str, root: Path) -> str:
    """Write a captured machine's files below `root`."""
    machine = _capture(name)
    for path in machine["directories"]:
        (root / path).mkdir(parents=True, exist_ok=True)
    for path, text in machine["files"].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    for path, target in machine["links"].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    return str(root)


@pytest.fixture(scope="session")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The root of a captured machine, to read only."""
    return functools.cache(lambda name: _lay_out(name, tmp_path_factory.mktemp(name)))


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[str], str]:
    """A copy of a captured machine's root that may be written."""
    return lambda name: _lay_out(name, tmp_path / name)


@pytest.fixture
def printed() -> Callable[[str, str], dict]:
    """What a command printed on a captured machine: argv, rc, stdout, stderr."""
    return lambda name, command: _capture(name)["commands"][command]
