# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress lines, each with the seconds since the command started, so that a quiet minute can be placed."""

from __future__ import annotations

import sys
import time

_START = time.monotonic()


def say(text: str) -> None:
    """One line to standard error (standard output is for results)."""
    print(f"lab {time.monotonic() - _START:6.1f} s  {text}", file=sys.stderr, flush=True)
