# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hooks of pre-commit find nothing in this tree, so that a commit is refused only for what it changes."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
(REPO,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
HOOKS = {hook["id"]: hook for hook in REPO["hooks"]}
WHOLE = [name for name, hook in HOOKS.items() if not hook.get("pass_filenames", True)]


@pytest.mark.parametrize("name", [name for name in HOOKS if name not in WHOLE])
def test_a_hook_that_gets_files_passes_with_all_of_them(name: str) -> None:
    hook = HOOKS[name]
    assert "types" not in hook, "pre-commit then chooses files by what they hold, which this test does not do"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = [file for file in listed if re.search(hook["files"], file) and (ROOT / file).exists()]
    assert len(files) > 10
    done = subprocess.run([*shlex.split(hook["entry"]), *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_other_hooks_are_steps_of_make_lint() -> None:
    steps = (ROOT / "tests/setup/lint.sh").read_text(encoding="utf-8")
    assert WHOLE
    for name in WHOLE:
        program, *words = shlex.split(HOOKS[name]["entry"].removeprefix(".venv/bin/"))
        assert re.search(rf"^run .*/{program}\b.*{re.escape(' '.join(words))}$", steps, re.MULTILINE), name
