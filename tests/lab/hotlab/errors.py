# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception the lab raises for what an operator can act on."""

from __future__ import annotations


class LabError(Exception):
    """What was being done, what the system answered, what to do next: in that order, in one message."""

    def __init__(self, what: str, said: str = "", todo: str = "") -> None:
        self.what, self.said, self.todo = what, said, todo
        super().__init__("\n".join(part for part in (what, said, todo) if part))
