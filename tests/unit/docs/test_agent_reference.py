# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference/hotpmem-node.md says what the program's own help says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
SCRIPT = CHECKOUT / "tests" / "setup" / "agent_reference.py"


def _reference():
    spec = importlib.util.spec_from_file_location("agent_reference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    reference = _reference()
    written = reference.PAGE.read_text(encoding="utf-8")
    assert reference.same(written, reference.page()), "run: .venv/bin/python tests/setup/agent_reference.py"


def test_a_changed_word_is_noticed_and_a_changed_line_break_is_not() -> None:
    reference = _reference()
    page = reference.page()
    assert not reference.same(page, page.replace("--detach", "--detached"))
    assert reference.same(page, page.replace(" ", "\n"))


def test_every_verb_has_its_section() -> None:
    reference = _reference()
    names = list(reference.helps())
    assert names[0] == "hotpmem-node"
    assert len(names) == 14
    for name in names[1:]:
        assert f"## `{name}`\n" in reference.page()
