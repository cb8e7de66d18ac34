# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources that change under the hands, full and failing devices: reported, never a silent mix, and what was there stays."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import subprocess
import time

import pytest
from conftest import BUILD, HOOKS, Helper, make_device
from tree import ROOT, assert_same, listing, small_files

IN_THE_MIDDLE = 20  # points of a save: the first four invalidate the old image, then come chunks


def stopped(helper: Helper, at: int, *words: str) -> subprocess.Popen:
    """Starts pmem-state and comes back when it has stopped at a point."""
    child = subprocess.Popen(
        helper.argv(*words), env=dict(helper.env, PMEM_STATE_STOP_AT=str(at)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    return child


def finish(child: subprocess.Popen, code: int) -> dict:
    """Lets it go on to its end."""
    import json

    os.kill(child.pid, signal.SIGCONT)
    out, err = child.communicate()
    assert child.returncode == code, err.decode()
    return json.loads(out.splitlines()[-1])


def next_tick(work) -> None:
    """The clock of file times goes in ticks: wait until it has passed the present."""
    now, probe = time.time_ns(), work / "probe"
    while True:
        probe.write_text("x")
        if probe.stat().st_ctime_ns > now:
            return


@pytest.fixture
def source(work):
    """A tree whose first file takes long, with another item beside it."""
    (work / "src" / "sub" / "sub").mkdir(parents=True)
    (work / "src" / "big").write_bytes(random.Random(1).randbytes(40 << 20))
    for name in ("src/f", "src/sub/f", "src/sub/g", "src/sub/sub/h", "other"):
        (work / name).write_bytes(name.encode() * 5000)
    os.symlink("x", work / "src" / "sub" / "link")
    return work / "src"


def rewrite(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(b"!")


def replace(path):
    (path.parent / "new").write_bytes(b"new")
    os.rename(path.parent / "new", path)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: rewrite(s / "big", 0),
        lambda s: rewrite(s / "big", (40 << 20) - 1),
        lambda s: os.truncate(s / "big", 1 << 20),
        lambda s: os.truncate(s / "big", 50 << 20),
        lambda s: (s / "big").unlink(),
        lambda s: replace(s / "big"),
        lambda s: os.chmod(s / "big", 0),
        lambda s: (s / "new").write_text("x"),
        lambda s: (s / "sub" / "f").unlink(),
        lambda s: rewrite(s / "sub" / "f", 3),
        lambda s: replace(s / "sub" / "f"),
        lambda s: os.rename(s / "sub", s.parent / "gone"),
        lambda s: os.utime(s / "sub" / "sub" / "h"),
        lambda s: os.link(s / "big", s.parent / "link"),
        lambda s: (os.unlink(s / "sub" / "link"), os.symlink("y", s / "sub" / "link")),
    ],
)
def test_source_changes(hooks, source, work, change):
    child = stopped(hooks, IN_THE_MIDDLE, "save", "--item", f"t={source}", "--item", f"o={work}/other")
    next_tick(work)
    change(source)
    result = finish(child, 6)
    by_name = {i["name"]: i for i in result["items"]}
    assert by_name["t"]["status"] == "changed" and by_name["t"]["error"] and by_name["o"]["status"] == "saved"
    result = hooks.restore(f"t={work}/dst", f"o={work}/o2", expect=6)
    assert {i["name"]: i["status"] for i in result["items"]} == {"t": "changed", "o": "restored"}
    assert not (work / "dst").exists()
    assert_same(work / "other", work / "o2")


@pytest.mark.skipif(not ROOT, reason="needs root: mounts")
def test_mapped_source_shrinks(work):
    """Both ends are huge pages, so that bytes go from mapping to mapping."""
    device, remove = make_device(work, "huge", 128 << 20)
    source, hooks = work / "huge" / "big", Helper(HOOKS, device)
    source.write_bytes(random.Random(2).randbytes(40 << 20))
    (work / "other").write_text("x")
    child = stopped(hooks, IN_THE_MIDDLE, "save", "--item", f"t={source}", "--item", f"o={work}/other")
    next_tick(work)
    os.truncate(source, 2 << 20)
    assert [i["status"] for i in finish(child, 6)["items"]] == ["changed", "saved"]
    source.write_bytes(random.Random(2).randbytes(40 << 20))
    hooks.save(f"t={source}")
    hooks.restore(f"t={work}/dst")
    assert_same(source, work / "dst")
    remove()


def test_only_item_changes(hooks, source, work):
    child = stopped(hooks, IN_THE_MIDDLE, "save", "--item", f"t={source}")
    next_tick(work)
    rewrite(source / "big", 5)
    finish(child, 6)
    assert hooks("info", expect=3)["image"]["state"] == "none"  # nothing in it would be of use


def test_missing_source(hooks, work):
    (work / "x").write_text("x")
    result = hooks.save(f"gone={work}/gone", f"x={work}/x", expect=6)
    assert result["items"][0]["status"] == "failed" and result["items"][0]["errno"] == "ENOENT"
    assert hooks.save(f"gone={work}/gone", expect=2)["error"]["errno"] == "ENOENT"
    assert hooks("info", expect=3)["image"]["state"] == "none"


def fault(call: str, path, at: int, number: int) -> dict:
    return {
        "LD_PRELOAD": str(BUILD / "fault.so"),
        "FAULT_CALL": call,
        "FAULT_PATH": str(path),
        "FAULT_AT": str(at),
        "FAULT_ERRNO": str(number),
    }


@pytest.mark.parametrize("at", [1, 7])
def test_source_turns_unreadable(hooks, source, work, at):
    os.truncate(source / "big", (2 << 20) - 4096)  # a longer one would be mapped, not read
    result = hooks.save(f"t={source}", f"o={work}/other", env=fault("pread", "src/big", at, errno.EIO), expect=6)
    assert result["items"][0]["status"] == "failed" and result["items"][0]["errno"] == "EIO"
    assert str(source / "big") in result["items"][0]["error"]
    assert hooks.restore(f"t={work}/dst", f"o={work}/o", expect=6)["items"][1]["status"] == "restored"


def test_source_can_not_be_opened(hooks, source, work):
    result = hooks.save(f"t={source}", f"o={work}/other", env=fault("openat", "f", 1, errno.EACCES), expect=6)
    assert (result["items"][0]["status"], result["items"][0]["errno"]) == ("failed", "EACCES")


def test_slow_save_says_how_much_is_left(hooks, work):
    """How much there is, is looked for only while a save goes on; small files, read by the thread that finds them, count too."""
    (work / "src" / "sub").mkdir(parents=True)
    (work / "src" / "sub" / "big").write_bytes(os.urandom(10 << 20))
    for i in range(50):
        (work / "src" / f"f{i}").write_bytes(os.urandom(10000))
    total = (10 << 20) + 500000
    words = ("save", "--item", f"t={work}/src", "--threads", "1", "--progress")
    lines = hooks(*words, env=fault("pwrite", hooks.device, 1, 0))["progress"]
    known = [line for line in lines if line["bytes_done"] < line["bytes_total"]]
    assert known and all(line["bytes_total"] == total and line["eta_seconds"] > 0 for line in known)
    assert lines[-1]["bytes_done"] == lines[-1]["bytes_total"] == total


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("at", [1, 2, 3, 50])
def test_device_fails_while_saving(hooks, source, call, at):
    """Nothing valid may be left: except when the very last flush fails, and the image is complete."""
    result = hooks.save(f"t={source}", env=fault(call, hooks.device, at, errno.EIO), expect=None)
    if call == "fsync" and at == 50:
        assert result["exit"] == 0  # there are fewer
        return
    assert result["exit"] == 2 and result["error"]["errno"] == "EIO" and str(hooks.device) in result["error"]["what"]
    assert hooks("info", expect=3)["image"]["state"] == "none"


@pytest.mark.parametrize("at", [1, 2, 3, 30])
def test_device_fails_while_restoring(hooks, source, work, at):
    hooks.save(f"t={source}")
    (work / "dst").write_text("what was there")
    result = hooks.restore(f"t={work}/dst", env=fault("pread", hooks.device, at, errno.EIO), expect=None)
    assert result["exit"] in (2, 4)
    assert (work / "dst").read_text() == "what was there"
    assert [p.name for p in work.iterdir() if p.name.startswith(".hotpmem")] == []
    hooks.restore(f"t={work}/dst")
    assert_same(source, work / "dst")


def test_device_became_smaller(hooks, source, work):
    hooks.save(f"t={source}")
    os.truncate(hooks.device, 20 << 20)
    for verb in ("info", "verify", "restore"):
        result = hooks(verb, expect=4)
        assert result["image"]["state"] == "damaged" and "bigger device" in result["error"]["said"]


@pytest.mark.skipif(not ROOT, reason="needs root: mounts")
def test_no_room_for_the_image(work, source):
    """A sparse file on a full file system."""
    (work / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10M", "tmpfs", work / "small"], check=True)
    try:
        helper = Helper(HOOKS, make_device(work / "small", "file", 100 << 20)[0])
        assert helper.save(f"t={source}", expect=2)["error"]["errno"] == "ENOSPC"
        assert helper("info", expect=3)["image"]["state"] == "none"
    finally:
        subprocess.run(["umount", work / "small"], check=True)


@pytest.mark.skipif(not ROOT, reason="needs root: mounts")
@pytest.mark.parametrize("options", ["size=20M", "size=100M,nr_inodes=8"])
def test_no_room_to_restore(hooks, source, work, options):
    """What was there stays, what was begun is removed, the other item is restored, and it can be done again."""
    hooks.save(f"t={source}", f"o={work}/other")
    (work / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", work / "small"], check=True)
    try:
        small_files(work / "small" / "dst", 2, 100)
        before = listing(work / "small" / "dst")
        result = hooks.restore(f"t={work}/small/dst", f"o={work}/o2", expect=6)
        assert result["items"][0]["errno"] == "ENOSPC" and result["items"][1]["status"] == "restored"
        assert listing(work / "small" / "dst") == before
        assert os.listdir(work / "small") == ["dst"]
    finally:
        subprocess.run(["umount", work / "small"], check=True)
    hooks.restore(f"t={work}/dst")
    assert_same(source, work / "dst")


def test_damaged_item_does_not_take_others(hooks, source, work):
    (work / "third").write_bytes(b"3" * 100000)
    hooks.save(f"o={work}/other", f"t={source}", f"z={work}/third")
    with open(hooks.device, "r+b") as f:
        f.seek(30 << 20)
        f.write(b"damage")
    result = hooks("verify", expect=6)
    assert [i["status"] for i in result["items"]] == ["ok", "damaged", "ok"]
    result = hooks.restore(f"o={work}/o2", f"t={work}/t2", f"z={work}/z2", expect=6)
    assert [i["status"] for i in result["items"]] == ["restored", "damaged", "restored"]
    assert "checksum" in result["items"][1]["error"] and not (work / "t2").exists()
    assert hooks.restore(f"t={work}/t2", expect=4)["status"] == "damaged"


def test_two_at_a_time(hooks, source, work):
    child = stopped(hooks, IN_THE_MIDDLE, "save", "--item", f"t={source}")
    for words in (("save", "--item", f"t={source}"), ("restore",), ("invalidate",), ("verify",)):
        assert hooks(*words, expect=5)["refused"] == "in_use"
    finish(child, 0)
    hooks("verify")
    # udev locks a block device while it examines it. That lock is not ours.
    with open(hooks.device, "rb") as device:
        fcntl.flock(device, fcntl.LOCK_SH)
        hooks.restore(f"t={work}/t2")
