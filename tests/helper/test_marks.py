# SPDX-License-Identifier: GPL-3.0-or-later
"""Phase marks: stored with the image, added to it, kept over the restore, and refused where they make no sense."""

from __future__ import annotations

import json
import platform
import subprocess

import pytest


def cycles(helper):
    """A reading of the counter."""
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("pmem-state knows the cycle counters of x86-64 and aarch64")
    done = subprocess.run([str(helper.binary), "cycles", "--json"], capture_output=True, text=True, check=True, env=helper.env)
    return json.loads(done.stdout)["clock"]


def words(clock, **marks):
    return ["--cycles-per-second", str(clock["cycles_per_second"]), *(w for n, at in marks.items() for w in ("--mark", f"{n}={at}"))]


def test_the_counter_runs(helper):
    first, second = cycles(helper), cycles(helper)
    assert second["cycles"] > first["cycles"]
    rate = (second["cycles"] - first["cycles"]) / (second["boottime_ns"] - first["boottime_ns"]) * 1e9
    assert abs(rate / first["cycles_per_second"] - 1) < 0.01


def test_marks_are_kept(helper, work):
    (work / "a").mkdir()
    clock = cycles(helper)
    saved = helper("save", "--item", f"a={work}/a", *words(clock, preflight=5, units_stopped=7))["image"]
    assert saved["cycles_per_second"] == clock["cycles_per_second"]
    assert (saved["marks"]["preflight"], saved["marks"]["units_stopped"]) == (5, 7) and saved["marks"]["saved"] > clock["cycles"]
    marked = helper("mark", "jump")["image"]
    again = helper("mark", "jump")["image"]["marks"]
    assert again["jump"] > marked["marks"]["jump"] > saved["marks"]["saved"] and len(again) == 4
    helper("verify")
    restored = helper.restore()
    assert restored["image"]["marks"] == again and restored["clock"]["cycles"] > again["jump"]
    assert helper("info")["image"]["marks"] == again


def test_without_a_frequency_nothing_is_marked(helper, work):
    (work / "a").mkdir()
    saved = helper("save", "--item", f"a={work}/a")["image"]
    assert (saved["cycles_per_second"], saved["marks"]) == (0, {})


def test_only_the_boot_that_saved_marks(helper, work):
    (work / "a").mkdir()
    helper("mark", "jump", expect=3)
    helper("save", "--item", f"a={work}/a")
    assert helper("mark", "jump", env={"PMEM_STATE_BOOT_ID": "0" * 32}, expect=5)["refused"] == "foreign"


@pytest.mark.parametrize(
    "argv",
    [
        ["mark"], ["mark", "lunch"], ["mark", "jump", "saved"], ["info", "--mark", "jump=1"], ["save", "--mark", "jump"],
        ["save", "--mark", "lunch=1"], ["save", "--mark", "jump=-1"], ["save", "--mark", "jump=1x"], ["save", "--mark", "=1"],
        ["save", "--cycles-per-second", "x"], ["save", *["--mark", "jump=1"] * 17], ["cycles"],
    ],
)  # fmt: skip
def test_usage(helper, work, argv):
    (work / "a").mkdir()
    helper(argv[0], *argv[1:], *(["--item", f"a={work}/a"] if argv[0] == "save" else []), expect=1)
