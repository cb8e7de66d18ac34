# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL at every point where it could matter."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess

from tree import assert_same, listing, small_files

KILLED = -signal.SIGKILL


def test_killed_save(hooks, work):
    """Afterwards there is no valid image, or the complete old one, or the complete new one."""
    small_files(work / "a", 50, 3000, seed=1)
    (work / "b").mkdir()
    small_files(work / "b", 50, 3000, seed=2)
    (work / "b" / "big").write_bytes(random.Random(3).randbytes(50 << 20))
    old, new = ("--item", f"t={work}/a"), ("--item", f"t={work}/b")
    states, point = [], 0
    while True:
        point += 1
        if not states or "none" not in states:
            hooks("save", *old)
        result = hooks("save", *new, env={"PMEM_STATE_KILL_AT": str(point)}, expect=None)
        if result["exit"] != KILLED:
            break
        info = hooks("info", expect=None)
        states.append(info["image"]["state"])
        if states[-1] == "valid":
            expected = old if "none" not in states else new
            hooks("compare", *expected)
            hooks("verify")
        else:
            assert info["exit"] == 3
    assert result["exit"] == 0 and len(states) >= 200
    # Old image, then none, then the new one: each phase is one stretch.
    assert states.index("none") >= 1 and states[-1] == "valid"
    assert [s for i, s in enumerate(states) if i == 0 or s != states[i - 1]] == ["valid", "none", "valid"]


def test_killed_restore(hooks, work):
    """Afterwards the item is what it was or what was saved, and restoring again ends well."""
    os.truncate(hooks.device, 8 << 20)  # it is copied often
    small_files(work / "src", 160, 9000, seed=1)
    for i in range(40):
        os.symlink(f"t{i}", work / "src" / f"l{i}")
        os.link(work / "src" / "d0" / f"f{i}", work / "src" / f"h{i}")
    small_files(work / "old", 20, 100, seed=2)
    hooks.save(f"t={work}/src")
    shutil.copy(hooks.device, work / "pristine")
    want = {"src": listing(work / "src"), "old": listing(work / "old")}
    seen, point = [], 0
    while True:
        point += 1
        subprocess.run(["rm", "-rf", work / "dst"], check=True)
        subprocess.run(["cp", "-a", work / "old", work / "dst"], check=True)
        shutil.copy(work / "pristine", hooks.device)
        result = hooks("restore", "--item", f"t={work}/dst", env={"PMEM_STATE_KILL_AT": str(point)}, expect=None)
        if result["exit"] != KILLED:
            break
        now = listing(work / "dst")
        seen.append("src" if now == want["src"] else "old")
        assert now == want[seen[-1]], f"a mix at point {point}"
        again = hooks("restore", "--item", f"t={work}/dst", expect=None)
        assert again["exit"] == 0 or (again["refused"] == "consumed" and seen[-1] == "src")
        if again["exit"] == 0:
            assert [p.name for p in work.iterdir() if p.name.startswith(".hotpmem")] == []
        assert listing(work / "dst") == want["src"]
    assert result["exit"] == 0 and len(seen) >= 200 and seen[0] == "old" and seen[-1] == "src"
    assert_same(work / "src", work / "dst")
