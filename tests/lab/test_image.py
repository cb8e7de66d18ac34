# SPDX-License-Identifier: GPL-3.0-or-later
"""The build steps' runner, with real commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hotlab import image
from hotlab.errors import LabError


@pytest.fixture(autouse=True)
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands here need no root."""
    monkeypatch.setattr(image, "_as_root", lambda: [])


def test_a_step_may_close_its_output_before_it_ends(tmp_path: Path) -> None:
    image._run(["sh", "-c", "exec >/dev/null 2>&1; sleep 0.3; touch " + str(tmp_path / "done")], tmp_path / "log")
    assert (tmp_path / "done").exists()


def test_a_failed_step_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"sh failed with status 3(.|\n)*no space left(.|\n)*HOTPMEM_DEBIAN_MIRROR"):
        image._run(["sh", "-c", "echo no space left >&2; exit 3"], tmp_path / "log")


def test_each_step_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image._run(["sh", "-c", "echo 'I: installing essential packages...'; echo other"], tmp_path / "log")
    assert "image: installing essential packages\n" in capsys.readouterr().err
    assert (tmp_path / "log").read_text() == "I: installing essential packages...\nother\n"
