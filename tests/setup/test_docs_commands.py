# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command that a guide shows exists, and a test or a scenario runs it. Otherwise its section says "Our tests do not run ..."."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from docs_commands import MARK, commands_of, exists, is_run, pages

COMMANDS = [one for name, text in pages().items() for one in commands_of(name, text)]


def test_each_command_exists() -> None:
    assert [(one.place, shlex.join(one.words)) for one in COMMANDS if not exists(one.words)] == []
    assert len(COMMANDS) > 100


def test_each_command_is_run_or_marked() -> None:
    assert [(one.place, shlex.join(one.words)) for one in COMMANDS if not one.marked and not is_run(one)] == []


def test_each_mark_is_about_a_command_that_is_not_run() -> None:
    sections = {one.section: [] for one in COMMANDS if MARK in one.section}
    for one in COMMANDS:
        if one.section in sections and not is_run(one):
            sections[one.section].append(one.place)
    assert [section for section, places in sections.items() if not places] == [] and sections


@pytest.mark.parametrize(
    ("text", "there", "run"),
    [
        ("    make lint", True, True),
        ("    make no-such-target", False, False),
        ("    ansible-playbook -i inventory hotpmem.fleet.provision", True, True),
        ("    ansible-playbook hotpmem.fleet.no_such_playbook", False, False),
        ("    ansible-playbook hotpmem.fleet.status -e hotpmem_no_such_variable=1", False, False),
        ("    ansible all -m hotpmem.fleet.reservation_plan -a no_such_option=2G", False, False),
        ("`hotpmem-node handoff --check`", True, True),
        ("`hotpmem-node handoff --no-such-option`", False, False),
        ("`hotpmem-node no-such-verb`", False, False),
        ("    pmem-state no-such-verb", False, False),
        ("    FOO=1 sudo no-such-program \\\n      --x | less   # why", True, False),
        ("    $ no-such-program\n    what it prints", True, False),
    ],
)
def test_a_wrong_command_is_found(text: str, there: bool, run: bool) -> None:
    (command,) = commands_of("page.md", text)
    assert (exists(command.words), is_run(command)) == (there, run)
    (marked,) = commands_of("page.md", f"# a\n\n{text}\n\n{MARK} this command.\n\n# b\n")
    assert marked.marked and not command.marked
