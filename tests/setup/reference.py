# SPDX-License-Identifier: GPL-3.0-or-later
"""The page docs/pmem-state.md: our introduction, then what `pmem-state --help` says. usage: reference.py BINARY [PAGE]"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "pmem-state.md"
INTRODUCTION = """\
# pmem-state: the command line

`pmem-state` copies files and directory trees into persistent memory before a reboot and puts them
back afterwards. The role `state_helper` installs it on a host, and the other roles and modules of
the collection call it; you can also run it by hand, for example to look at an image. It is a static
binary that needs no other software. [The state image](image-format.md) describes what it writes.

This page is written from `pmem-state --help`, and a test compares the two.
"""


def page(binary: str | Path) -> str:
    """The text of the page for a binary."""
    done = subprocess.run([str(binary), "--help"], capture_output=True, text=True, check=True)
    return f"{INTRODUCTION}\n```text\n{done.stdout}```\n"


if __name__ == "__main__":
    (Path(sys.argv[2]) if len(sys.argv) > 2 else PAGE).write_text(page(sys.argv[1]), encoding="utf-8")
