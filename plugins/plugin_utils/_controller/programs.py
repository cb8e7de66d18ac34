# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs an operator's command on the controller, and tries a TCP connection from there."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """How a command ended. error says why it could not run, or did not end."""

    rc: int = 0
    stdout: str = ""
    stderr: str = ""
    error: str = ""


def run(argv: Sequence[str], timeout: float, environment: Mapping[str, str]) -> Ended:
    """Run a command. After timeout seconds, end it and the processes that it started."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    except OSError as error:
        return Ended(rc=127, error=f"it could not be started ({error.strerror})")
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
        return Ended(rc=124, error=f"it did not end within {timeout:g} s and was stopped")
    return Ended(process.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"))


def unreached(error: BaseException, timeout: float) -> str:
    """Why a connection failed, in words. Empty for any other reason."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, socket.gaierror):
        return "the name of the host could not be resolved"
    return ""


def connect(host: str, port: int, timeout: float) -> str:
    """Try a TCP connection. Returns the empty string, or the reason why it failed."""
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return ""
    except OSError as error:
        return unreached(error, timeout) or f"the connection failed ({error.strerror or error})"
