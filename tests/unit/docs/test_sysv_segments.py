# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/applications/sysv-segments, on segments of this machine. The scenario applications runs it in a cycle."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "docs/applications/sysv-segments"
KEY, SIZE = 0x7C484F54, 256 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners of segments")


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False)


def exists() -> bool:
    return LIBC.shmget(KEY, 0, 0) >= 0


@pytest.fixture
def directory(tmp_path):
    """A directory with the file of one segment. The segment is removed afterwards."""
    with open(tmp_path / hex(KEY), "wb") as file:
        file.write(os.urandom(1 << 20) * (SIZE >> 20))
        os.fchmod(file.fileno(), 0o640)
    yield tmp_path
    if exists():
        LIBC.shmctl(LIBC.shmget(KEY, 0, 0), 0, None)


def test_there_and_back(directory):
    file = directory / hex(KEY)
    before = file.read_bytes()
    assert run("load", directory).returncode == 0 and exists() and not file.exists()
    assert run("save", directory, hex(KEY)).returncode == 0 and not exists()
    assert file.read_bytes() == before and file.stat().st_mode & 0o777 == 0o640


def test_a_load_that_is_killed(directory):
    """The next one must not take a segment for whole that is full of zeros: a save would lose the content for good."""
    file = directory / hex(KEY)
    before = file.read_bytes()
    with subprocess.Popen([sys.executable, str(SCRIPT), "load", str(directory)]) as loading:
        while not exists() and loading.poll() is None:
            time.sleep(0.001)
        loading.kill()
    assert exists()
    assert run("load", directory).returncode == 0 and not file.exists()
    assert run("save", directory, hex(KEY)).returncode == 0
    assert file.read_bytes() == before and file.stat().st_mode & 0o777 == 0o640


def test_a_segment_that_the_application_has_made_is_left_alone(directory):
    LIBC.shmget(KEY, 4096, 0o1000 | 0o600)
    done = run("load", directory)
    assert done.returncode == 0 and "exists and was left alone" in done.stdout and (directory / hex(KEY)).exists()
