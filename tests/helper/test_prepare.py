# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb prepare, on tmpfs mounts of this machine."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import ASAN, Helper
from tree import ROOT, hostile, listing

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not ROOT, reason="needs root: mounts")


@pytest.fixture
def small(work):
    """A tmpfs as a user has it who gave no huge= option, and a device of huge pages beside it."""
    places = {name: work / name for name in ("small", "huge")}
    for name, place in places.items():
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"huge={'never' if name == 'small' else 'always'}", "tmpfs", place], check=True)
    subprocess.run(["fallocate", "-l", "64M", places["huge"] / "device"], check=True)
    yield places["small"]
    subprocess.run(["umount", *places.values()], check=True)


@pytest.fixture
def prepare(work):
    """Calls prepare on a path."""
    helper = Helper(ASAN, work / "huge" / "device")

    def call(path: Path, *words: str, expect: int = 0) -> dict:
        argv = [str(ASAN), "prepare", "--item", f"s={path}", "--json", *words]
        done = subprocess.run(argv, capture_output=True, env=helper.env, check=False)
        assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr.decode()
        assert done.returncode == expect, done.stderr.decode()
        return json.loads(done.stdout)

    return call


def some(path: Path, size: int) -> str:
    """Random bytes. Returns their digest."""
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def huge_bytes(path: Path) -> int:
    """How much of a file the kernel maps as huge pages (ShmemPmdMapped of smaps), in a mapping that begins on such a page."""
    size = path.stat().st_size
    script = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
