# SPDX-License-Identifier: GPL-3.0-or-later
"""A build step: a command that takes a while, its output in a file, its progress in lines."""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path

from . import progress
from .errors import LabError

QUIET = 15.0
"""Seconds without output after which a line says that the work goes on."""


def as_root() -> list[str]:
    """How to run what needs root: as it is, or through sudo."""
    return [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]


def run(what: str, command: list[str], log: Path, prefix: list[str] | None = None) -> None:
    """Run prefix + command (a step of building `what`) with its output in `log`.

    A line of progress for each of mmdebstrap's own steps, and for each QUIET seconds without one.
    """
    env = {**os.environ, "LC_ALL": "C", "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    name = step = os.path.basename(command[0])
    with open(log, "wb") as handle:
        process = subprocess.Popen([*(prefix or []), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
        assert process.stdout is not None
        begin, pending = time.monotonic(), b""
        try:
            while True:
                if not select.select([process.stdout], [], [], QUIET)[0]:
                    progress.say(f"{what}: still {step} ({time.monotonic() - begin:.0f} s)")
                    continue
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    break
                handle.write(data)
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"I: ") and line.endswith(b"..."):
                        begin, step = time.monotonic(), line[3:-3].decode(errors="replace")
                        progress.say(f"{what}: {step}")
        except BaseException:
            process.terminate()
            raise
        finally:
            # The end of its output is not yet the end of the process: it is waited for, not hurried.
            process.wait()
    if process.returncode:
        tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-25:])
        raise LabError(
            f"Building the {what}: {name} failed with status {process.returncode}",
            tail.rstrip(),
            "Is the package mirror reachable (apt-get update)? HOTPMEM_DEBIAN_MIRROR names another one.",
        )
