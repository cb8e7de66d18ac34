# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The journal of a run: a file of JSON lines on the controller.

A line counts once it is complete and on the disk. A controller that dies while it writes leaves half a line, which the next one removes.
Each line carries the tally up to it, so that appending costs the same however long the run is.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from ansible_collections.hotpmem.fleet.plugins.module_utils._host.replace_file import sync_directory

from .state import DONE

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
TAIL = 64 * 1024

Event = dict[str, Any]


class JournalError(Exception):
    """The journal cannot be read or written."""


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(timezone.utc)


def stamp(moment: datetime) -> str:
    """A moment as in the journal: 2026-11-27T10:15:00.123Z."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """The moment of a stamp."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def directory(given: str, environment: Mapping[str, str]) -> Path:
    """Where journals are kept: the directory that was given, or the one for the user's state."""
    if given:
        return Path(os.path.expanduser(given))
    state = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME") or "~", ".local/state")
    return Path(os.path.expanduser(state)) / "hotpmem" / "rollouts"


def advance(tally: Mapping[str, int], event: Mapping[str, Any]) -> dict[str, int]:
    """The tally after an event. `spent` counts against the failure budget, and `warned` against the warning budget."""
    after = {name: int(tally.get(name, 0)) for name in ("left", "under_way", "done", "failed", "refused", "spent", "warned")}
    name = event.get("event")
    if name in ("run_planned", "run_resumed"):
        after.update({key: int(value) for key, value in event.get("counts", {}).items() if key in after})
        after["under_way"] = 0
    elif name == "host_begun":
        after["left"] -= 1
        after["under_way"] += 1
    elif name == "host_ended":
        after["under_way"] -= 1
        outcome = event.get("outcome")
        key = "done" if outcome in DONE else "refused" if outcome == "refused" else "failed"
        after[key] += 1
        after["spent"] += key == "failed"
        after["warned"] += outcome == "cold" or bool(event.get("warnings"))
    elif name == "budget_cleared":
        after["spent"] = after["warned"] = 0
    return after


@dataclass(frozen=True)
class Journal:
    """One file."""

    path: Path

    @property
    def run(self) -> str:
        """The id of the run."""
        return self.path.stem

    @property
    def rollout(self) -> str:
        """The name of the rollout."""
        return self.path.parent.name

    def create(self) -> None:
        """Make the file and its directories, for this user only."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            sync_directory(str(self.path))
        except OSError as error:
            raise JournalError(
                f"Cannot create the journal {self.path}: {error.strerror}. Nothing was begun. Set hotpmem_journal_dir to a directory "
                "that you may write."
            ) from error

    def append(self, event: str, /, **fields: Any) -> Event:
        """Write one line, and return it when it is on the disk."""
        try:
            with self._locked() as file:
                last = _repair(file)
                line: Event = {"time": stamp(now()), "run": self.run, "event": event, **fields}
                line["tally"] = advance((last or {}).get("tally", {}), line)
                file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise JournalError(
                f"Cannot write {event} to the journal {self.path}: {error.strerror}. No further host is begun without it. Make room or "
                "fix its permissions, then run the playbook again."
            ) from error
        return line

    def read(self) -> tuple[list[Event], bool]:
        """All complete lines, and whether half a line follows them."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise JournalError(f"Cannot read the journal {self.path}: {error.strerror}.") from error
        complete, newline, rest = data.rpartition(b"\n")
        events = []
        for number, line in enumerate(complete.split(b"\n") if newline else [], 1):
            try:
                event = json.loads(line)
                if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                    raise ValueError("it is not an event")
            except ValueError as error:
                raise JournalError(
                    f"Cannot read line {number} of the journal {self.path}: {error}. Correct or remove the line, or begin a new run with "
                    "'-e resume=false'."
                ) from error
            events.append(event)
        return events, bool(rest)

    def tail(self) -> Event:
        """The last complete event, without reading the whole file."""
        try:
            with self._locked() as file:
                return _repair(file) or {}
        except OSError as error:
            raise JournalError(f"Cannot read the journal {self.path}: {error.strerror}.") from error

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        with open(self.path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def _repair(file: IO[bytes]) -> Event | None:
    """Remove half a line at the end, go to the end, and return the last event."""
    size = file.seek(0, os.SEEK_END)
    length = TAIL
    while True:
        begin = max(size - length, 0)
        file.seek(begin)
        tail = file.read(size - begin)
        complete, newline, _rest = tail.rpartition(b"\n")
        _before, earlier, line = complete.rpartition(b"\n")
        if begin == 0 or (newline and earlier):
            break
        length *= 8
    end = begin + len(complete) + len(newline) if newline else 0
    if end != size:
        file.truncate(end)
    file.seek(end)
    if not newline:
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def newest(root: Path, name: str) -> Journal | None:
    """The journal of the last run of a rollout. The id of a run begins with the time of its start."""
    try:
        files = sorted(path for path in (root / name).iterdir() if path.suffix == ".jsonl")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(
            f"Cannot read the directory of journals {root / name}: {error.strerror}. Nothing was begun. Check hotpmem_journal_dir."
        ) from error
    return Journal(files[-1]) if files else None
