# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module as Ansible runs it, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[4]
# The arguments of a module are one JSON text on standard input when it is run by hand.
RUN = "import sys, importlib; importlib.import_module(sys.argv.pop()).main()"


@pytest.fixture(scope="session")
def call_module(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """A function that runs a module of this checkout, and returns its result."""
    # A collections path with this checkout: neither the newest core's environment nor ansible-test has one of its own.
    path = tmp_path_factory.mktemp("collections")
    (path / "ansible_collections/hotpmem").mkdir(parents=True)
    (path / "ansible_collections/hotpmem/fleet").symlink_to(TOP)
    environment = {**os.environ, "PYTHONPATH": str(path)}

    def call(name: str, check: bool = False, **options: Any) -> dict[str, Any]:
        text = json.dumps({"ANSIBLE_MODULE_ARGS": {**options, "_ansible_check_mode": check, "_ansible_diff": True}})
        command = [sys.executable, "-c", RUN, f"ansible_collections.hotpmem.fleet.plugins.modules.{name}"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60, env=environment)
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))

    return call
