# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs with a fixed environment and a deadline.

A program gets LC_ALL=C and a fixed PATH. The runner returns its complete output. At the deadline,
it ends the program and every process that the program started.
"""

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
from typing import IO, Callable, Optional, Sequence, Set, Tuple, cast

from .errors import HotpmemError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Package names in Debian. The other distributions use the same names, except for kexec-tools.
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
    """A program that has exited.

    rc: the exit code. It is negative when a signal killed the program: -9 for SIGKILL.
    """

    argv: Sequence[str]
    rc: int
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        """Describe the result for an error message: the exit code, then standard error or else
        standard output.
        """
        end = f"exited with code {self.rc}" if self.rc >= 0 else f"was killed by signal {-self.rc}"
        text = self.stderr.strip() or self.stdout.strip()
        return f"{os.path.basename(self.argv[0])} {end}" + (f": {text}" if text else " and printed no message")


# File descriptors that programs inherit: those of the locks that this process holds (host_lock.py).
KEPT_OPEN: Set[int] = set()


class ToolMissing(HotpmemError):
    """The program is not installed."""


class TimedOut(HotpmemError):
    """The program did not finish before its deadline and was stopped.

    ``completed`` holds its output so far.
    """

    completed: Completed


class Runner:
    """Runs programs on this machine. Tests replace it with a runner that records the commands."""

    def which(self, name: str) -> Optional[str]:
        """Return the path of a program, or None when it is not installed.

        name: a program name or a path.
        """
        if os.sep in name:
            return name if os.access(name, os.X_OK) and not os.path.isdir(name) else None
        return shutil.which(name, path=SEARCH_PATH)

    def run(self, argv: Sequence[str], timeout: Optional[float] = None, on_line: Optional[Callable[[str], None]] = None) -> Completed:
        """Run a program and wait until it exits.

        timeout: seconds; None waits without limit. on_line: called with each line of standard
        output as the program prints it.

        Raises ToolMissing when the program is not installed, and HotpmemError when the system
        cannot execute it. At the deadline, the process group gets SIGTERM and, five seconds later, SIGKILL;
        then TimedOut is raised. A nonzero exit code raises nothing: see check().
        """
        program = self.which(argv[0])
        if program is None:
            package = _PACKAGES.get(argv[0])
            raise ToolMissing(
                f"Cannot run {argv[0]}",
                f"{argv[0]} is not installed",
                f"Install the package {package}" if package else f"Install {argv[0]}, or give its path",
                missing=argv[0],
            )
        child = _start(program, argv)
        # Popen has both pipes, because both were asked for.
        pipes = cast("IO[bytes]", child.stdout), cast("IO[bytes]", child.stderr)
        ended = False
        try:
            out, err, ended = _collect(child, pipes, timeout, on_line)
            if not ended:
                _end(child)
                # What it printed because of the signal is its last word.
                out, err = out + _rest(pipes[0]), err + _rest(pipes[1])
        except OSError as error:
            raise _not_run(program, argv, error) from error
        finally:
            if child.returncode is None:
                _end(child)
            for pipe in pipes:
                pipe.close()
        completed = Completed(tuple(argv), child.returncode, out, err)
        if not ended:
            raise _late(completed, timeout)
        return completed

    def check(self, argv: Sequence[str], what: str, todo: str, timeout: Optional[float] = None) -> Completed:
        """Run a program as run() does, and raise HotpmemError with what and todo when its exit code
        is not 0.
        """
        done = self.run(argv, timeout=timeout)
        if done.rc != 0:
            raise HotpmemError(what, done.words, todo, argv=list(argv), rc=done.rc, stdout=done.stdout, stderr=done.stderr)
        return done


def _start(program: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a program in its own session. Raises HotpmemError when the system cannot execute it."""
    try:
        # Not as a context manager: its exit would wait forever for a child that ignores SIGTERM.
        # Not with run_command() of AnsibleModule: the agent runs this code on hosts that have no Ansible.
        return subprocess.Popen(  # pylint: disable=consider-using-with,ansible-bad-function
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL="C", LANGUAGE="C", PATH=SEARCH_PATH),
            start_new_session=True,
            pass_fds=tuple(KEPT_OPEN),
        )
    except OSError as error:
        raise _not_run(program, argv, error) from error


def _late(completed: Completed, timeout: Optional[float]) -> TimedOut:
    """The error for a program that was stopped at its deadline. completed: what it printed until then."""
    text = completed.stderr.strip() or completed.stdout.strip()
    printed = f"its last output was: {text[-500:]}" if text else "it had printed nothing"
    late = TimedOut(
        f"Cannot complete the command {' '.join(completed.argv)}",
        f"it was still running after {timeout:g} s and was stopped; {printed}",
        "If the command was making progress, increase the timeout",
        timeout=timeout,
        argv=list(completed.argv),
    )
    late.completed = completed
    return late


def _not_run(program: str, argv: Sequence[str], error: OSError) -> HotpmemError:
    """The error for a system call that failed while a program was started, or while its output was read."""
    todo = "Try again when the machine has enough free memory, processes and open files"
    if error.errno == errno.ENOEXEC:
        todo = "The program was built for another architecture: install the build for this machine"
    return HotpmemError(f"Cannot run {program}", error.strerror or str(error), todo, argv=list(argv))


def _collect(
    child: subprocess.Popen[bytes],
    pipes: Tuple[IO[bytes], IO[bytes]],
    timeout: Optional[float],
    on_line: Optional[Callable[[str], None]],
) -> Tuple[str, str, bool]:
    """Read both pipes until they close.

    Returns (stdout, stderr, whether the child exited before the deadline).
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    texts = (bytearray(), bytearray())
    reported = 0
    in_time = True
    with selectors.DefaultSelector() as selector:
        for pipe, text in zip(pipes, texts):
            selector.register(pipe, selectors.EVENT_READ, text)
        while selector.get_map() and in_time:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                in_time = False
                break
            for key, _events in selector.select(left):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                key.data.extend(data)
            if on_line is not None:
                lines = texts[0]
                while (end := lines.find(b"\n", reported)) >= 0:
                    on_line(lines[reported:end].decode("utf-8", "surrogateescape"))
                    reported = end + 1
    if in_time:
        try:
            child.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            in_time = False
    return texts[0].decode("utf-8", "surrogateescape"), texts[1].decode("utf-8", "surrogateescape"), in_time


def _rest(pipe: IO[bytes]) -> str:
    """What is left to read, without waiting: a process that the program has started may keep the pipe open."""
    os.set_blocking(pipe.fileno(), False)
    text = bytearray()
    with contextlib.suppress(BlockingIOError):
        while data := os.read(pipe.fileno(), 65536):
            text += data
    return text.decode("utf-8", "surrogateescape")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the child's process group, then SIGKILL if the child is still running, and reap it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        try:
            child.wait(_GRACE)
            return
        except subprocess.TimeoutExpired:
            continue
