# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one lock of a host: nothing else acts on its memory, its image or its loaded kernel while somebody holds it.

There are two kinds. ``acting`` is a flock(2) that a module or a verb holds while it acts; the kernel drops it when the process ends.
``claimed`` covers a whole cycle, between whose steps nobody acts. It is a record of a live process, the handoff. Only the steps that
name the same run may act meanwhile. When that process is dead, the claim counts for nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable, Iterator, Optional, TextIO

from .errors import HotpmemError
from .programs import KEPT_OPEN
from .records import RUN, Records
from .sysfs import Sysfs

LOCK = f"{RUN}/lock"
CLAIM = f"{RUN}/claim.json"
# The restore at boot (restore.sh) holds this one. It starts before Python may.
RESTORE_LOCK = f"{RUN}/restore.lock"
_POLL = 0.1  # seconds between two tries


@dataclass(frozen=True)
class Owner:
    """Who holds a host.

    pid, started: the process, and when it began in clock ticks since boot (proc(5), stat, field 22). A later process with the same
    number has another start. who: the person and the controller. since: UTC, ISO 8601. run: the id of the run. doing: what it does.
    """

    pid: int
    started: int
    who: str
    since: str
    run: str
    doing: str

    @property
    def words(self) -> str:
        """For a message."""
        run = f", run {self.run}" if self.run else ""
        return f"{self.who or 'somebody'} holds this host since {self.since} for {self.doing} (process {self.pid}{run})"


class Busy(HotpmemError):
    """Somebody else holds the host. Nothing was changed."""

    def __init__(self, owner: Optional[Owner]) -> None:
        said = owner.words if owner else "another process of hotpmem.fleet holds this host"
        todo = "Nothing was changed. Wait until it ends: hotpmem-node status shows who holds the host"
        super().__init__("Cannot act on this host", said, todo, owner=asdict(owner) if owner else None)


class HostLock:
    """The lock of the host below the root of sysfs. clock, pause: in seconds."""

    def __init__(self, sysfs: Sysfs, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep) -> None:
        self.sysfs = sysfs
        self.records = Records(sysfs)
        self.clock = clock
        self.pause = pause

    def holder(self) -> Optional[Owner]:
        """The live process that has claimed the host for a cycle, or None."""
        owner = _owner_from(self.sysfs.get(CLAIM))
        return owner if owner and _started(owner.pid) == owner.started else None

    @contextlib.contextmanager
    def acting(self, doing: str, *, who: str = "", run: str = "", wait: float = 0.0, over_claim: bool = False) -> Iterator[None]:
        """Hold the host while this process acts.

        doing: in words, for others. run: the run that this step belongs to; empty when it belongs to none. wait: seconds of patience with
        another step; a claimed host is refused at once. over_claim: act on a claimed host too, because the machine shuts down.

        Raises Busy, and HotpmemError when the claim of run has ended.
        """
        with self._locked(LOCK, wait, run, over_claim) as file, self._locked(RESTORE_LOCK, wait, run, over_claim):
            self._check_claim(run, over_claim)
            _write(file, self._me(who, run, doing))
            try:
                yield
            finally:
                _write(file, None)
                self._renew(run)

    @contextlib.contextmanager
    def claimed(self, doing: str, who: str, run: str) -> Iterator[None]:
        """Claim the host for this process, for a whole cycle. Raises Busy when a live process has claimed it."""
        with self._locked(LOCK, 60.0, "", False):
            self._check_claim("", False)
            self.records.write_json(CLAIM, asdict(self._me(who, run, doing)))
        try:
            yield
        finally:
            with contextlib.suppress(HotpmemError):
                self.records.remove(CLAIM)

    @property
    def renewals(self) -> int:
        """Changes each time that a step of the run has ended: the controller lives."""
        try:
            return os.stat(self.sysfs.path(CLAIM)).st_mtime_ns
        except OSError:
            return 0

    def _renew(self, run: str) -> None:
        if run:
            with contextlib.suppress(OSError):
                os.utime(self.sysfs.path(CLAIM))

    def _check_claim(self, run: str, over_claim: bool) -> None:
        owner = self.holder()
        if owner and owner.pid != os.getpid() and owner.run != run and not over_claim:
            raise Busy(owner)
        if run and not owner:
            raise no_longer_held(run)

    @contextlib.contextmanager
    def _locked(self, name: str, wait: float, run: str, over_claim: bool) -> Iterator[TextIO]:
        path = self.sysfs.path(name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        until = self.clock() + wait
        with open(path, "a+", encoding="utf-8", opener=_private) as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._check_claim(run, over_claim)
                    if self.clock() >= until:
                        file.seek(0)
                        raise Busy(_owner_from(file.read())) from None
                    self.pause(_POLL)
            # A program that this process has started may outlive it. It then still acts, so it keeps the lock.
            KEPT_OPEN.add(file.fileno())
            try:
                yield file
            finally:
                KEPT_OPEN.discard(file.fileno())

    def _me(self, who: str, run: str, doing: str) -> Owner:
        since = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Owner(os.getpid(), _started(os.getpid()) or 0, who, since, run, doing)


def no_longer_held(run: str) -> HotpmemError:
    """The error for a step of a run whose claim has ended."""
    return HotpmemError(
        "Cannot act on this host",
        f"the run {run} no longer holds this host. Its process ended, or it waited too long for its controller and put everything back",
        "Nothing was changed. Start the play again. If it was only slow, raise hotpmem_lease",
        run=run,
    )


def _started(pid: int) -> Optional[int]:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name of the program, in parentheses, may contain spaces and parentheses.
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _write(file: TextIO, owner: Optional[Owner]) -> None:
    file.seek(0)
    file.truncate(0)
    file.write(json.dumps(asdict(owner)) + "\n" if owner else "")
    file.flush()


def _owner_from(text: str) -> Optional[Owner]:
    """The owner in the text of a lock file, or None when it names none."""
    try:
        value: Any = json.loads(text)
        return Owner(
            int(value["pid"]), int(value["started"]), str(value["who"]), str(value["since"]), str(value["run"]), str(value["doing"])
        )
    except (ValueError, KeyError, TypeError):
        return None
