# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes in comes out the same, on every kind of device."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from conftest import ASAN, HOOKS, Helper, make_device
from tree import ROOT, assert_same, data_map, hostile, nest, small_files

# Peak memory of a program in KiB. From a small process: a child's peak begins with its parent's memory at the time of exec.
PEAK = """
import os, sys
null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=null)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def rsync_differences(a, b) -> str:
    """What rsync would still change, by checksum. It can't walk the two deep trees: listing() does."""
    out = subprocess.run(
        ["rsync", "-aHAXSnci", "--delete", "--exclude=/longlong*", "--exclude=/n", f"{a}/", f"{b}/"], capture_output=True, check=True
    )
    return out.stdout.decode(errors="replace")


def test_hostile_tree(any_helper, work):
    hostile(work / "src")
    saved = any_helper.save(f"t={work}/src")
    assert saved["items"][0]["status"] == "saved" and saved["left_out"] == []
    assert any_helper("compare", "--item", f"t={work}/src")["exit"] == 0
    assert any_helper("verify")["items"][0]["status"] == "ok"
    any_helper.restore(f"t={work}/dst")
    assert_same(work / "src", work / "dst")
    assert rsync_differences(work / "src", work / "dst") == ""
    for name in ("front", "end", "all", "comb", "big"):
        with open(work / "src" / f"sparse-{name}", "rb") as a, open(work / "dst" / f"sparse-{name}", "rb") as b:
            size = os.fstat(a.fileno()).st_size
            assert data_map(a.fileno(), size) == data_map(b.fileno(), size), f"holes of {name}"


@pytest.mark.parametrize("threads", [1, 2, 7, 64])
def test_threads(work, threads):
    helper = Helper(ASAN, make_device(work, "file", 64 << 20)[0])
    hostile(work / "src", deep=200)
    assert helper("save", "--item", f"t={work}/src", "--threads", str(threads))["threads"] == threads
    helper("restore", "--item", f"t={work}/dst", "--threads", str(threads))
    assert_same(work / "src", work / "dst")


def test_single_files_to_where_they_were(helper, work):
    """Without --item, items go back to where they were saved from, over what is there; parents are made."""
    where = work / "a" / "b"
    where.mkdir(parents=True)
    (where / "one").write_bytes(os.urandom(3000000))
    (where / "two").write_bytes(b"")
    (where / ("n" * 255)).write_bytes(b"long")
    os.utime(where / "one", ns=(5, 123456789))
    helper.save(f"one={where}/one", f"two={where}/two", f"long={where}/{'n' * 255}")
    subprocess.run(["cp", "-a", where, work / "kept"], check=True)
    (where / "one").write_text("newer")
    (where / "two").unlink()
    result = helper.restore()
    assert [i["status"] for i in result["items"]] == ["restored"] * 3
    assert_same(where / "one", work / "kept" / "one")
    subprocess.run(["rm", "-rf", work / "a"], check=True)
    helper.restore(force=True)
    for name in ("one", "two", "n" * 255):
        assert_same(where / name, work / "kept" / name)
    assert sorted(os.listdir(where)) == sorted(["one", "two", "n" * 255])


def test_replaces_a_tree(helper, work):
    hostile(work / "src", deep=1500)
    helper.save(f"t={work}/src")
    hostile(work / "dst", seed=2, deep=1500)
    stale = work / ".hotpmem-dst.00c0ffee"
    stale.mkdir()
    (stale / "x").write_text("left by a killed restore")
    (work / ".hotpmem-dst.notours").write_text("x")
    helper.restore(f"t={work}/dst")
    assert_same(work / "src", work / "dst")
    assert sorted(p.name for p in work.iterdir()) == [".hotpmem-dst.notours", "device", "dst", "src"]


def test_default_acl_above_leaves_no_trace(helper, work):
    (work / "src").mkdir()
    (work / "src" / "f").write_text("x")
    (work / "there").mkdir()
    helper.save(f"t={work}/src")
    subprocess.run(["setfacl", "-m", "d:u:77:rwx", work / "there"], check=True)
    helper.restore(f"t={work}/there/dst")
    assert_same(work / "src", work / "there" / "dst")


@pytest.mark.skipif(not ROOT, reason="needs root: a group that is not ours")
def test_set_group_id_above_leaves_no_trace(helper, work):
    (work / "src" / "sub").mkdir(parents=True)
    for name in ("f", "sub/g", "../one"):
        (work / "src" / name).write_text("x")
    os.mkfifo(work / "src" / "p")
    (work / "there").mkdir()
    os.chown(work / "there", 0, 100)
    os.chmod(work / "there", 0o2755)
    helper.save(f"t={work}/src", f"one={work}/one")
    helper.restore(f"t={work}/there/dst", f"one={work}/there/one")
    assert_same(work / "src", work / "there" / "dst")
    assert_same(work / "one", work / "there" / "one")


def test_left_out(helper, work):
    (work / "src" / "sub").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(work / "src" / "sock"))
    if ROOT:
        subprocess.run(["mount", "--bind", work, work / "src" / "sub"], check=True)
    try:
        result = helper.save(f"t={work}/src")
    finally:
        if ROOT:
            subprocess.run(["umount", work / "src" / "sub"], check=True)
    said = {(e["path"], e["reason"]) for e in result["left_out"]}
    assert (f"{work}/src/sock", "socket") in said
    assert not ROOT or (f"{work}/src/sub", "mount point") in said
    helper.restore(f"t={work}/dst")
    assert os.listdir(work / "dst") in ([], ["sub"])


