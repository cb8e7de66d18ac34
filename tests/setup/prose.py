# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the project's English: phrases to avoid, sentence length, line length.

Usage: prose.py [FILE...]; without arguments it checks every file that git tracks. It prints FILE:LINE: and the fault, and exits with 1
when it found one. prose_rules.txt holds the phrases. They apply to Markdown, comments, docstrings, messages and module documentation.
The limit on sentences applies to Markdown, docstrings and module documentation; the limit on lines to Markdown and to comments of C.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

WORDS = 30  # in a sentence
COLUMNS = 100  # in a line of Markdown prose or of a C comment
RULES = Path(__file__).with_name("prose_rules.txt")
LEFT_OUT = re.compile(r"^(COPYING|LICENSES/|requirements|tests/unit/fixtures/|tests/setup/(test_)?prose|changelogs/changelog|CHANGELOG)")

# A piece of text: its first line, the text, and whether its sentences are measured.
Piece = tuple[int, str, bool]


def rules(text: str) -> list[tuple[re.Pattern[str], str]]:
    """Pattern and advice of each line of prose_rules.txt."""
    lines = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in lines]


def markdown(text: str) -> Iterator[Piece]:
    """Paragraphs, list items, headings and table cells. Inline code counts as one word, and links as their text."""
    parser = MarkdownIt("commonmark").enable("table")
    for token in parser.parse(text):
        if token.type == "inline" and token.map:
            words = [
                "code" if child.type == "code_inline" else "\n" if child.type == "softbreak" else child.content for child in token.children
            ]
            yield token.map[0] + 1, "".join(words), True


def long_lines(name: str, text: str) -> Iterator[int]:
    """Numbers of the lines of Markdown prose and of C comments that are too long. Tables, code and the targets of links are left out."""
    lines, in_table = text.splitlines(), False
    if name.endswith((".c", ".h")):
        yield from (number for number, line in enumerate(lines, 1) if len(line) > COLUMNS and re.match(r"\s*(/\*|\* )", line))
    if not name.endswith(".md"):
        return
    parser = MarkdownIt("commonmark").enable("table")
    for token in parser.parse(text):
        in_table = token.type == "table_open" or (in_table and token.type != "table_close")
        if token.type == "inline" and token.map and not in_table:
            for number in range(*token.map):
                if len(re.sub(r"\]\([^)]*\)", "]", lines[number])) > COLUMNS:
                    yield number + 1


def documentation(node: ast.Constant) -> Iterator[Piece]:
    """Every text in a module's DOCUMENTATION, EXAMPLES or RETURN."""
    for part in yaml.safe_load_all(node.value):
        for text in scalars(part):
            yield node.lineno, re.sub(r"[A-Z]\(([^)]*)\)", "code", text), True


def scalars(value: object) -> Iterator[str]:
    """Every text in a YAML document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from scalars(one)
    elif isinstance(value, list):
        for one in value:
            yield from scalars(one)


def python(text: str) -> Iterator[Piece]:
    """Docstrings and module documentation (measured), other texts and comments."""
    tree = ast.parse(text)
    seen: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            name = node.targets[0]
            if isinstance(name, ast.Name) and name.id in ("DOCUMENTATION", "EXAMPLES", "RETURN"):
                seen.add(node.value)
                yield from documentation(node.value)
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                seen.add(first.value)
                yield first.value.lineno, re.sub(r"``.*?``", "code", first.value.value, flags=re.DOTALL), True
        elif isinstance(node, ast.JoinedStr):
            seen.update(node.values)
            words = [part.value if isinstance(part, ast.Constant) else "code" for part in node.values]
            yield node.lineno, "".join(words), False
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in seen:
            yield node.lineno, node.value, False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# "), False


def yaml_file(text: str) -> Iterator[Piece]:
    """Descriptions (measured), and every line for its phrases."""
    try:
        for part in yaml.safe_load_all(text):
            for line in described(part):
                yield 1, re.sub(r"[A-Z]\(([^)]*)\)", "code", line), True
    except yaml.YAMLError:
        pass  # yamllint says so
    yield from lines_of(text)


def described(value: object) -> Iterator[str]:
    """The descriptions in a document, at any depth."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from scalars(one) if key in ("description", "short_description") and not isinstance(one, dict) else described(one)
    elif isinstance(value, list):
        for one in value:
            yield from described(one)


def c_file(text: str) -> Iterator[Piece]:
    """Comments and texts of C."""
    for match in re.finditer(r"/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"(?:\s*\"(?:\\.|[^\"\\\n])*\")*", text, re.DOTALL):
        yield text.count("\n", 0, match.start()) + 1, re.sub(r"\n\s*\*?\s*|\"\s*\"", " ", match[0]), False


def lines_of(text: str) -> Iterator[Piece]:
    """Every line by itself."""
    for number, line in enumerate(text.splitlines(), 1):
        yield number, line, False


READERS: dict[str, Callable[[str], Iterator[Piece]]] = {
    ".md": markdown,
    ".py": python,
    ".yml": yaml_file,
    ".c": c_file,
    ".h": c_file,
    ".sh": lines_of,
    ".j2": lines_of,
    ".mk": lines_of,
}


def sentences(text: str) -> Iterator[str]:
    """Split prose into sentences. A blank line ends one, and so does a line that begins a list."""
    for paragraph in re.split(r"\n\s*\n|\n\s*[-*] ", text):
        yield from re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.split()))


def faults(name: str, text: str, phrases: list[tuple[re.Pattern[str], str]]) -> Iterator[tuple[int, str]]:
    """Line and fault of everything that is wrong in one file."""
    reader = READERS.get(Path(name).suffix)
    if reader is None:
        return
    for line, piece, measured in reader(text):
        flat = " ".join(piece.split())
        for pattern, advice in phrases:
            for match in pattern.finditer(flat):
                yield line, f'"{match[0]}": {advice}'
        for sentence in sentences(piece) if measured else ():
            if len(sentence.split()) > WORDS:
                yield line, f'{len(sentence.split())} words in one sentence, more than {WORDS}: "{sentence[:60]}..."'
    for line in long_lines(name, text):
        yield line, f"more than {COLUMNS} characters: wrap it"


def main(argv: list[str]) -> int:
    """Entry point."""
    names = argv or subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout.splitlines()
    phrases = rules(RULES.read_text(encoding="utf-8"))
    found = 0
    for name in names:
        if LEFT_OUT.match(name) or Path(name).suffix not in READERS or not Path(name).exists():
            continue
        for line, fault in sorted(set(faults(name, Path(name).read_text(encoding="utf-8"), phrases))):
            found += 1
            print(f"{name}:{line}: {fault}")
    if found:
        print(f"prose: {found} faults", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
