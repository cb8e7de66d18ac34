# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs: one environment, one deadline, output in full, nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Callable, Optional, Sequence

from ._errors import HotpmemError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Debian's names; the package that holds a tool has the same name elsewhere but for kexec-tools.
_PACKAGES = {
    "ndctl": "ndctl",
    "daxctl": "daxctl",
    "kexec": "kexec-tools",
    "modprobe": "kmod",
    "blkid": "util-linux",
    "systemctl": "systemd",
}

_GRACE = 5.0  # seconds between SIGTERM and SIGKILL at a deadline


@dataclass(frozen=True)
class Completed:
    """A program that ended. ``rc`` is negative when a signal ended it."""

    argv: Sequence[str]
    rc: int
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        """What it said, for an error message: standard error, else standard output, else the exit code."""
        text = self.stderr.strip() or self.stdout.strip() or "it said nothing"
        return f"{os.path.basename(self.argv[0])} ended with {self.rc}: {text}"


class ToolMissing(HotpmemError):
    """The program isn't installed."""


class TimedOut(HotpmemError):
    """The program was ended at its deadline. ``.completed`` holds what it had said."""

    completed: Completed


class Runner:
    """Runs programs on this machine. Tests replace it by one that records."""

    def which(self, name: str) -> Optional[str]:
        """Where the program is, or None."""
        if os.sep in name:
            return name if os.access(name, os.X_OK) and not os.path.isdir(name) else None
        return shutil.which(name, path=SEARCH_PATH)

    def run(self, argv: Sequence[str], timeout: Optional[float] = None, on_line: Optional[Callable[[str], None]] = None) -> Completed:
        """Run argv and wait. timeout: seconds. on_line gets each line of standard output as it comes.

        Raises ToolMissing, TimedOut after SIGTERM and, five seconds later, SIGKILL to its whole process group, or HotpmemError when the
        system can't start it.
        """
        program = self.which(argv[0])
        if program is None:
            package = _PACKAGES.get(argv[0])
            raise ToolMissing(
                f"Cannot run {argv[0]}",
                "it is not installed",
                f"Install the package {package}" if package else f"Install {argv[0]}, or give its path",
                missing=argv[0],
            )
        env = dict(os.environ, LC_ALL="C", LANGUAGE="C", PATH=SEARCH_PATH)
        try:
            # Not as a context manager: leaving one waits for ever for a child that ignores its end.
            child = subprocess.Popen(  # pylint: disable=consider-using-with
                [program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            raise _not_run(program, argv, error) from error
        ended = False
        try:
            out, err, ended = _collect(child, timeout, on_line)
        except OSError as error:
            raise _not_run(program, argv, error) from error
        finally:
            if not ended:
                _end(child)
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        completed = Completed(tuple(argv), child.returncode, out, err)
        if not ended:
            said = err.strip() or out.strip() or "nothing"
            error = TimedOut(
                f"Cannot finish {' '.join(argv)}",
                f"it was still running after {timeout:g} s and was ended; so far it said: {said[-500:]}",
                "Raise the timeout when it was making progress",
                timeout=timeout,
                argv=list(argv),
            )
            error.completed = completed
            raise error
        return completed

    def check(self, argv: Sequence[str], what: str, todo: str, timeout: Optional[float] = None) -> Completed:
        """run(), and HotpmemError when it doesn't end with 0."""
        done = self.run(argv, timeout=timeout)
        if done.rc != 0:
            raise HotpmemError(what, done.words, todo, argv=list(argv), rc=done.rc, stdout=done.stdout, stderr=done.stderr)
        return done


def _not_run(program: str, argv: Sequence[str], error: OSError) -> HotpmemError:
    """The error for a system call that failed at the start of a program, or while its output was read."""
    todo = "Try again when the machine has memory, processes and open files to spare"
    if error.errno == errno.ENOEXEC:
        todo = "Install the one made for this machine"
    return HotpmemError(f"Cannot run {program}", error.strerror or str(error), todo, argv=list(argv))


def _collect(child: subprocess.Popen, timeout: Optional[float], on_line: Optional[Callable[[str], None]]) -> tuple:
    """Read both pipes until they close. Returns (stdout, stderr, ended before the deadline)."""
    deadline = None if timeout is None else time.monotonic() + timeout
    texts = {child.stdout: bytearray(), child.stderr: bytearray()}
    reported = 0
    in_time = True
    with selectors.DefaultSelector() as selector:
        for pipe in texts:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and in_time:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                in_time = False
                break
            for key, _events in selector.select(left):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                texts[key.fileobj] += data
            if on_line is not None:
                lines = texts[child.stdout]
                while (end := lines.find(b"\n", reported)) >= 0:
                    on_line(lines[reported:end].decode("utf-8", "surrogateescape"))
                    reported = end + 1
    if in_time:
        try:
            child.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            in_time = False
    out, err = (texts[pipe].decode("utf-8", "surrogateescape") for pipe in (child.stdout, child.stderr))
    return out, err, in_time


def _end(child: subprocess.Popen) -> None:
    """SIGTERM to the child's process group, SIGKILL when that isn't enough; reaps it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        try:
            child.wait(_GRACE)
            return
        except subprocess.TimeoutExpired:
            continue