@pytest.mark.parametrize("kind", ["file", "huge"])
def test_small_files_of_zeros(work, kind):
    """A chunk of zeros is not stored, and the files in it still get their size."""
    device, remove = make_device(work, kind, 64 << 20)
    try:
        (work / "src").mkdir()
        for name, content in (("a", bytes(1000)), ("b", bytes(70000)), ("c", b"x" * 5000 + bytes(300_000)), ("d", bytes(300_000) + b"x")):
            (work / "src" / name).write_bytes(content)
        (work / "one").write_bytes(bytes(100_000))
        helper = Helper(ASAN, device)
        helper.save(f"t={work}/src", f"one={work}/one")
        helper.restore(f"t={work}/dst", f"one={work}/one2")
        assert_same(work / "src", work / "dst")
        assert (work / "one2").read_bytes() == bytes(100_000)
    finally:
        remove()


def test_zeros_cost_nothing(helper, work):
    (work / "zeros").write_bytes(bytes(64 << 20))
    with open(work / "hole", "wb") as f:
        f.truncate(1 << 42)
    result = helper.save(f"z={work}/zeros", f"h={work}/hole")
    assert result["stored_bytes"] < 1 << 20 and result["zero_chunks"] == result["chunks"] == 256
    helper.restore(f"z={work}/zeros2", f"h={work}/hole2")
    assert os.stat(work / "zeros2").st_blocks == os.stat(work / "hole2").st_blocks == 0
    assert os.stat(work / "hole2").st_size == 1 << 42
    assert (work / "zeros2").read_bytes() == bytes(64 << 20)


@pytest.mark.skipif(not ROOT, reason="needs root: mounts")
def test_huge_pages(work):
    """Large files on huge pages are written a page at a time, from chunks that begin and end anywhere in it."""
    device, remove = make_device(work, "huge", 64 << 20)
    source, there = work / "huge" / "src", work / "huge" / "dst"
    source.mkdir()
    (source / "a").write_bytes(os.urandom(300_000))  # what comes after it does not begin with a chunk
    (source / "b").write_bytes(os.urandom((5 << 20) + 100))
    (source / "c").write_bytes(os.urandom(1_300_000) + bytes(3 << 20) + os.urandom(2 << 20))
    one = work / "huge" / "d"
    one.write_bytes(os.urandom(6 << 20))
    helper = Helper(ASAN, device)
    try:
        for threads in ("1", "3"):
            assert helper.save(f"t={source}", f"one={one}")["zero_chunks"] > 8
            result = helper("restore", "--item", f"t={there}", "--item", f"one={work}/huge/one", "--threads", threads)
            assert result["bytes"] == sum(p.stat().st_size for p in source.iterdir()) + (6 << 20)
            assert_same(source, there)
            assert (work / "huge" / "one").read_bytes() == one.read_bytes()
        helper.save(f"t={source}", f"one={one}")
        with open(device, "r+b") as f:  # the last chunk of data: the other item's
            where = f.read(48 << 20).rfind(one.read_bytes()[-4096:])
            f.seek(where)
            f.write(b"damage")
        result = helper.restore(f"t={there}", f"one={work}/huge/one", expect=6)
        assert [item["status"] for item in result["items"]] == ["restored", "damaged"]
        assert_same(source, there)
        assert (work / "huge" / "one").read_bytes() == one.read_bytes(), "what was there before stays"
    finally:
        remove()


def test_memory_stays_small(work):
    """Many files, many hard links, deep directories: under 32 MiB beside what is mapped."""
    binary = HOOKS  # the sanitizers take memory of their own
    device = make_device(work, "file", 512 << 20)[0]
    helper = Helper(binary, device)
    small_files(work / "src", 20000, 2000)
    for i in range(3000):
        os.link(work / "src" / "d0" / "f0", work / "src" / f"h{i}")
    top = os.open(work / "src", os.O_RDONLY)
    nest(top, 3000, "deep")
    os.close(top)
    for words in (
        ("save", "--item", f"t={work}/src"),
        ("restore", "--item", f"t={work}/dst"),
        ("verify",),
        ("compare", "--item", f"t={work}/src"),
        ("plan", "--item", f"t={work}/src"),
    ):
        peak = subprocess.run([sys.executable, "-ISc", PEAK, *helper.argv(*words)], env=helper.env, capture_output=True, check=True)
        assert int(peak.stdout) < 32 * 1024, f"{words[0]}: {peak.stdout} KiB"


def test_progress(helper, work):
    small_files(work / "src", 500, 30000)
    for verb in (("save", "--item", f"t={work}/src"), ("verify",), ("restore", "--item", f"t={work}/dst")):
        lines = helper(*verb, "--progress")["progress"]
        assert lines and all(line["event"] == "progress" and line["phase"] == verb[0] for line in lines)
        assert all(line["bytes_done"] <= line["bytes_total"] and line["percent"] <= 100 for line in lines)
        assert lines[-1]["percent"] == 100.0 and lines[-1]["bytes_done"] == lines[-1]["bytes_total"] > 0
