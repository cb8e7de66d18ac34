# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of the scenarios is worth: which end passes, which fails, and what the last line says. Stand-ins run instead of scenarios."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = ["agent_faults", "agent", "e820"]
ORDER = [*REQUIRED, "grub"]
PASS, FAIL = "echo passed", "echo broken; exit 1"
# A scenario that ends when it is too late to begin another one, and one that never ends.
UNTIL_LATE, FOR_EVER = "while [ $EPOCHSECONDS -le $START_UNTIL ]; do sleep 0.1; done", "exec sleep 1000"


@pytest.fixture
def tree(tmp_path):
    """scenarios.sh and .ci/run with nothing else of the checkout: the image is there, and what make does is the test's."""

    def program(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)

    for name in ("tests/setup/scenarios.sh", ".ci/run"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    program(".venv/bin/python", "true")
    program("bin/make", "exec tests/setup/scenarios.sh $SCENARIOS")

    def run(command, scenarios, **environment):
        cases = "\n".join(f"{name}) {script} ;;" for name, script in scenarios.items())
        program("tests/setup/molecule.sh", f"case $1 in\n{cases}\nesac")
        env = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "SCENARIOS": " ".join(scenarios), **environment}
        words = [str(tmp_path / command), *([] if command == ".ci/run" else scenarios)]
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout.splitlines()

    run.program = program
    return run


def scenarios(*scripts):
    """The three that must run, and one more: the first with these scripts, the others pass."""
    return {name: scripts[index] if index < len(scripts) else PASS for index, name in enumerate(ORDER)}


def test_all_pass(tree):
    code, lines = tree("tests/setup/scenarios.sh", scenarios(), REQUIRED=" ".join(REQUIRED))
    assert (code, lines[-1]) == (0, "molecule: 4 passed, 0 failed, 0 skipped")


def test_one_fails(tree):
    code, lines = tree("tests/setup/scenarios.sh", scenarios(PASS, PASS, PASS, FAIL))
    assert (code, lines[-1]) == (1, "molecule: 3 passed, 1 failed, 0 skipped")
    assert "molecule: FAILED: grub" in lines and "broken" in lines


def test_too_late_for_one_that_must_run(tree):
    """Two run at a time. They passed, and CI was content with that."""
    late = str(int(time.time()) + 3)
    code, lines = tree("tests/setup/scenarios.sh", scenarios(UNTIL_LATE, UNTIL_LATE), START_UNTIL=late, REQUIRED=" ".join(REQUIRED))
    assert (code, lines[-1]) == (1, "molecule: 2 passed, 0 failed, 2 skipped (NOT RUN: e820 grub)")
    assert "molecule: FAILED, because these must run: e820" in lines


def test_too_late_for_the_others(tree):
    late = str(int(time.time()) + 5)
    some = scenarios(PASS, UNTIL_LATE, UNTIL_LATE)
    code, lines = tree("tests/setup/scenarios.sh", some, START_UNTIL=late, REQUIRED=" ".join(REQUIRED))
    assert (code, lines[-1]) == (0, "molecule: 3 passed, 0 failed, 1 skipped (NOT RUN: grub)")


def test_nothing_was_begun(tree):
    code, lines = tree("tests/setup/scenarios.sh", scenarios(), START_UNTIL="1")
    assert (code, lines[-1]) == (1, f"molecule: 0 passed, 0 failed, 4 skipped (NOT RUN: {' '.join(ORDER)})")


def test_one_that_does_not_end_is_ended(tree):
    began = time.monotonic()
    code, lines = tree("tests/setup/scenarios.sh", scenarios(FOR_EVER), END_AT=str(int(time.time()) + 4))
    assert (code, lines[-1]) == (1, "molecule: 3 passed, 1 failed, 0 skipped")
    assert "molecule: FAILED: agent_faults" in lines and time.monotonic() - began < 60


@pytest.mark.parametrize(("some", "code"), [(scenarios(), 0), (scenarios(FAIL), 1)])
def test_the_last_line_of_ci(tree, some, code):
    said = tree(".ci/run", some)
    assert said[0] == code
    assert said[1][-1] == f"molecule: {4 - code} passed, {code} failed, 0 skipped"


def test_ci_insists_on_three_of_them(tree):
    # Long after 50 minutes, as far as what begins the scenarios can tell.
    tree.program("bin/make", "START_UNTIL=1 exec tests/setup/scenarios.sh $SCENARIOS")
    code, lines = tree(".ci/run", scenarios())
    assert code != 0 and lines[-1] == f"molecule: 0 passed, 0 failed, 4 skipped (NOT RUN: {' '.join(ORDER)})"
    assert f"molecule: FAILED, because these must run: {' '.join(REQUIRED)}" in lines


def test_ci_that_did_not_reach_the_scenarios_says_so(tree):
    tree.program("bin/make", "echo lint: FAILED; exit 2")
    code, lines = tree(".ci/run", scenarios())
    assert code == 2 and re.match(r"molecule: 0 passed, 0 failed, 0 skipped \(NOT RUN: ", lines[-1])


def test_every_scenario_is_somewhere():
    """In make test or make test-all, and in the table."""
    folder = ROOT / "extensions/molecule"
    there = {path.parent.name for path in folder.glob("*/molecule.yml")}
    text = (ROOT / "mk/test.mk").read_text(encoding="utf-8")
    first, slow = (re.search(rf"^{name} := (.*)$", text, re.MULTILINE).group(1).split() for name in ("SCENARIOS", "SLOW_SCENARIOS"))
    assert sorted(there) == sorted([*first, *slow])
    assert first[: len(REQUIRED)] == REQUIRED
    # Without what a make that runs this test was given: SCENARIOS= on its command line would reach this one too.
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "SCENARIOS")}
    dry = subprocess.run(["make", "-n", "test-all"], cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout
    assert f"tests/setup/scenarios.sh {' '.join([*first, *slow])}" in dry
    rows = re.findall(r"^\| `(\w+)` ", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [*first, *slow]
