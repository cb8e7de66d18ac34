# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that the guides show: whether they exist, and whether a test or a scenario runs them.

Commands are the lines of code blocks without a language, and inline code that begins with one of our programs. A block of something else
names its language (```text). Decisions and measurements are dated records and are left out.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit/docs"))
from test_examples import examples_of

OURS = ("make", "ansible", "ansible-playbook", "hotpmem-node", "pmem-state")
MARK = "Our tests do not run"
# What runs commands: the tests and scenarios, and the roles and playbooks that scenarios run.
RUNS = ("extensions/molecule", "tests/demo", "tests/helper", "tests/fleet", "tests/lab", "tests/setup", "roles", "playbooks", ".ci")
NOT_CODE = ("README.md", "meta", "corpus.tar.xz", "images", "docs_commands.py", "test_docs_commands.py")
PLACEHOLDER = re.compile(r"[A-Z]+|\d+")
NEAR = 160  # characters after the name of a program, where its verb and options are


class Command(NamedTuple):
    """A command of a page, and the texts of its section and of its page."""

    place: str
    words: list[str]
    section: str
    page: str

    @property
    def verb(self) -> str:
        """The word that decides what it does."""
        return next((word for word in self.words[1:] if not word.startswith("-") and not PLACEHOLDER.fullmatch(word)), "")

    @property
    def marked(self) -> bool:
        """Whether its section has the mark, or another section of the page with its name."""
        return MARK in self.section or re.search(rf"{MARK} `{self.words[0]} {self.verb}\b", self.page) is not None


def lines_of(block: str) -> list[list[str]]:
    """The words of each command in a block, without comments, assignments and sudo, up to the first pipe."""
    found = []
    text = block.replace("\\\n", " ")
    console = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    for line in console or text.splitlines():
        for part in re.split(r" && ", line):
            words = shlex.split(part, comments=True)
            words = words[: words.index("|")] if "|" in words else words
            while words and (words[0] == "sudo" or re.match(r"[A-Z_]+=", words[0])):
                words.pop(0)
            if words:
                found.append(words)
    return found


def commands_of(name: str, text: str) -> list[Command]:
    """The commands of a page."""
    found: list[tuple[str, list[str], int]] = []
    sections = [""]
    examples = {one.place for one in examples_of(name, text)}  # YAML, which test_examples.py checks
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "heading_open":
            sections.append("")
        place = f"{name}:{token.map[0] + 1 if token.map else 0}"
        if token.type == "inline":
            sections[-1] += " ".join(token.content.split()) + "\n"
            code = [child.content for child in token.children or [] if child.type == "code_inline"]
            blocks = [one for one in code if one.split()[0] in OURS and len(one.split()) > 1 and "…" not in one]
        elif token.type in ("code_block", "fence") and token.info in ("", "console"):
            blocks = [] if place in examples else [token.content]
        else:
            continue
        found += [(place, words, len(sections) - 1) for block in blocks for words in lines_of(block)]
    return [Command(place, words, sections[at], " ".join(sections)) for place, words, at in found]


def pages() -> dict[str, str]:
    """The pages of the site, by their names."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [name for name in listed if not set(Path(name).with_suffix("").parts) & {".github", "decisions", "measurements"}]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in found if (ROOT / name).is_file()}


@lru_cache(maxsize=None)
def texts(*folders: str) -> list[str]:
    """The text of each file in these folders or files that runs something."""
    paths = [path for name in folders for path in (sorted((ROOT / name).rglob("*")) if (ROOT / name).is_dir() else [ROOT / name])]
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file() and not set(path.parts) & set(NOT_CODE)]


@lru_cache(maxsize=None)
def near(*names: str) -> list[str]:
    """What follows each mention of these names in the code that runs commands."""
    name = re.compile("|".join(map(re.escape, names)))
    return [text[match.start() : match.start() + NEAR] for text in texts(*RUNS) for match in name.finditer(text)]


@lru_cache(maxsize=None)
def targets() -> dict[str, str]:
    """The targets that `make help` lists, with their prerequisites and recipes."""
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rules = re.finditer(r"^([a-z][\w-]*):(?!=)(.*(?:\n\t.*)*)", "\n".join(texts("Makefile", "mk")), re.MULTILINE)
    return {rule[1]: rule[2] for rule in rules if "##" in rule[2] and re.search(rf"^  {rule[1]} ", listed, re.MULTILINE)}


@lru_cache(maxsize=None)
def nightly() -> set[str]:
    """The targets that `make test-all` comes to, and those whose script a test runs."""
    found, left = set(), ["test-all", "test", "help"]
    while left:
        name = left.pop()
        found.add(name)
        needs, _mark, rest = targets()[name].partition("##")
        calls = " ".join(re.findall(r"\$\(MAKE\)(.*)", needs + rest))
        left += [word for word in f"{needs} {calls}".split() if word in targets() and word not in found]
    scripts = {name: re.findall(r"tests/setup/\w+\.sh", text) for name, text in targets().items()}
    return found | {name for name, used in scripts.items() if any(script in text for script in used for text in texts("tests/setup"))}


def options(words: list[str]) -> list[str]:
    """What decides what a command does: its options without values, and the names that -e and -a set. Placeholders say nothing."""
    found = []
    for before, word in zip(["", *words], words):
        if before in ("-e", "--extra-vars", "-a"):
            found += re.findall(r"(?:^|\s)(\w+)=", word)
        elif word.startswith("-") and word not in ("-i", "-b", "-e", "-a", "-m"):
            found.append(word)
    return found


def word_in(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def exists(words: list[str]) -> bool:
    """Whether the program has this command with these options."""
    program, rest, wanted = words[0], words[1:], options(words)
    names = [word for word in wanted if not word.startswith("-")]
    name = next((word.rpartition(".")[2] for word in rest if word.startswith("hotpmem.fleet.")), "")
    if program == "make":
        variables = "\n".join(texts("Makefile", "mk", "tests/setup"))
        return all(word_in(word.split("=")[0], variables) if "=" in word else word in targets() for word in rest)
    if program == "hotpmem-node":
        usage = pages()["docs/reference/hotpmem-node.md"].partition(f"usage: hotpmem-node {rest[0]} ")[2].partition("```")[0]
        return rest == ["--help"] or rest[0] == "VERB" or (bool(usage) and all(word_in(word, usage) for word in wanted))
    if program == "pmem-state":
        return all(word_in(word, pages()["docs/pmem-state.md"]) for word in [rest[0], *wanted])
    if program == "ansible-playbook":
        code = "\n".join(texts("playbooks", "roles"))
        return (ROOT / f"playbooks/{name}.yml").exists() and all(word_in(one, code) for one in names)
    if program == "ansible" and name:
        module = (ROOT / f"plugins/modules/{name}.py").read_text(encoding="utf-8")
        return set(names) <= set(yaml.safe_load(module.split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"])
    return True


def is_run(command: Command) -> bool:
    """Whether a test or a scenario runs this."""
    program, rest, wanted, verb = command.words[0], command.words[1:], options(command.words), command.verb
    if program == "make":
        return all(word in nightly() for word in rest if "=" not in word)
    if program == "pmem-state":
        return all(any(word_in(word, text) for text in texts("tests/helper")) for word in [verb, *wanted])
    name = next((word for word in rest if word.startswith("hotpmem.fleet.")), "")
    if program in ("ansible-playbook", "ansible") and name:
        short = name.split(".")[2]
        runs = re.compile(rf"{name}\b|playbooks/{short}\.yml|\b{short}\(|play\(\"{short}\"")
        return any(runs.search(text) and all(word_in(one, text) for one in wanted) for text in texts(*RUNS))
    places = near("hotpmem-node", ".agent(", "node_agent_path") if program == "hotpmem-node" else near(program)
    places = [place for place in places if word_in(verb, place)] if verb else places
    return bool(places) and all(any(word_in(word, place) for place in places) for word in wanted)
