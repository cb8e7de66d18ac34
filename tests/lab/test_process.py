# SPDX-License-Identifier: GPL-3.0-or-later
"""The pid files: real processes are started and ended here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hotlab import process

Child = subprocess.Popen[bytes]


def sleeper(folder: Path, prelude: str = "") -> Child:
    """A process that names `folder` on its command line and has started for sure."""
    code = f"{prelude}\nimport sys, time; print('up', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return child


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    started = sleeper(tmp_path)
    yield started
    started.kill()
    started.wait()


def test_a_recorded_process_is_found_and_ended(tmp_path: Path, child: Child) -> None:
    pid_file = tmp_path / "pid"
    process.record(pid_file, child.pid)
    assert process.running(pid_file) == child.pid
    assert process.end(pid_file) is True
    assert process.start_time(child.pid) is None
    assert not pid_file.exists()
    assert process.end(pid_file) is False


def test_a_pid_used_again_by_another_process_is_left_alone(tmp_path: Path, child: Child) -> None:
    pid_file = tmp_path / "pid"
    started = process.start_time(child.pid)
    assert started is not None
    pid_file.write_text(f"{child.pid}\n{started - 1}\n")
    assert process.running(pid_file) is None
    assert process.end(pid_file) is False
    assert child.poll() is None


def test_a_process_that_does_not_work_in_the_folder_is_left_alone(tmp_path: Path, child: Child) -> None:
    other = tmp_path / "other"
    other.mkdir()
    process.record(other / "pid", child.pid)
    assert process.end(other / "pid") is False
    assert child.poll() is None


@pytest.mark.parametrize("text", ["", "12\n", "x y\n", "1 2 3\n"])
def test_a_torn_pid_file_names_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert process.running(tmp_path / "pid") is None


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = sleeper(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    process.record(tmp_path / "pid", stubborn.pid)
    assert process.end(tmp_path / "pid", patience=0.2) is True
    assert process.start_time(stubborn.pid) is None
    stubborn.wait()
