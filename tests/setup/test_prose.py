# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The style check finds what it is there to find, at the right line, and leaves good text alone."""

from __future__ import annotations

import pytest
from prose import COLUMNS, RULES, WORDS, faults, rules

PHRASES = rules(RULES.read_text(encoding="utf-8"))
LONG = " ".join(["word"] * (WORDS + 1)) + "."


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.md", "Good text.\n\nThe name is none.\n", [3]),
        ("a.md", "A file that\nmay be mended\n", [1]),
        ("a.md", "`is none` is code.\n\n    there is none\n", []),
        ("a.md", f"{LONG}\n", [1, 1]),
        ("a.md", "word " * COLUMNS + "\n", [1, 1]),
        ("a.md", "| a | b |\n|---|---|\n| " + "x" * COLUMNS + " | there is none |\n", [3]),
        ("a.md", "[a link](" + "x" * COLUMNS + ")\n", []),
        ("a.py", 'def f():\n    """It is no file."""\n', [2]),
        ("a.py", "# there is none\n", [1]),
        ("a.py", 'x = 1\nraise ValueError(f"{x} is none"\n    " of these")\n', [2]),
        ("a.py", f'"""{LONG}"""\n', [1]),
        ("a.py", f'x = "{LONG}"\n', []),
        ("a.py", f'DOCUMENTATION = r"""\ndescription:\n  - {LONG}\n"""\n', [1]),
        ("a.yml", f"options:\n  a:\n    description: {LONG}\n", [1]),
        ("a.yml", "- name: Mend it\n", [1]),
        ("a.c", '/* A name is\n * none of these. */\nfail("there " "is none");\n', [1, 3]),
        ("a.c", "/* " + "x" * COLUMNS + ' */\nf("' + "x" * COLUMNS + '");\n', [1]),
        ("a.sh", 'echo "there is none"\n', [1]),
        ("a.md", "There is no such file, and it is no longer used. Its own name.\n", []),
        ("a.txt", "there is none\n", []),
    ],
)
def test_faults(name, text, lines):
    assert [line for line, _fault in faults(name, text, PHRASES)] == lines
