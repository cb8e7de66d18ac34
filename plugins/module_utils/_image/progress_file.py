# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that shows how far a copy of pmem-state is."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Callable

from .._host.replace_file import replace_file

PROGRESS = "/run/hotpmem/progress.json"
_PROGRESS_STEP = 1.0  # seconds between two writes of the progress file


class ProgressFile:
    """Writes the newest progress line to a file, because an Ansible module cannot stream its output.

    The file holds one JSON object: the helper's progress (phase, bytes_done, bytes_total, percent, rate
    in bytes/s, eta_seconds), and ``verb`` and ``pid``. The file is replaced atomically, at most once a
    second, and removed at the end.
    """

    def __init__(self, path: str = PROGRESS, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.clock = clock
        self.written = float("-inf")

    def take(self, verb: str, line: str) -> None:
        """Write a line of the helper's output to the file, if it is a progress line. Errors are ignored."""
        if self.clock() - self.written < _PROGRESS_STEP:
            return
        try:
            value = json.loads(line)
            if not isinstance(value, dict) or value.get("event") != "progress":
                return
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            replace_file(self.path, json.dumps(dict(value, verb=verb, pid=os.getpid())))
            self.written = self.clock()
        except (OSError, ValueError):
            return

    def remove(self) -> None:
        """Remove the file. Errors are ignored."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
