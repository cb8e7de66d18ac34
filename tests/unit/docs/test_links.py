# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every relative link in the project's Markdown, and every mention of a page of docs/ elsewhere, leads to a file and a heading."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Iterator
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "setup"))
from docs_site import ELSEWHERE, anchor

CHECKOUT = Path(__file__).resolve().parents[3]
# Where a sentence may name a page: messages, comments, module documentation, templates.
MENTION = re.compile(r"docs/[A-Za-z0-9_./-]+\.md(?:#[A-Za-z0-9_-]+)?")
MENTIONED_IN = ("plugins/", "roles/", "playbooks/", "extensions/", "tests/", "mk/", "Makefile", "meta/")
HTML_ID = re.compile(r"""<[a-z][a-z0-9]*\s[^>]*?\b(?:id|name)=["']([^"']+)["']""", re.IGNORECASE)


def anchors_of(text: str) -> set[str]:
    """The anchors of a Markdown text: those of its headings, numbered where they repeat, and the ids in its HTML."""
    found: set[str] = set()
    seen: dict[str, int] = {}
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            children = tokens[number + 1].children or []
            name = anchor("".join(child.content for child in children if child.type in ("text", "code_inline")))
            seen[name] = seen.get(name, -1) + 1
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
        html = [token] if token.type == "html_block" else [one for one in token.children or [] if one.type == "html_inline"]
        for one in html:
            found.update(HTML_ID.findall(one.content))
    return found


def links_of(text: str) -> Iterator[tuple[int, str]]:
    """Line and target of every link and image. A reference without a definition is plain text to the parser, and is not seen."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or []:
            target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src") if child.type == "image" else None
            if target is not None and token.map:
                yield token.map[0] + 1, str(target)


def mentions_of(text: str) -> Iterator[tuple[int, str]]:
    """Line and target of every page of docs/ that a text names."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in MENTION.finditer(line):
            yield number, match[0]


@lru_cache(maxsize=None)
def _anchors_in(path: Path) -> frozenset[str]:
    return frozenset(anchors_of(path.read_text(encoding="utf-8")))


def fault(root: Path, origin: Path, target: str) -> str:
    """What is wrong with a link from the file origin; empty when it leads somewhere. A target with / in front starts at the root."""
    place, _hash, fragment = target.partition("#")
    place = unquote(place)
    path = origin if not place else root / place.lstrip("/") if place.startswith("/") else origin.parent / place
    path = Path(os.path.normpath(path))
    if root not in (path, *path.parents):
        return "leads out of the repository"
    if not path.exists():
        return "the file does not exist"
    if fragment and path.suffix == ".md" and unquote(fragment) not in _anchors_in(path):
        return f"{path.name} has no heading with this anchor"
    return ""


def broken(root: Path, names: list[str]) -> list[str]:
    """Every broken link and mention in the files."""
    found = []
    for name in names:
        path = root / name
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if name.endswith(".md"):
            relative = [(line, target) for line, target in links_of(text) if not ELSEWHERE.match(target)]
            found += [f"{name}:{line}: {target}: {said}" for line, target in relative if (said := fault(root, path, target))]
        if name.startswith(MENTIONED_IN) and path != Path(__file__).resolve():
            mentioned = [(line, f"/{target}") for line, target in mentions_of(text)]
            # A path that leads up, in a link, was looked at above.
            found += [f"{name}:{line}: {target[1:]}: {said}" for line, target in mentioned if (said := fault(root, root / name, target))]
    return found


def test_every_link_leads_somewhere() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert "README.md" in listed
    faults = broken(CHECKOUT, listed)
    assert not faults, "\n".join(["broken links:", *faults])


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Two roads", "two-roads"),
        ("A memory block would not go offline", "a-memory-block-would-not-go-offline"),
        ("Why was my host refused?", "why-was-my-host-refused"),
        ("`hotpmem-node hot-add`", "hotpmem-node-hot-add"),
        ("Exit codes of pmem-state, and what they mean", "exit-codes-of-pmem-state-and-what-they-mean"),
        ("Save & restore", "save--restore"),
        ("snake_case stays", "snake_case-stays"),
    ],
)
def test_anchor(heading: str, expected: str) -> None:
    assert anchors_of(f"# {heading}\n") == {expected}


def test_repeated_headings_and_html_ids() -> None:
    text = '<a id="leak"></a>\n\n# Same\n\n## Same\n\nText <a name="inline"></a> here.\n\n```\n# not a heading\n```\n'
    assert anchors_of(text) == {"leak", "same", "same-1", "inline"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.md", "[b](b.md)", ""),
        ("a.md", "[b](b.md#a-heading)", ""),
        ("a.md", "# Top\n\n[up](#top)", ""),
        ("a.md", "[out](https://example.com/x.md#y)", ""),
        ("a.md", "`[code](gone.md)`", ""),
        ("a.md", "| t |\n|---|\n| [cell](gone.md) |\n", "a.md:3: gone.md: the file does not exist"),
        ("a.md", "\n\n[b](gone.md)", "a.md:3: gone.md: the file does not exist"),
        ("a.md", "[b](b.md#gone)", "a.md:1: b.md#gone: b.md has no heading with this anchor"),
        ("a.md", "[b](#gone)", "a.md:1: #gone: a.md has no heading with this anchor"),
        ("a.md", "![p](gone.svg)", "a.md:1: gone.svg: the file does not exist"),
        ("a.md", "[b](../b.md)", "a.md:1: ../b.md: leads out of the repository"),
        ("plugins/a.py", "'See docs/c.md#a-heading.'", ""),
        ("plugins/a.py", "# docs/gone.md.", "plugins/a.py:1: docs/gone.md: the file does not exist"),
        ("roles/a.c", "/* docs/c.md#gone */", "roles/a.c:1: docs/c.md#gone: c.md has no heading with this anchor"),
        ("other/a.py", "# docs/gone.md", ""),
    ],
)
def test_what_is_found(tmp_path: Path, name: str, text: str, said: str) -> None:
    for page in ("b.md", "docs/c.md"):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text("# A heading\n", encoding="utf-8")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert broken(tmp_path, [name]) == ([said] if said else [])
