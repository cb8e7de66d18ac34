# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.replace_file import replace_file


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sync", [False, True])
def test_it_replaces_and_leaves_nothing_else(tmp_path, sync, shared):
    path = tmp_path / "file"
    old = os.umask(0o077)
    try:
        for mode, text in ((0o644, "one\r\n"), (0o600, "\udcff two")):
            replace_file(str(path), text, mode, sync=sync, shared=shared)
            assert path.read_bytes() == text.encode(errors="surrogateescape") and stat.S_IMODE(path.stat().st_mode) == mode
            assert os.listdir(tmp_path) == ["file"]
    finally:
        os.umask(old)


def test_what_a_kill_has_left_is_used_again(tmp_path):
    (tmp_path / "file.new").write_text("longer than what comes now")
    replace_file(str(tmp_path / "file"), "x")
    assert (tmp_path / "file").read_text() == "x" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_link_of_somebody_else_is_not_followed(tmp_path, shared):
    (tmp_path / "theirs").write_text("theirs")
    for name in ("file", "file.new"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    if shared:
        replace_file(str(tmp_path / "file"), "ours", shared=True)
        assert not (tmp_path / "file").is_symlink() and (tmp_path / "file").read_text() == "ours"
    else:
        with pytest.raises(OSError):
            replace_file(str(tmp_path / "file"), "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.parametrize("shared", [False, True])
def test_a_failure_leaves_the_old_file(tmp_path, shared):
    (tmp_path / "file").mkdir()  # a rename to a directory fails
    with pytest.raises(OSError):
        replace_file(str(tmp_path / "file"), "x", shared=shared)
    assert os.listdir(tmp_path) == ["file"]
