# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's own exception. Only modules turn it into fail_json()."""

from __future__ import annotations

import errno
import os
from typing import Any


def describe_errno(number: int) -> str:
    """EBUSY with its sentence: ``EBUSY: Device or resource busy``."""
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?", ":")) else text + "."


class HotpmemError(Exception):
    """Something could not be done.

    what: what was being done ("Cannot hot-remove dax0.0").
    said: what the system answered ("memory block 37 ... EBUSY").
    todo: what the operator does next.
    details: machine-readable parts, returned beside ``msg`` by the modules.
    """

    def __init__(self, what: str, said: str, todo: str, **details: Any) -> None:
        self.what = what.strip().rstrip(":.")
        self.said = said.strip()
        self.todo = todo.strip()
        self.details = details
        super().__init__(f"{self.what}: {_sentence(self.said)} {_sentence(self.todo)}".strip())


def from_os_error(what: str, error: OSError, todo: str = "dmesg may say more") -> HotpmemError:
    """A HotpmemError that says what system call failed, and on which file."""
    said = describe_errno(error.errno) if error.errno else str(error)
    return HotpmemError(what, f"{error.filename}: {said}" if error.filename else said, todo)


class SystemCallError(HotpmemError):
    """The kernel answered a read or a write with an errno (``.errno``, a number)."""

    def __init__(self, what: str, number: int, todo: str, **details: Any) -> None:
        self.errno = number
        super().__init__(what, describe_errno(number), todo, errno=errno.errorcode.get(number, str(number)), **details)
