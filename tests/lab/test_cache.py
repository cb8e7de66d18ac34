# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from hotlab import cache


def test_a_digest_follows_content_and_mode(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/file").write_text("x")
    assert cache.digest([1, one]) == cache.digest([1, two])
    assert cache.digest([2, one]) != cache.digest([1, one])
    (two / "sub/file").chmod(0o755)
    assert cache.digest(one) != cache.digest(two)
    (two / "sub/file").chmod(0o644)
    (two / "sub/file").write_text("y")
    assert cache.digest(one) != cache.digest(two)


def test_an_entry_is_built_once_and_a_failed_build_leaves_nothing(cache_home: Path) -> None:
    built: list[Path] = []

    def build(new: Path) -> None:
        built.append(new)
        (new / "file").write_text("done")

    def fail(new: Path) -> None:
        (new / "file").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.entry("kind", "key", fail)
    assert list((cache_home / "kind").iterdir()) == []
    done = cache.entry("kind", "key", build)
    assert cache.entry("kind", "key", build) == done
    assert len(built) == 1
    assert (done / "file").read_text() == "done"
    assert cache_home.stat().st_mode & 0o777 == 0o700


def _build_slowly(new: Path) -> None:
    with open(new.parent / "builds", "a") as handle:
        handle.write("x")
    time.sleep(0.3)


def _entry() -> None:
    cache.entry("kind", "key", _build_slowly)


def test_two_builders_build_once(cache_home: Path) -> None:
    context = multiprocessing.get_context("fork")
    builders = [context.Process(target=_entry) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
        assert builder.exitcode == 0
    assert (cache_home / "kind/builds").read_text() == "x"


def test_a_dead_builders_leftovers_are_removed(cache_home: Path) -> None:
    left = cache_home / "kind/key.new"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    done = cache.entry("kind", "key", lambda new: (new / "file").touch())
    assert sorted(path.name for path in done.iterdir()) == ["file"]


def test_old_entries_are_pruned_and_used_ones_are_not(cache_home: Path) -> None:
    for name in ("old", "fresh", "kept", "build.new"):
        (cache_home / "kind" / name).mkdir(parents=True)
    past = time.time() - cache.KEEP_SECONDS - 60
    for name in ("old", "kept", "build.new"):
        os.utime(cache_home / "kind" / name, (past, past))
    assert cache.prune(cache_home / "kind", keep=cache_home / "kind/kept") == ["old"]
    assert sorted(path.name for path in (cache_home / "kind").iterdir()) == ["build.new", "fresh", "kept"]
