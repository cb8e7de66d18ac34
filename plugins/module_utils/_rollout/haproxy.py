# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains a server of HAProxy through its runtime socket, and puts it back.

https://docs.haproxy.org/2.6/management.html#9.3 describes the commands.
"""

from __future__ import annotations

import csv
import io
import socket
import time
from typing import Callable, Dict, List, NamedTuple, Tuple

from .._host.errors import HotpmemError

FORCED_MAINT = 0x01  # srv_admin_state: an operator put the server into maintenance
FORCED_DRAIN = 0x08  # srv_admin_state: drained through the socket
LONGEST = 16 * 1024 * 1024


class Server(NamedTuple):
    """A server in a backend."""

    backend: str
    name: str
    admin: int
    sessions: int
    status: str

    @property
    def in_maintenance(self) -> bool:
        return bool(self.admin & FORCED_MAINT)

    @property
    def drained(self) -> bool:
        return bool(self.admin & FORCED_DRAIN)

    @property
    def serves(self) -> bool:
        """Whether HAProxy sends new requests to it. Without health checks the status is "no check"."""
        return self.status.split(" ")[0] == "UP" or self.status == "no check"


class Talker:
    """Sends one command on each connection, as the socket expects it without the prompt."""

    def __init__(self, path: str, timeout: float = 10.0) -> None:
        self.path = path
        self.timeout = timeout

    def _connect(self) -> socket.socket:
        if self.path.startswith("/"):
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            found.settimeout(self.timeout)
            try:
                found.connect(self.path)
            except OSError:
                found.close()
                raise
            return found
        host, _colon, port = self.path.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=self.timeout)

    def __call__(self, command: str) -> str:
        """The answer to a command."""
        until = time.monotonic() + self.timeout
        parts: List[bytes] = []
        try:
            with self._connect() as connection:
                connection.sendall(command.encode() + b"\n")
                while True:
                    connection.settimeout(max(until - time.monotonic(), 0.01))
                    part = connection.recv(65536)
                    if not part:
                        break
                    parts.append(part)
                    if sum(map(len, parts)) > LONGEST:
                        raise HotpmemError(f"Cannot ask HAProxy at {self.path}", "its answer is too long", "Is this the socket of HAProxy?")
        except socket.timeout:
            raise HotpmemError(
                f"Cannot ask HAProxy at {self.path}", f"no complete answer within {self.timeout:g} s", "Check that HAProxy runs"
            ) from None
        except OSError as error:
            raise HotpmemError(
                f"Cannot ask HAProxy at {self.path}",
                error.strerror or str(error),
                "Check the key socket of the hook, that HAProxy runs, and that 'stats socket' in its configuration says 'level admin'",
            ) from None
        return b"".join(parts).decode("utf-8", "replace").strip()


def _rows(answer: str) -> List[Dict[str, str]]:
    """The rows of an answer that starts with a line of names."""
    return [dict(row) for row in csv.DictReader(io.StringIO(answer)) if row]


def parse(state: str, stat: str, path: str) -> List[Server]:
    """The servers in the answers to "show servers state" and "show stat"."""
    admins: Dict[Tuple[str, str], int] = {}
    lines = [line for line in state.splitlines() if line.strip()]
    header = next((line for line in lines if line.startswith("# ")), "")
    names = header[2:].split()
    for line in lines:
        words = line.split()
        if names and not line.startswith("#") and len(words) >= len(names):
            row = dict(zip(names, words))
            admins[row["be_name"], row["srv_name"]] = int(row["srv_admin_state"])
    found = []
    try:
        for row in _rows(stat.lstrip("# ")):
            key = (row["pxname"], row["svname"])
            if key in admins:
                found.append(Server(key[0], key[1], admins[key], int(row["scur"] or 0), row["status"]))
    except (KeyError, ValueError, TypeError):
        found = []
    if not names or (admins and not found):
        said = " ".join((state if not names else stat).split())[:200]
        raise HotpmemError(
            f"Cannot read the servers of HAProxy at {path}", f"it answered {said!r}", "The socket needs 'level admin' in its configuration"
        )
    return found


class Balancer:
    """The servers with one name, in one backend or in all of them."""

    def __init__(self, talk: Callable[[str], str], path: str, server: str, backend: str) -> None:
        self.talk = talk
        self.path = path
        self.server = server
        self.backend = backend

    def servers(self) -> List[Server]:
        """The servers; fails when HAProxy has none of this name."""
        known = parse(self.talk("show servers state"), self.talk("show stat -1 4 -1"), self.path)
        found = [one for one in known if one.name == self.server and self.backend in ("", one.backend)]
        if not found:
            names = ", ".join(sorted(f"{one.backend}/{one.name}" for one in known)[:10]) or "none"
            raise HotpmemError(
                f"Cannot find the server {self.server} of HAProxy at {self.path}",
                f"it is not in {'backend ' + self.backend if self.backend else 'any backend'} (known servers: {names})",
                "Set the key server of the hook to the name that HAProxy's configuration gives to this host",
            )
        return found

    def set_state(self, one: Server, state: str) -> None:
        """Set the state of a server. HAProxy answers nothing when it has done so."""
        said = self.talk(f"set server {one.backend}/{one.name} state {state}")
        if said:
            raise HotpmemError(
                f"Cannot set the server {one.backend}/{one.name} to {state} through {self.path}",
                f"HAProxy answered {' '.join(said.split())[:200]!r}",
                "The socket needs 'level admin' in its configuration",
            )
