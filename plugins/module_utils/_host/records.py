# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small files that tell another program, or the next boot, how far a cycle has come.

docs/reference/records.md lists these files.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, Optional

from .errors import HotpmemError
from .replace_file import replace_file, sync_directory
from .sysfs import Sysfs

RUN = "/run/hotpmem"
LIB = "/var/lib/hotpmem"
# The stage that a handoff of this boot has reached, or its result.
HANDOFF = f"{RUN}/handoff.json"
# Names the run whose held handoff goes on (Handoff.hold).
GO = f"{RUN}/go"
# The device that holds the image of this boot. The jump stores its phase mark there.
DEVICE = f"{RUN}/device"
# The handoff has saved, and the units are stopped. hotpmem-save.service then exits before it starts Python.
SAVED_HERE = f"{RUN}/saved"
# The result of this boot's restore, as the copy helper printed it, or the reason why nothing was restored.
RESTORE = f"{RUN}/restore.json"
# A restore is due, and the units wait for it (role unit_guard).
PENDING = f"{LIB}/pending"
# This boot wrote PENDING. The cold start timer (role unit_guard) acts only when an earlier boot wrote it.
ANNOUNCED = "/run/hotpmem.announced"
# The units have run with their state since the last restore or hot-add.
SERVING = f"{LIB}/serving"
# Where restore looks for the image: the start address of the namespace, because its number can
# change, and the road.
PLACE = f"{LIB}/place"
# Facts about the last save that completed. The record of the cycle takes them over.
SAVED = f"{LIB}/saved.json"
# What the last shutdown did, or why it saved nothing.
SHUTDOWN = f"{LIB}/shutdown.json"
# What the last rollout did with this host (module rollout_mark).
MARK = f"{LIB}/rollout.json"
# COLD/NAME: the item NAME starts cold at the next start. The file holds the reason.
COLD = f"{LIB}/cold"
# HOLD/NAME: the unit of the item NAME stays stopped. The file holds the reason.
HOLD = f"{RUN}/hold"


class Records:
    """Reads and writes the records below a root directory.

    Only root can enter the directories that it creates.
    """

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs

    def write(self, name: str, text: str, sync: bool = False) -> None:
        """Replace a file atomically.

        sync: return only when the file is on the disk. Raises HotpmemError.
        """
        path = self.sysfs.path(name)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            replace_file(path, text, sync=sync)
        except OSError as error:
            todo = "Free space on the file system, or make the directory writable for root"
            raise HotpmemError(f"Cannot write {name}", error.strerror or str(error), todo) from error

    def announce(self, text: str) -> None:
        """Announce a save: write PENDING, and return only when it is on the disk. Raises HotpmemError.

        ANNOUNCED is written first, so that the cold start timer of this boot ignores PENDING. SAVED is
        removed: it belongs to an earlier save, and must not show the new save as completed.
        """
        self.remove(SAVED)
        self.write(ANNOUNCED, text)
        self.write(PENDING, text, sync=True)

    def withdraw(self) -> None:
        """Take announce() back: no restore is due. Raises HotpmemError.

        PENDING is removed first, and from the disk: while it exists, the cold start timer must not act on it.
        """
        self.remove(PENDING, sync=True)
        self.remove(ANNOUNCED)

    def note_place(self, device: str, start: Optional[int], road: str) -> None:
        """Record where the save goes. Raises HotpmemError.

        device: where the jump stores its phase mark. start: the address of the namespace, in bytes;
        None leaves PLACE unchanged. road: ``raw`` or ``dax``, the mode of the namespace during the save.

        The restore of the next boot reads start and road from here and not from the settings, which
        an operator may change between the save and the restore.
        """
        self.write(DEVICE, device + "\n")
        if start is not None:
            self.write(PLACE, f"{start:#x} {road}\n", sync=True)

    def write_json(self, name: str, value: Any, sync: bool = False) -> None:
        """Write an object as JSON, as write() does. Raises HotpmemError."""
        self.write(name, json.dumps(value, indent=1, default=str) + "\n", sync)

    def read_json(self, name: str) -> Optional[Dict[str, Any]]:
        """Return the JSON object in a file, or None when the file has no valid object.

        When the file is JSON lines (the output of the copy helper), the object is in the last line.
        """
        text = self.sysfs.get(name)
        for candidate in (text, text.splitlines()[-1] if text else ""):
            with contextlib.suppress(ValueError):
                value = json.loads(candidate)
                if isinstance(value, dict):
                    return value
        return None

    def exists(self, name: str) -> bool:
        """Return True when the file exists."""
        return self.sysfs.exists(name)

    def remove(self, name: str, sync: bool = False) -> None:
        """Remove a file, if it exists.

        sync: return only when it is removed from the disk. Raises HotpmemError.
        """
        path = self.sysfs.path(name)
        try:
            os.unlink(path)
            if sync:
                sync_directory(path)
        except FileNotFoundError:
            return
        except OSError as error:
            todo = "Make its directory writable for root"
            raise HotpmemError(f"Cannot remove {name}", error.strerror or str(error), todo) from error
