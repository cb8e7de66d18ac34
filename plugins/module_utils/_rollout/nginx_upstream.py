# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks a server of an nginx upstream as down in its configuration, and takes the mark away again."""

from __future__ import annotations

import re
from typing import List, NamedTuple

MARK = "# drained by hotpmem.fleet"
# server ADDRESS [parameters]; with the mark behind it. https://nginx.org/en/docs/http/ngx_http_upstream_module.html#server
LINE = re.compile(r"^(?P<indent>[ \t]*)server[ \t]+(?P<address>[^\s;]+)(?P<rest>[^;\n]*);(?P<after>[^\n]*)$", re.MULTILINE)


class Edited(NamedTuple):
    """The new text. found: lines of the server; down: lines that were down already, and that somebody else wrote so."""

    text: str
    found: int
    down: int


def edit(text: str, server: str, drained: bool) -> Edited:
    """Drain the server in every upstream of a file, or end the drain. A server that somebody else set to down stays down."""
    counts = {"found": 0, "down": 0}

    def line(match: re.Match[str]) -> str:
        if match["address"] != server:
            return match[0]
        counts["found"] += 1
        marked = MARK in match["after"]
        words = match["rest"].split()
        if "down" in words and not marked:
            counts["down"] += 1
            return match[0]
        if drained == marked:
            return match[0]
        if drained:
            return f"{match['indent']}server {server}{match['rest'].rstrip()} down; {MARK}{match['after']}"
        rest = re.sub(r"[ \t]+down$", "", match["rest"])
        after = match["after"].replace(f" {MARK}", "", 1)
        return f"{match['indent']}server {server}{rest};{after}"

    return Edited(LINE.sub(line, text), counts["found"], counts["down"])


def servers(text: str) -> List[str]:
    """The addresses in a file."""
    return [match["address"] for match in LINE.finditer(text)]
