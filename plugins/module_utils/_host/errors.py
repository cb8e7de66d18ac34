# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions that the engine raises. Only a module turns them into fail_json()."""

from __future__ import annotations

import errno
import os
from typing import Any


def describe_errno(number: int) -> str:
    """Return the name of an errno and its text: ``EBUSY: Device or resource busy``."""
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?", ":")) else text + "."


class HotpmemError(Exception):
    """An operation failed. The message reads ``what: said. todo.``

    what: the operation that failed ("Cannot hot-remove dax0.0").
    said: what the kernel or a program answered ("memory block 37 ... EBUSY"), without a final full stop.
    todo: what the operator does next, as one or more sentences.
    details: machine-readable facts. The modules return them beside ``msg``.
    """

    def __init__(self, what: str, said: str, todo: str, **details: Any) -> None:
        self.what = what.strip().rstrip(":.")
        self.said = said.strip()
        self.todo = todo.strip()
        self.details = details
        super().__init__(f"{self.what}: {_sentence(self.said)} {_sentence(self.todo)}".strip())


def from_os_error(what: str, error: OSError, todo: str = "See dmesg for more") -> HotpmemError:
    """Make a HotpmemError of a system call that failed. It names the errno and the file."""
    said = describe_errno(error.errno) if error.errno else str(error)
    return HotpmemError(what, f"{error.filename}: {said}" if error.filename else said, todo)


class SystemCallError(HotpmemError):
    """A read or a write failed. The attribute ``errno`` holds the kernel's error number."""

    def __init__(self, what: str, number: int, todo: str, **details: Any) -> None:
        self.errno = number
        super().__init__(what, describe_errno(number), todo, errno=errno.errorcode.get(number, str(number)), **details)
