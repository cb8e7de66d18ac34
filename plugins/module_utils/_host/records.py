# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small files by which one boot, or one program, tells another where a cycle stands. docs/architecture.md lists them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import Any, Dict, Iterator, Optional

from .errors import HotpmemError
from .sysfs import Sysfs

RUN = "/run/hotpmem"
LIB = "/var/lib/hotpmem"
HANDOFF = f"{RUN}/handoff.json"  # where a handoff of this boot stands, or how it ended
DEVICE = f"{RUN}/device"  # the device that holds the image of this boot: for the mark of the jump
SAVED_HERE = f"{RUN}/saved"  # the handoff has saved, and the units are down: hotpmem-save.service need not even start Python
RESTORE = f"{RUN}/restore.json"  # the copy helper's result of this boot's restore, or why there was none
PENDING = f"{LIB}/pending"  # a restore is due: units wait for it (role unit_guard)
ANNOUNCED = "/run/hotpmem.announced"  # PENDING is of this boot: the cold start timer (role unit_guard) is for those of the boot before
SERVING = f"{LIB}/serving"  # the units have run with their state since the last restore or hot-add
PLACE = f"{LIB}/place"  # start address of the namespace, because numbers change, and the road: where restore looks
SAVED = f"{LIB}/saved.json"  # the last save, written when it has ended: for the record of the cycle
SHUTDOWN = f"{LIB}/shutdown.json"  # what the last shutdown did or why it saved nothing
COLD = f"{LIB}/cold"  # COLD/NAME: this item starts cold the next time, and why
HOLD = f"{RUN}/hold"  # HOLD/NAME: the unit of this item stays down, and why


class Busy(HotpmemError):
    """Another hotpmem-node is at work."""


def _sync_directory(path: str) -> None:
    """Bring what happened to the name path to the disk."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Records:
    """Files below a root. Directories are made for root alone."""

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs

    def write(self, name: str, text: str, sync: bool = False) -> None:
        """Replace a file as a whole; sync: it is on the disk when this returns. Raises HotpmemError."""
        path = self.sysfs.path(name)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(path + ".new", path)
            if sync:
                _sync_directory(path)
        except OSError as error:
            raise HotpmemError(f"Cannot write {name}", error.strerror or str(error), "Make room, or make it writable for root") from error

    def announce(self, text: str) -> None:
        """Write PENDING, on the disk when this returns, so that the timer of this boot doesn't take it for one left over.

        The record of an earlier save goes: it must not be taken for the end of the one that begins now.
        """
        self.remove(SAVED)
        self.write(ANNOUNCED, text)
        self.write(PENDING, text, sync=True)

    def note_place(self, device: str, start: Optional[int], road: str) -> None:
        """Where the save goes: device for the mark of the jump, start (address of the namespace) and road for the restore of the next boot.

        The restore follows the save, not the settings: between the two they may be those of another road.
        """
        self.write(DEVICE, device + "\n")
        if start is not None:
            self.write(PLACE, f"{start:#x} {road}\n", sync=True)

    def write_json(self, name: str, value: Any) -> None:
        """write(), of JSON."""
        self.write(name, json.dumps(value, indent=1, default=str) + "\n")

    def read_json(self, name: str) -> Optional[Dict[str, Any]]:
        """The object in a file, or None. Of several lines (the helper's), the last is meant."""
        text = self.sysfs.get(name)
        for candidate in (text, text.splitlines()[-1] if text else ""):
            with contextlib.suppress(ValueError):
                value = json.loads(candidate)
                if isinstance(value, dict):
                    return value
        return None

    def exists(self, name: str) -> bool:
        """Is it there?"""
        return self.sysfs.exists(name)

    def remove(self, name: str, sync: bool = False) -> None:
        """Take a file away; it need not be there. sync: it is gone from the disk when this returns. Raises HotpmemError."""
        path = self.sysfs.path(name)
        try:
            os.unlink(path)
            if sync:
                _sync_directory(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise HotpmemError(f"Cannot remove {name}", error.strerror or str(error), "Make it writable for root") from error

    @contextlib.contextmanager
    def lock(self, wait: float = 0.0) -> Iterator[None]:
        """Keep other hotpmem-node programs out. wait: seconds. Raises Busy; the lock ends with the process."""
        path = self.sysfs.path(f"{RUN}/lock")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        deadline = time.monotonic() + wait
        with open(path, "a+", encoding="utf-8") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if time.monotonic() >= deadline:
                        file.seek(0)
                        who = file.read().strip() or "?"
                        said = f"process {who} is at work"
                        raise Busy("Cannot begin", said, "Wait for it to end: journalctl -u hotpmem-handoff", pid=who) from error
                    time.sleep(0.1)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
