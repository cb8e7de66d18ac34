# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease of the whole fleet as a file on a host. The clock of that host decides when it runs out."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
from typing import Any, Dict, Iterator, NamedTuple, Optional

from .._host.errors import HotpmemError
from .._host.replace_file import replace_file, sync_directory

TEXTS = ("owner", "rollout", "run", "since", "renewed", "expires")


class Asker(NamedTuple):
    """The run that asks for the lease."""

    owner: str
    rollout: str
    run: str


class Decision(NamedTuple):
    """allowed, the new content of the file (None removes it), whether it changes, and whose lease was taken over."""

    allowed: bool
    content: Optional[Dict[str, Any]]
    changed: bool
    took_over: Optional[Dict[str, Any]]
    msg: str


def stamp(seconds: float) -> str:
    """A time of this host, in UTC."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def parse(text: str) -> Dict[str, Any]:
    """The content of the file. ValueError when it is something else."""
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in TEXTS):
        raise ValueError("a key is missing")
    if not isinstance(found.get("expires_at"), (int, float)):
        raise ValueError("expires_at is missing")
    return found


def words(lease: Dict[str, Any], now: float) -> str:
    """Who holds the lease, since when, for which run, and when it runs out."""
    left = lease["expires_at"] - now
    end = f"runs out at {lease['expires']} (in {left:.0f} s)" if left > 0 else f"ran out at {lease['expires']}"
    return (
        f"{lease['owner']} holds it since {lease['since']} for the run {lease['run']} of the rollout {lease['rollout']}. "
        f"It was renewed last at {lease['renewed']}, and {end}"
    )


def decide(known: Optional[Dict[str, Any]], asker: Asker, state: str, now: float, ttl: float, take_over: bool) -> Decision:  # noqa: PLR0917
    """Decide on a request for the lease. known is its content, or None if nobody has it."""
    own = known is not None and known["run"] == asker.run
    expired = known is not None and known["expires_at"] <= now
    if state == "released":
        if known is None or own:
            return Decision(True, None, known is not None, None, "")
        return Decision(True, known, False, None, f"The lease was not removed, because {words(known, now)}.")
    if known is not None and not own:
        if state == "renewed":
            return Decision(False, known, False, None, f"This run has lost the lease: {words(known, now)}.")
        if not expired and not take_over:
            return Decision(False, known, False, None, words(known, now) + ".")
    content = {
        "owner": asker.owner,
        "rollout": asker.rollout,
        "run": asker.run,
        "since": known["since"] if own and known else stamp(now),
        "renewed": stamp(now),
        "expires": stamp(now + ttl),
        "expires_at": now + ttl,
    }
    took_over = known if known is not None and not own else None
    msg = ""
    if took_over:
        why = "it had run out" if expired else "take_over was set"
        msg = f"The lease was taken over, because {why}. Before, {words(took_over, now)}."
    return Decision(True, content, True, took_over, msg)


class LeaseFile:
    """The file, and a lock beside it that makes reading and writing one step."""

    def __init__(self, path: str) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes the lease in this block."""
        directory = os.path.dirname(self.path)
        if not os.path.isdir(directory):
            os.makedirs(directory, mode=0o755)
        handle = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def read(self, may_be_damaged: bool = False) -> Optional[Dict[str, Any]]:
        """The lease, or None. A damaged file is an error, because it may be somebody's lease."""
        try:
            with open(self.path, encoding="utf-8") as file:
                return parse(file.read(65536))
        except FileNotFoundError:
            return None
        except ValueError as error:
            if may_be_damaged:
                return None
            raise HotpmemError(
                f"Cannot read the fleet lease {self.path}",
                f"the file is damaged ({error})",
                "Make sure that no rollout runs. Then remove the file, or set take_over: true in hotpmem_fleet_lease",
            ) from None

    def write(self, content: Optional[Dict[str, Any]]) -> None:
        """Replace the file in one step, or remove it. Afterwards a power cut no longer brings the old lease back."""
        if content is not None:
            replace_file(self.path, json.dumps(content, indent=2, sort_keys=True) + "\n", sync=True, shared=True)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        sync_directory(self.path)
