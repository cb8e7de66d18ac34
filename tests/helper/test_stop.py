# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGTERM at every point of a restore and of a save: what is reported is what is there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess

import pytest
from test_faults import stopped
from tree import assert_same, small_files


def terminated(helper, at: int, *words: str, number: int = signal.SIGTERM) -> dict | None:
    """Stops pmem-state at a point, and sends it a signal there. None: it ends before that point."""
    try:
        child = stopped(helper, at, *words)
    except AssertionError:
        return None
    os.kill(child.pid, number)
    os.kill(child.pid, signal.SIGCONT)
    out, err = child.communicate()
    assert child.returncode == -number or out, err.decode()
    result = json.loads(out.splitlines()[-1]) if out else {}
    return dict(result, exit=child.returncode, error_output=err.decode())


def test_terminated_restore(hooks, work):
    """An item is reported as restored exactly when it is in place, and only then the image counts it as restored."""
    os.truncate(hooks.device, 8 << 20)
    for name in ("a", "b"):
        small_files(work / name, 4, 3000, seed=ord(name))
    hooks.save(f"a={work}/a", f"b={work}/b")
    shutil.copy(hooks.device, work / "pristine")
    codes, point = [], 0
    while True:
        point += 1
        for name in ("a2", "b2"):
            subprocess.run(["rm", "-rf", work / name], check=True)
        shutil.copy(work / "pristine", hooks.device)
        items = ("--item", f"a={work}/a2", "--item", f"b={work}/b2")
        result = terminated(hooks, point, "restore", *items)
        if result is None:
            break
        there = [one for one in ("a", "b") if (work / f"{one}2").exists()]
        assert [one["name"] for one in result["items"] if one["status"] == "restored"] == there
        for one in result["items"]:
            if one["status"] != "restored":
                assert (one["status"], one["errno"]) == ("failed", "EINTR") and "SIGTERM" in one["error"], one
        codes.append(result["exit"])
        assert result["exit"] == {0: 2, 1: 6, 2: 0}[len(there)]
        assert hooks("info")["image"]["state"] == ("consumed" if len(there) == 2 else "valid")
        assert [p.name for p in work.iterdir() if p.name.startswith(".hotpmem")] == []
        left = [one for one in ("a", "b") if one not in there]
        if left:
            hooks.restore(*(f"{one}={work}/{one}2" for one in left))
        for one in ("a", "b"):
            assert_same(work / one, work / f"{one}2")
    assert [c for i, c in enumerate(codes) if i == 0 or c != codes[i - 1]] == [2, 6, 0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_signal_is_named(hooks, work, number):
    small_files(work / "a", 4, 3000)
    hooks.save(f"a={work}/a")
    result = terminated(hooks, 1, "restore", "--item", f"a={work}/a2", number=number)
    assert result["exit"] == 2 and number.name in result["error"]["said"]


def test_an_ignored_signal_stays_ignored(hooks, work):
    small_files(work / "a", 4, 3000)
    words = hooks.argv("save", "--item", f"a={work}/a")
    done = subprocess.run(["sh", "-c", 'trap "" HUP; "$@" & pid=$!; kill -HUP $pid; wait $pid', "sh", *words], env=hooks.env, check=False)
    assert done.returncode == 0


def test_terminated_save(hooks, work):
    """It ends at once and leaves no image, or says that the image is complete."""
    os.truncate(hooks.device, 8 << 20)
    small_files(work / "a", 4, 3000)
    codes, point = [], 0
    while True:
        point += 1
        hooks("invalidate")
        result = terminated(hooks, point, "save", "--item", f"a={work}/a")
        if result is None:
            break
        codes.append(result["exit"])
        if result["exit"] == 0:
            assert result["image"]["state"] == "valid"
            hooks("verify")
        else:
            assert result["exit"] == -signal.SIGTERM, (point, codes)
            info = hooks("info", expect=None)
            assert info["exit"] == 3, (point, codes, info)
            assert info["image"]["state"] == "none"
    assert [c for i, c in enumerate(codes) if i == 0 or c != codes[i - 1]] == [-signal.SIGTERM, 0]
