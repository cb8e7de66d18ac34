# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host_files, run as Ansible runs it, on files of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the module gives files to root")


@pytest.fixture
def call(call_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    return partial(call_module, "host_files")


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_it_installs_what_is_missing_once(tmp_path: Path, call: Callable[..., dict[str, Any]]) -> None:
    one, two = tmp_path / "a/secret", tmp_path / "b/c/plain"
    options = {
        "directories": [{"path": str(tmp_path / "a"), "mode": "0700"}],
        "files": [{"path": str(one), "content": "x\n", "mode": "0600"}, {"path": str(two), "content": "\u00e9\n"}],
    }
    foreseen = call(check=True, **options)
    assert foreseen["changed"] and not list(tmp_path.iterdir())
    done = call(**options)
    assert done["installed"] == foreseen["installed"] == [str(one), str(two)]
    assert one.read_text() == "x\n" and two.read_text() == "\u00e9\n"
    assert (mode(one), mode(two), mode(tmp_path / "a"), mode(tmp_path / "b/c")) == ("0o600", "0o644", "0o700", "0o755")
    again = call(**options)
    assert not again["changed"] and again["installed"] == [] and again["diff"] == []


def test_it_replaces_what_differs_and_shows_it(tmp_path: Path, call: Callable[..., dict[str, Any]]) -> None:
    path = tmp_path / "file"
    path.write_text("old\n")
    path.chmod(0o666)
    options = {"files": [{"path": str(path), "content": "new\n"}]}
    foreseen = call(check=True, **options)
    assert path.read_text() == "old\n" and mode(path) == "0o666"
    done = call(**options)
    assert done["diff"] == foreseen["diff"]
    assert (done["diff"][0]["before"], done["diff"][0]["after"]) == ("old\n", "new\n")
    assert path.read_text() == "new\n" and mode(path) == "0o644"
    path.chmod(0o600)
    assert call(**options)["changed"] and mode(path) == "0o644"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path, call: Callable[..., dict[str, Any]]) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text("theirs\n")
    link.symlink_to(other)
    assert call(files=[{"path": str(link), "content": "ours\n"}])["changed"]
    assert not link.is_symlink() and link.read_text() == "ours\n" and other.read_text() == "theirs\n"


def test_prune_takes_away_what_is_named_no_more(tmp_path: Path, call: Callable[..., dict[str, Any]]) -> None:
    kept, left, other = (tmp_path / name for name in ("a.d/60-x.conf", "b.d/60-x.conf", "b.d/mine.conf"))
    for path in (kept, left, other):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x\n")
    options = {"files": [{"path": str(kept), "content": "x\n"}], "prune": [str(tmp_path / "*.d/60-x.conf")]}
    assert call(check=True, **options)["removed"] == [str(left)] and left.exists()
    assert call(**options)["removed"] == [str(left)]
    assert kept.exists() and other.exists() and not left.exists()
    assert not call(**options)["changed"]


def test_nothing_is_written_when_one_file_cannot_be(tmp_path: Path, call: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "directory").mkdir()
    done = call(files=[{"path": str(tmp_path / name), "content": "x\n"} for name in ("good", "directory")])
    assert done["failed"] and f"Cannot compare {tmp_path}/directory: it is not a file." in done["msg"]
    assert not (tmp_path / "good").exists()


def test_prune_removes_no_directory(tmp_path: Path, call: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "x.d").mkdir()
    done = call(files=[{"path": str(tmp_path / "good"), "content": "x\n"}], prune=[str(tmp_path / "*.d")])
    assert done["failed"] and f"Cannot remove {tmp_path}/x.d: it is a directory." in done["msg"]
    assert (tmp_path / "x.d").is_dir() and not (tmp_path / "good").exists()
