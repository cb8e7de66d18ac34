# SPDX-License-Identifier: GPL-3.0-or-later
"""Pid files that can be trusted: a pid together with its start time, so that a number used again is never taken for ours."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid` (field 22 of proc(5) stat); None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def record(pid_file: Path, pid: int) -> None:
    """Write the pid on the first line and its start time on the second."""
    new = pid_file.with_suffix(".new")
    new.write_text(f"{pid}\n{start_time(pid)}\n")
    new.rename(pid_file)


def running(pid_file: Path) -> int | None:
    """The pid recorded in `pid_file` while that very process still runs and works in the file's folder; else None."""
    try:
        pid, started = (int(word) for word in pid_file.read_text().split())
    except (OSError, ValueError):
        return None
    if start_time(pid) != started:
        return None
    with contextlib.suppress(OSError):
        if str(pid_file.parent).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def end(pid_file: Path, patience: float = 10.0) -> bool:
    """End the recorded process, if it is still that one, and remove the file. True when there was one to end.

    SIGTERM lets QEMU flush its disks; SIGKILL follows after `patience` seconds.
    """
    pid = running(pid_file)
    ended = False
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                # Looked at again behind the handle: from here on the number can't become someone else's.
                if running(pid_file) == pid:
                    ended = True
                    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, patience)):
                        signal.pidfd_send_signal(handle, number)
                        if select.select([handle], [], [], seconds)[0]:
                            break
            finally:
                os.close(handle)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    pid_file.unlink(missing_ok=True)
    return ended