size = int(sys.argv[2])
room = libc.mmap(None, size + (2 << 20), 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
at = (room + (2 << 20) - 1) >> 21 << 21
fd = os.open(sys.argv[1], os.O_RDONLY)
assert libc.mmap(at, size, mmap.PROT_READ, mmap.MAP_SHARED | 0x10, fd, 0) == at
for offset in range(0, size, 2 << 20):
    ctypes.string_at(at + offset, 1)
lines = open("/proc/self/smaps").read().splitlines()
begin = next(i for i, line in enumerate(lines) if sys.argv[1] in line)
print(next(line.split()[1] for line in lines[begin:] if line.startswith("ShmemPmdMapped:")))
"""
    done = subprocess.run(["python3", "-c", script, path, str(size)], capture_output=True, text=True, check=True)
    return int(done.stdout) << 10


def test_the_content_stays_and_the_pages_are_huge(small, prepare):
    sizes = {"a": 9 * MIB + 123, "b": 4 * MIB, "c": 2 * MIB - 1}
    (small / "item" / "deeper").mkdir(parents=True)
    files = {name: small / "item" / ("deeper" if name == "b" else "") / name for name in sizes}
    before = {name: some(files[name], size) for name, size in sizes.items()}
    assert [huge_bytes(path) for path in files.values()] == [0, 0, 0]
    stats = {name: path.stat() for name, path in files.items()}
    result = prepare(small / "item")
    # The kernel takes whole huge pages only: the last part of a file stays as it is.
    assert result["bytes"] == result["huge_bytes"] == 12 * MIB and result["stopped"] is None
    assert result["items"][0]["bytes"] == 12 * MIB and result["items"][0]["files"] == 2
    for name, path in files.items():
        now = path.stat()
        assert (now.st_atime_ns, now.st_mtime_ns, now.st_ctime_ns, now.st_blocks) == (
            stats[name].st_atime_ns, stats[name].st_mtime_ns, stats[name].st_ctime_ns, stats[name].st_blocks,
        )  # fmt: skip
        assert digest(path) == before[name]
    assert [huge_bytes(path) for path in files.values()] == [8 * MIB, 4 * MIB, 0]


def test_a_single_file_and_a_second_time(small, prepare):
    before = some(small / "f", 6 * MIB)
    for _round in range(2):
        assert prepare(small / "f")["huge_bytes"] == 6 * MIB
    assert digest(small / "f") == before


def test_a_save_maps_what_was_prepared(small, prepare, work):
    """It finds out by itself, and then reads nothing: the bytes come from a mapping."""
    before = some(small / "f", 32 * MIB)
    helper = Helper(ASAN, work / "huge" / "device")
    trace = ["strace", "-f", "-c", "-S", "calls", "-e", "trace=pread64", *helper.argv("save", "--item", f"f={small}/f", "--threads", "1")]
    reads = []
    for _round in range(2):
        done = subprocess.run(trace, capture_output=True, text=True, env=dict(helper.env, ASAN_OPTIONS="detect_leaks=0"), check=True)
        reads.append(sum(int(line.split()[3]) for line in done.stderr.splitlines() if line.endswith("pread64")))
        prepare(small / "f")
    assert reads[0] >= 32 * MIB // (256 << 10) > 2 >= reads[1], reads
    helper.restore(f"f={small}/back")
    assert digest(small / "back") == before


def test_holes_are_not_filled(small, prepare):
    path = small / "sparse"
    some(path, 4 * MIB)
    with open(path, "r+b") as file:
        file.truncate(64 * MIB)
        for at in (20 * MIB, 40 * MIB + 4096):
            file.seek(at)
            file.write(b"x" * (3 * MIB))
    before, blocks = digest(path), path.stat().st_blocks
    result = prepare(path)
    # 0 to 4 MiB, 20 to 22 MiB, and 42 MiB to 43 MiB + 4 KiB has no whole huge page.
    assert result["bytes"] == result["huge_bytes"] == 6 * MIB
    assert path.stat().st_blocks == blocks and digest(path) == before


def test_a_tree_with_everything_odd(small, prepare, work):
    """Nothing of it changes, and no symbolic link is followed."""
    hostile(small / "tree", deep=300)
    some(work / "outside", 4 * MIB)
    os.symlink(work / "outside", small / "tree" / "link")
    before, used = listing(small / "tree"), os.statvfs(small)
    result = prepare(small / "tree")
    assert result["bytes"] == 2 * MIB  # of the file of 3 MiB
    assert os.statvfs(small).f_bfree == used.f_bfree
    assert listing(small / "tree") == before


def test_a_file_that_is_written_meanwhile(small, prepare):
    """Every store through a mapping arrives, in whichever page the byte lies at that moment."""
    path, size = small / "f", 16 * MIB
    path.write_bytes(bytes(size))
    ends, counts = threading.Event(), [0]
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), size) as mapped:

        def write() -> None:
            while not ends.is_set():
                counts[0] += 1
                for at in range(0, size, 64 << 10):
                    mapped[at : at + 8] = counts[0].to_bytes(8, "little")

        writer = threading.Thread(target=write)
        writer.start()
        results = [prepare(path) for _round in range(3)]
        ends.set()
        writer.join()
    assert counts[0] > 1
    data = path.read_bytes()
    for at in range(0, size, 64 << 10):
        assert int.from_bytes(data[at : at + 8], "little") == counts[0]
    # The kernel may pass over pages that the writer has in use. That is no error.
    assert all(0 <= one["huge_bytes"] <= one["bytes"] == size for one in results)


def test_the_time_is_kept(small, prepare):
    some(small / "f", 64 * MIB)
    result = prepare(small / "f", "--seconds", "0.000001")
    assert (result["stopped"], result["huge_bytes"]) == ("time", 0)


def test_the_time_is_kept_among_small_files(small, prepare):
    """They have nothing to move, but there may be millions of them."""
    (small / "item").mkdir()
    for number in range(100):
        (small / "item" / str(number)).touch()
    assert prepare(small / "item", "--seconds", "0.000001")["stopped"] == "time"


def test_a_mount_below_the_item_is_not_entered(small, prepare):
    """Neither another file system, which may be a slow one, nor a directory of the same one. A save leaves both out."""
    (small / "outside").mkdir()
    some(small / "outside" / "f", 4 * MIB)
    for name, how in (("other", ["-t", "tmpfs", "tmpfs"]), ("bound", ["--bind", small / "outside"])):
        place = small / "item" / name
        place.mkdir(parents=True)
        subprocess.run(["mount", *how, place], check=True)
        os.utime(place, (1, 2))
    try:
        assert prepare(small / "item")["bytes"] == 0
        assert [(small / "item" / name).stat().st_atime for name in ("other", "bound")] == [1, 1]
    finally:
        subprocess.run(["umount", small / "item" / "other", small / "item" / "bound"], check=True)


def test_another_file_system_is_left_alone(work, prepare, small):
    with open(work / "image", "wb") as image:
        image.truncate(64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", work / "image"], check=True)
    (small / "item" / "disk").mkdir(parents=True)
    done = subprocess.run(["mount", "-o", "loop", work / "image", small / "item" / "disk"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    try:
        some(small / "item" / "disk" / "f", 8 * MIB)
        some(small / "item" / "f", 4 * MIB)
        assert prepare(small / "item")["bytes"] == 4 * MIB
        (small / "item" / "disk" / "own").mkdir()
        some(small / "item" / "disk" / "own" / "f", 8 * MIB)
        assert prepare(small / "item" / "disk" / "own")["bytes"] == 0
    finally:
        subprocess.run(["umount", small / "item" / "disk"], check=True)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--device", "/dev/null"], "prepare does not accept a device"),
        (["--seconds", "0"], "the value must be a number above 0"),
        (["--seconds", "soon"], "the value must be a number above 0"),
    ],
)
def test_a_wrong_command_line(small, prepare, words, said):
    assert said in prepare(small, *words, expect=1)["error"]["said"]


def test_a_mount_point_is_refused(small, prepare):
    assert prepare(small, expect=5)["refused"] == "mount_point"
