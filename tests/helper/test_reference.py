# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/pmem-state.md is what the binary says, and the binary says what it does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ASAN
from layers import SOURCE

sys.path.insert(0, str(Path(__file__).parents[1] / "setup"))
from reference import PAGE, page

HELP = subprocess.run([ASAN, "--help"], capture_output=True, text=True, check=False).stdout


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(ASAN), "run `make reference`"


def test_a_changed_help_is_found(tmp_path):
    binary = tmp_path / "pmem-state"
    binary.write_text(f"#!/bin/sh\n{ASAN} --help | sed 's/--force/--strong/'\n")
    binary.chmod(0o755)
    assert PAGE.read_text(encoding="utf-8") != page(binary)


def test_lines_fit():
    assert max(map(len, PAGE.read_text(encoding="utf-8").splitlines())) <= 100


def test_every_verb_and_option_is_in_the_help():
    """And the help has no others: they are read from the source of the command line."""
    options = (SOURCE / "base" / "options.c").read_text(encoding="utf-8")
    verbs = re.findall(r'"(\w+)"', re.search(r"names\[\] = \{(.*?)\};", options, re.DOTALL)[1])
    listed = re.findall(r"^  (\w+) {2,}[A-Z]", HELP[HELP.index("VERBS") : HELP.index("OPTIONS")], re.MULTILINE)
    assert set(listed) | {"help"} == set(verbs)
    assert set(re.findall(r"--[a-z-]+", HELP)) == set(re.findall(r'"(--[a-z][a-z-]+)"', options))


@pytest.mark.parametrize("verb", ["save", "restore", "help"])
def test_a_verb_has_the_same_help(verb):
    argv = [ASAN, verb] if verb == "help" else [ASAN, verb, "--help"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == HELP
