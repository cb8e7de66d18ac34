# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache outside the checkout: entries keyed by a hash of what made them, built once, renamed into place, pruned."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import process, progress

KEEP_SECONDS = 3 * 24 * 3600
"""An entry not used for this long is removed when a newer one is built beside it."""


def root() -> Path:
    """The lab's folder below XDG_CACHE_HOME, readable by its owner only (it holds private keys)."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotpmem"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def digest(parts: object) -> str:
    """A short name for everything in `parts` (JSON-serialisable; Paths stand for their content)."""

    def content(value: object) -> object:
        if isinstance(value, Path):
            files = sorted(p for p in value.rglob("*") if p.is_file()) if value.is_dir() else [value]
            return [[str(p.relative_to(value)), p.stat().st_mode & 0o777, hashlib.sha256(p.read_bytes()).hexdigest()] for p in files]
        raise TypeError(f"cannot hash {value!r}")

    text = json.dumps(parts, sort_keys=True, default=content)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the named lock among all processes of this cache; says so when it has to wait."""
    directory = root() / "locks"
    directory.mkdir(exist_ok=True)
    with open(directory / name, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"another lab command holds {name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def entry(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the finished cache entry kind/key. `build(directory)` builds it when it does not exist.

    A builder that died leaves a `.new` folder. The next builder gets the lock only after that death. It ends the machines
    of the dead builder and removes its folder.
    """
    parent = root() / kind
    parent.mkdir(exist_ok=True)
    done = parent / key
    with lock(f"{kind}-{key}"):
        if not done.is_dir():
            new = parent / f"{key}.new"
            remove(new)
            new.mkdir(mode=0o700)
            try:
                build(new)
                new.rename(done)
            finally:
                remove(new)
            prune(parent, keep=done)
        os.utime(done)
    return done


def remove(directory: Path) -> None:
    """Remove a folder of the cache; machines recorded in it are ended first."""
    for pid_file in directory.glob("**/pid"):
        process.end(pid_file)
    if directory.exists():
        shutil.rmtree(directory)


def prune(parent: Path, keep: Path, now: float | None = None) -> list[str]:
    """Remove entries of `parent` that nothing used for KEEP_SECONDS; returns their names."""
    limit = (time.time() if now is None else now) - KEEP_SECONDS
    old = [p for p in parent.iterdir() if p != keep and p.is_dir() and p.suffix != ".new" and p.stat().st_mtime < limit]
    for path in old:
        shutil.rmtree(path)
    return sorted(p.name for p in old)
