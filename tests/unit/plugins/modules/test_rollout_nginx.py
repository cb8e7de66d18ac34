# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module rollout_nginx does to the file. tests/fleet/test_real_nginx.py has a real nginx."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BEFORE = b"# Windows wrote this\r\nserver 10.0.0.1:80 weight=2;\r\nserver 10.0.0.2:80;\r\n"
DRAINED = BEFORE.replace(b"weight=2;", b"weight=2 down; # drained by hotpmem.fleet")
Call = Callable[..., dict[str, Any]]


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A file of somebody else, below a link."""
    path = tmp_path / "app.conf"
    path.write_bytes(BEFORE)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 33, 34)
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    (tmp_path / "enabled").mkdir()
    (tmp_path / "enabled/app.conf").symlink_to(path)
    return path


def drain(call_module: Call, path: Path, **more: Any) -> dict[str, Any]:
    options = {"state": "drained", "server": "10.0.0.1:80", "file": str(path.parent / "enabled/app.conf"), "timeout": 0}
    programs = {"test": ["true"], "reload": ["true"], "pid_file": str(path.parent / "pid"), "on_timeout": "continue"}
    return call_module("rollout_nginx", **{**options, **programs, **more})


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_nothing_but_the_mark_changes(call_module: Call, upstream: Path) -> None:
    before, names = owner_and_mode(upstream), sorted(upstream.parent.iterdir())
    assert drain(call_module, upstream)["changed"]
    assert upstream.read_bytes() == DRAINED and owner_and_mode(upstream) == before
    assert (upstream.parent / "enabled/app.conf").is_symlink()
    assert drain(call_module, upstream, state="ready")["changed"]
    assert upstream.read_bytes() == BEFORE and owner_and_mode(upstream) == before
    assert sorted(upstream.parent.iterdir()) == names


@pytest.mark.parametrize("command", ["test", "reload"])
def test_the_file_is_put_back_byte_for_byte(call_module: Call, upstream: Path, command: str) -> None:
    before = owner_and_mode(upstream)
    done = drain(call_module, upstream, **{command: ["false"]})
    assert done["failed"] and "The file was put back as it was" in done["msg"]
    assert upstream.read_bytes() == BEFORE and owner_and_mode(upstream) == before
