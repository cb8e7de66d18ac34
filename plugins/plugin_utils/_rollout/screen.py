# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines at the bottom of a terminal that change in place, while other output scrolls above them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping

_SECONDS = 1.0  # between two refreshes by the clock
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


def in_place(descriptor: int, environment: Mapping[str, str], wanted: str = "auto") -> bool:
    """Decide whether lines can change in place: on a terminal that is not dumb, without NO_COLOR and CI.

    wanted: ``auto``, or ``lines`` for never.
    """
    if wanted == "lines" or not os.isatty(descriptor):
        return False
    return environment.get("TERM", "") not in ("", "dumb") and not environment.get("NO_COLOR") and not environment.get("CI")


class Screen:
    """The lines. They are written with os.write: a child that Ansible forks must not inherit a lock of a Python file.

    lines: returns the lines for a width and a height. descriptor: of the terminal.
    """

    def __init__(self, lines: Callable[[int, int], list[str]], descriptor: int = 1) -> None:
        self._lines = lines
        self._descriptor = descriptor
        self._lock = threading.RLock()
        self._drawn = 0
        self._asleep = 0
        self._end = threading.Event()
        self._owner = os.getpid()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Draw, and again each second until stop()."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._tick, name="hotpmem rollout display", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Remove the lines for good. It may be called more than once."""
        self._end.set()
        with self._lock:
            self._erase()

    def _tick(self) -> None:
        while not self._end.wait(_SECONDS):
            with self._lock:
                self.draw()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the lines while somebody else writes to the terminal, or reads from it."""
        if os.getpid() != self._owner:
            yield  # a child of Ansible, which sends its output to the parent
            return
        with self._lock:
            self._erase()
            self._asleep += 1
        try:
            yield
        finally:
            with self._lock:
                self._asleep -= 1
                self.draw()

    def draw(self) -> None:
        """Draw the lines anew."""
        with self._lock:
            if self._asleep or self._end.is_set() or self._thread is None:
                return
            try:
                width, height = os.get_terminal_size(self._descriptor)
            except OSError:
                width, height = 80, 24
            lines = self._lines(width, max(min(height - 2, 30), 1))
            self._write(self._back() + _NO_WRAP + "\n".join(f"{line}\x1b[K" for line in lines) + _WRAP)
            self._drawn = len(lines)

    def _back(self) -> str:
        """The sequence that moves to the first line and clears from there on."""
        if not self._drawn:
            return ""
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        return f"\r{up}\x1b[J"

    def _erase(self) -> None:
        if self._drawn:
            self._write(self._back())
            self._drawn = 0

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                return  # the terminal is gone
