# SPDX-License-Identifier: GPL-3.0-or-later
"""A client outside the machine: asks memcached every 10 ms, each time over a new connection, and keeps when it was answered.

QEMU's user-mode network accepts a connection whether or not the machine is up, so that only an answer counts. A connection to a machine
that is down stays open inside QEMU for 75 s, whatever its client does: while nothing at all comes back, not even a refusal, questions
come ten times slower, or QEMU would run out of descriptors. A kernel that is up refuses at once until memcached listens, and with the
first refusal the pace is 10 ms again, well before the answer.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

KEY = "probe"
QUESTION = f"get {KEY}\r\n".encode()
END = b"END\r\n"
PACE = 0.010
SILENT_PACE = 0.100
SILENCE = 1.0  # seconds without any sign of the machine after which the pace is the slow one
PATIENCE = 2.0  # seconds until a question is given up


@dataclass(frozen=True)
class Answer:
    """When memcached answered, whether it still had the key, and how long before its question nobody had asked."""

    at: float
    hit: bool
    unasked: float


@dataclass(frozen=True)
class Gap:
    """The longest time between two answers. coarse: how much of it may be the pace of the questions; hit: the key survived it."""

    seconds: float
    coarse: float
    hit: bool


def longest_gap(answers: Sequence[Answer]) -> Gap:
    """The gap in answers, of which there must be two. Their order is that of their arrival."""
    _begin, first, last = max((after.at - before.at, after, before) for before, after in zip(answers, answers[1:]))
    return Gap(first.at - last.at, first.unasked, first.hit)


def store(port: int) -> None:
    """Give memcached the key that is asked for."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"set {KEY} 0 0 2\r\nok\r\n".encode())
        said = connection.recv(100)
    if said != b"STORED\r\n":
        raise OSError(f"memcached did not store a key: it answered {said!r}")


@dataclass
class Question:
    """One on its way."""

    asked: float
    unasked: float
    said: bytes = field(default=b"")


class Client(threading.Thread):
    """Asks 127.0.0.1:port until it is stopped; ``answers`` grows meanwhile. Use it in a with block."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.address = ("127.0.0.1", port)
        self.answers: list[Answer] = []
        self._selector = selectors.DefaultSelector()
        self._stopped = threading.Event()
        self._asked = 0.0
        self._heard = time.monotonic()  # when the machine last gave any sign: an answer, or a refusal

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()

    def answered_since(self, moment: float) -> bool:
        """Whether an answer came after this time.monotonic()."""
        return bool(self.answers) and self.answers[-1].at > moment

    def run(self) -> None:
        with self._selector:
            while not self._stopped.is_set():
                silent = time.monotonic() - self._heard > SILENCE
                wait = self._asked + (SILENT_PACE if silent else PACE) - time.monotonic()
                if wait <= 0:
                    self._ask()
                    self._give_up()
                for key, _events in self._selector.select(max(wait, 0)):
                    self._event(key.fileobj, key.data)  # type: ignore[arg-type]
            for key in list(self._selector.get_map().values()):
                self._close(key.fileobj)  # type: ignore[arg-type]

    def _ask(self) -> None:
        now = time.monotonic()
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(self.address)
        self._selector.register(connection, selectors.EVENT_WRITE, Question(now, now - self._asked))
        self._asked = now

    def _give_up(self) -> None:
        limit = time.monotonic() - PATIENCE
        for key in list(self._selector.get_map().values()):
            if key.data.asked < limit:
                self._close(key.fileobj)  # type: ignore[arg-type]

    def _event(self, connection: socket.socket, question: Question) -> None:
        """Send the question when the connection is there; then take the answer, or the refusal."""
        try:
            if self._selector.get_key(connection).events == selectors.EVENT_WRITE:
                connection.send(QUESTION)
                self._selector.modify(connection, selectors.EVENT_READ, question)
                return
            data = connection.recv(4096)
        except ConnectionRefusedError:
            # Nobody listens on this side: no sign of the machine.
            self._close(connection)
            return
        except OSError:
            data = b""
        self._heard = time.monotonic()
        question.said += data
        if question.said.endswith(END):
            self.answers.append(Answer(self._heard, question.said.startswith(b"VALUE "), question.unasked))
        if not data or question.said.endswith(END):
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()
