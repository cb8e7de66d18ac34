# SPDX-License-Identifier: GPL-3.0-or-later
"""The build steps' runner, with real commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hotlab import step
from hotlab.errors import LabError


def test_a_step_may_close_its_output_before_it_ends(tmp_path: Path) -> None:
    step.run("image", ["sh", "-c", "exec >/dev/null 2>&1; sleep 0.3; touch " + str(tmp_path / "done")], tmp_path / "log")
    assert (tmp_path / "done").exists()


def test_a_failed_step_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"the image: sh failed with status 3(.|\n)*no space left(.|\n)*HOTPMEM_DEBIAN_MIRROR"):
        step.run("image", ["sh", "-c", "echo no space left >&2; exit 3"], tmp_path / "log", ["env"])


def test_each_step_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step.run("image", ["sh", "-c", "echo 'I: installing essential packages...'; echo other"], tmp_path / "log")
    assert "image: installing essential packages\n" in capsys.readouterr().err
    assert (tmp_path / "log").read_text() == "I: installing essential packages...\nother\n"
