# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages and comments of pmem-state keep to plain English: none of the phrases that made native readers stop, short lines."""

from __future__ import annotations

import re

import pytest
from layers import SOURCE, files

BANNED = re.compile(
    r"\b(?:there is none|(?:is|are) none|is no [a-z]+|mend(?:s|ed)?|(?:is|are) not one|of (?:its|their) own|so it does for|what is not"
    r"|what writes|all the same|in vain|is told by)\b",
    re.IGNORECASE,
)
TEXT = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def texts(source: str) -> list[str]:
    """Comments and strings of a C file, each on one line; strings that stand one after another are one."""
    joined = re.sub(r'"\s*\n\s*"', "", source)
    return [re.sub(r"\s*\n\s*\*?\s*", " ", text) for text in TEXT.findall(joined)]


@pytest.mark.parametrize("path", files(SOURCE), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_plain_english(path):
    source = path.read_text(encoding="utf-8")
    assert [text for text in texts(source) if BANNED.search(text)] == []
    lines = source.splitlines()
    assert [line for line in lines if len(line) > (100 if re.match(r"\s*(?:/\*|\* )", line) else 140)] == []


def test_a_banned_phrase_is_found():
    for text in ('f("a file name is none");', "/* a directory of its\n * own */", '"it is no "\n    "item"'):
        assert any(BANNED.search(one) for one in texts(text))
    assert not any(BANNED.search(one) for one in texts("int is_none; /* the item is not valid */"))
