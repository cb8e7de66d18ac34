# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: the binaries under test, a place in memory to work in, and something to call pmem-state with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tree import ROOT

BUILD = Path(__file__).parents[2] / "build" / "test"
# Built by `make test-helper`: hooks has kill points, asan has them and the sanitizers.
HOOKS, ASAN = BUILD / "pmem-state-hooks", BUILD / "pmem-state-asan"
MACHINE = "0123456789abcdef0123456789abcdef"


class Helper:
    """Calls pmem-state --json; returns the result object with everything else beside it."""

    def __init__(self, binary: Path, device: Path) -> None:
        self.binary, self.device = binary, device
        self.env = dict(
            os.environ,
            PMEM_STATE_MACHINE_ID=MACHINE,
            ASAN_OPTIONS="detect_leaks=1:abort_on_error=1",
            UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
        )

    def argv(self, verb: str, *words: str) -> list[str]:
        return [str(self.binary), verb, "--device", str(self.device), *words, "--json"]

    def __call__(self, verb: str, *words: str, env: dict | None = None, expect: int | None = 0) -> dict:
        done = subprocess.run(self.argv(verb, *words), capture_output=True, env=dict(self.env, **(env or {})), check=False)
        assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr.decode(errors="replace")
        if done.returncode < 0:
            assert expect is None or expect == done.returncode, done.stderr.decode(errors="replace")
            return {"exit": done.returncode}
        lines = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
        result = lines[-1]
        assert result["event"] == "result" and result["exit"] == done.returncode
        assert expect is None or result["exit"] == expect, (result, done.stderr.decode(errors="replace"))
        result["progress"] = lines[:-1]
        return result

    def save(self, *items: str, **how) -> dict:
        return self("save", *(w for i in items for w in ("--item", i)), **how)

    def restore(self, *items: str, force: bool = False, **how) -> dict:
        return self("restore", *(w for i in items for w in ("--item", i)), *(["--force"] if force else []), **how)


@pytest.fixture
def work():
    """A directory in memory, removed afterwards (trees too deep for shutil are removed by rm)."""
    path = Path(tempfile.mkdtemp(prefix="hotpmem-test-", dir="/dev/shm"))
    yield path
    subprocess.run(["chmod", "-R", "u+rwX", path], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", path], check=True)


def make_device(work: Path, kind: str, size: int):
    """A device of a kind below work: (path, how to take it away)."""
    path = work / "device"
    if kind == "file":
        path.touch()
        os.truncate(path, size)
        return path, lambda: None
    if not ROOT:
        pytest.skip("needs root: mounts, loop devices")
    if kind == "huge":  # mapped by pmem-state as a dax device is
        (work / "huge").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=always", "tmpfs", work / "huge"], check=True)
        path = work / "huge" / "device"
        subprocess.run(["fallocate", "-l", str(size), path], check=True)
        return path, lambda: subprocess.run(["umount", work / "huge"], check=True)
    path.touch()
    os.truncate(path, size)
    loop = subprocess.run(["losetup", "-f", "--show", path], capture_output=True, text=True, check=False)
    if loop.returncode != 0:
        pytest.skip(f"no loop device: {loop.stderr.strip()}")
    return Path(loop.stdout.strip()), lambda: subprocess.run(["losetup", "-d", loop.stdout.strip()], check=True)


@pytest.fixture(params=["file", "huge", "block"])
def any_helper(request, work):
    """The sanitizer build with a device of each kind."""
    device, remove = make_device(work, request.param, 256 << 20)
    yield Helper(ASAN, device)
    remove()


@pytest.fixture
def helper(work):
    """The sanitizer build with a file as its device."""
    return Helper(ASAN, make_device(work, "file", 128 << 20)[0])


@pytest.fixture
def hooks(work):
    """The quick build with kill points."""
    return Helper(HOOKS, make_device(work, "file", 128 << 20)[0])


def pytest_configure(config):
    for binary in (HOOKS, ASAN):
        if not binary.exists():
            raise pytest.UsageError(f"{binary} is missing: run `make test-helper`")
    if not shutil.which("rsync"):
        raise pytest.UsageError("rsync is missing: run `make deps`")
