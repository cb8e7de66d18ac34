# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the sessions and the inhibitors of systemd-logind.

busctl asks the D-Bus interface (org.freedesktop.login1(5)) and prints JSON. loginctl and systemd-inhibit
would show the same, but ``systemd-inhibit --list`` prints only a table, whose columns depend on the width of
the terminal, and ``loginctl --output=json`` has other keys in each version.
"""

from __future__ import annotations

import datetime
import json
import re
from typing import Any, Dict, List, Optional

from .errors import HotpmemError
from .programs import Runner
from .sysfs import Sysfs

_SERVICE = "org.freedesktop.login1"
_MANAGER = ["/org/freedesktop/login1", f"{_SERVICE}.Manager"]
_PROPERTIES = ("TTY", "Timestamp", "Class", "State")
_OWN = re.compile(r"/session-([^/]+)\.scope(?:/|$)", re.MULTILINE)
_WHO = re.compile(r"^(\S+)\s+(\S+)\s+\S")
_TIMEOUT = 20.0


def values(output: str) -> List[Any]:
    """The values in the output of ``busctl --json=short``: one object a line. Raises ValueError."""
    found = []
    for line in output.splitlines():
        value = json.loads(line)
        if not isinstance(value, dict) or "data" not in value:
            raise ValueError(f"a line is not a value: {line[:80]}")
        found.append(value["data"])
    return found


def rows_in(output: str) -> List[Any]:
    """The rows of a method that returns one array. Raises ValueError."""
    (answer,) = values(output)
    (rows,) = answer
    return list(rows)


def inhibitors_in(output: str) -> List[Dict[str, str]]:
    """``who``, ``what``, ``why`` and ``mode`` of each inhibitor, from the answer of ListInhibitors. Raises ValueError."""
    rows = rows_in(output)
    return [{"who": str(who), "what": str(what), "why": str(why), "mode": str(mode)} for what, who, why, mode, _uid, _pid in rows]


def session_in(user: str, output: str) -> Optional[Dict[str, Any]]:
    """``user``, ``tty`` and ``since`` of a session, from its properties. None for a session that nobody uses.

    Not of a user: a greeter, cron, the service manager of a user. Closing: the user has logged out, and
    processes go on. Raises ValueError.
    """
    tty, began, kind, state = values(output)
    if not str(kind).startswith("user") or state == "closing":
        return None
    since = datetime.datetime.fromtimestamp(int(began) / 1e6, datetime.timezone.utc)
    return {"user": user, "tty": str(tty) or None, "since": since.strftime("%Y-%m-%dT%H:%M:%SZ")}


def who_sessions(output: str) -> List[Dict[str, Any]]:
    """The sessions in the output of who(1). It does not print a year, so ``since`` is null."""
    rows = [_WHO.match(line) for line in output.splitlines()]
    return [{"user": row[1], "tty": row[2], "since": None} for row in rows if row]


class Logind:
    """systemd-logind of one host. ``warnings`` collects what could not be read."""

    def __init__(self, sysfs: Sysfs, runner: Runner) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.warnings: List[str] = []

    def inhibitors(self) -> List[Dict[str, str]]:
        """All inhibitors; empty when they can't be read."""
        try:
            return inhibitors_in(self._call("ListInhibitors"))
        except (HotpmemError, ValueError, TypeError) as error:
            self.warnings.append(f"The inhibitors can't be read: {_said(error)}.")
            return []

    def sessions(self) -> List[Dict[str, Any]]:
        """The sessions of users, except the one in which this process runs."""
        own = self._own()
        found = []
        try:
            for number, _uid, user, _seat, path in rows_in(self._call("ListSessions")):
                session = self._session(str(user), str(path)) if number != own else None
                if session:
                    found.append(session)
            return found
        except (HotpmemError, ValueError, TypeError) as error:
            said = _said(error)
        try:
            return who_sessions(self.runner.check(["who"], "Cannot list the users", "Run who by hand", timeout=_TIMEOUT).stdout)
        except HotpmemError as error:
            self.warnings.append(f"The sessions can't be read: {said}; {error.said}.")
            return []

    def _session(self, user: str, path: str) -> Optional[Dict[str, Any]]:
        argv = ["busctl", "--json=short", "get-property", _SERVICE, path, f"{_SERVICE}.Session", *_PROPERTIES]
        done = self.runner.run(argv, timeout=_TIMEOUT)
        # A session may end while it is asked for.
        return session_in(user, done.stdout) if done.rc == 0 else None

    def _call(self, method: str) -> str:
        argv = ["busctl", "--json=short", "call", _SERVICE, *_MANAGER, method]
        return self.runner.check(argv, "Cannot ask systemd-logind", "See systemctl status systemd-logind", timeout=_TIMEOUT).stdout

    def _own(self) -> str:
        """The session of this process, which is that of the play; empty when it has none."""
        found = _OWN.search(self.sysfs.get("/proc/self/cgroup"))
        return found[1] if found else ""


def _said(error: Exception) -> str:
    return error.said if isinstance(error, HotpmemError) else f"busctl printed something unexpected ({error})"
