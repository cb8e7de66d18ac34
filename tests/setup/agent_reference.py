# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/reference/hotpmem-node.md from the help texts of hotpmem-node.

Usage: agent_reference.py [FILE]. A unit test fails when the page no longer says what the parser says.
"""

from __future__ import annotations

import os
import re
import sys
import types
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "reference" / "hotpmem-node.md"
WIDTH = "80"
HEAD = """\
<!-- Written by tests/setup/agent_reference.py from the program's own help. Do not edit by hand. -->

# hotpmem-node

This page holds what `hotpmem-node --help` and `hotpmem-node VERB --help` print. The
[role node_agent](../../roles/node_agent/README.md) installs the program on a host as
`/usr/local/sbin/hotpmem-node`. How the verbs work together is described under
[Handoff](handoff.md) and [Units](units.md).

Run all verbs as root. With `--json` a verb prints one JSON object, which
[Errors and exit codes](errors.md#hotpmem-node) describes.
"""


def provide_collection() -> None:
    """Let the agent import its engine from this checkout, unless something else has arranged that."""
    for name, path in (
        ("ansible_collections", []),
        ("ansible_collections.hotpmem", []),
        ("ansible_collections.hotpmem.fleet", [str(CHECKOUT)]),
    ):
        module = sys.modules.setdefault(name, types.ModuleType(name))
        module.__path__ = path + [entry for entry in getattr(module, "__path__", []) if entry not in path]


def helps() -> dict[str, str]:
    """The help of the program, and of each verb. The exit codes are in the first one only."""
    provide_collection()
    agent = str(CHECKOUT / "roles" / "node_agent" / "files")
    if agent not in sys.path:
        sys.path.insert(0, agent)
    from hotpmem_node.answer import EXITS
    from hotpmem_node.cli import VERBS, parser

    top = parser()
    verbs = next(action.choices for action in top._actions if isinstance(action.choices, dict))
    missing = set(VERBS) ^ set(verbs)
    if missing:
        raise SystemExit(f"the parser and the table of verbs disagree about {', '.join(sorted(missing))}")
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH  # argparse reads it when it formats
    try:
        texts = {"hotpmem-node": top.format_help()}
        for name, verb in verbs.items():
            texts[f"hotpmem-node {name}"] = verb.format_help().replace(EXITS, "")
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return {name: text.strip() for name, text in texts.items()}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, text in helps().items():
        title = "The program" if name == "hotpmem-node" else f"`{name}`"
        parts.append(f"## {title}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def same(one: str, other: str) -> bool:
    """Whether two pages differ in nothing but white space: Python's versions break lines in different places."""
    return re.sub(r"\s+", "", one) == re.sub(r"\s+", "", other)


def main(argv: list[str]) -> int:
    """Entry point."""
    target = Path(argv[0]) if argv else PAGE
    target.write_text(page(), encoding="utf-8")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
