# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused, by which exit code, and that nothing has changed then."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest
from conftest import ASAN, Helper, make_device
from tree import ROOT, assert_same, small_files


@pytest.fixture
def saved(helper, work):
    """Two items, saved."""
    small_files(work / "a", 120, 5000)
    (work / "b").write_bytes(os.urandom(700000))
    helper.save(f"a={work}/a", f"b={work}/b")
    return helper


def test_no_image(helper, work):
    for verb in ("restore", "verify", "info"):
        result = helper(verb, expect=3)
        assert result["image"] == {"state": "none", "content": "zeros"} and result["error"]["todo"]
    (work / "x").write_text("x")
    assert helper("compare", "--item", f"x={work}/x", expect=3)["status"] == "no_image"


def test_what_is_there_instead_of_an_image(saved):
    """A header alone that is gone, and a device that was cleared."""
    with open(saved.device, "r+b") as device:
        device.write(bytes(8192))
        device.flush()
        assert saved("info", expect=3)["image"] == {"state": "none", "content": "other"}
        size = os.fstat(device.fileno()).st_size
        device.truncate(0)
        device.truncate(size)
    assert saved("info", expect=3)["image"] == {"state": "none", "content": "zeros"}


def test_consumed_once(saved, work):
    result = saved.restore(f"a={work}/a2")
    assert result["image"]["state"] == "valid" and result["image"]["consumed_boot_id"]
    assert saved.restore(f"a={work}/a3", expect=5)["refused"] == "consumed"
    assert not (work / "a3").exists()
    result = saved.restore(f"b={work}/b2")
    assert result["image"]["state"] == "consumed"
    assert saved("info")["image"]["state"] == "consumed"
    assert saved.restore(expect=5)["refused"] == "consumed"
    saved.restore(f"a={work}/a3", f"b={work}/b3", force=True)
    assert_same(work / "a", work / "a3")
    assert_same(work / "b", work / "b3")


def test_rest_after_a_part(saved, work):
    """Without --item, what was restored before is passed over."""
    saved.restore("b")
    result = saved.restore()
    assert {i["name"]: i["status"] for i in result["items"]} == {"a": "restored", "b": "skipped"}


def test_foreign(saved, work):
    other = {"PMEM_STATE_MACHINE_ID": "f" * 32}
    before = saved.device.read_bytes()
    assert saved.restore(f"a={work}/x", env=other, expect=5)["refused"] == "foreign"
    assert not (work / "x").exists() and saved.device.read_bytes() == before
    saved.restore(f"a={work}/x", env=other, force=True)


def test_no_machine_id(helper, work):
    nobody = {"PMEM_STATE_MACHINE_ID": "none"}
    (work / "x").write_text("x")
    assert helper.save(f"x={work}/x", env=nobody, expect=5)["refused"] == "no_machine_id"
    helper("save", "--item", f"x={work}/x", "--force", env=nobody)
    assert helper.restore(f"x={work}/y", env=nobody, expect=5)["refused"] == "foreign"


def test_boot_is_remembered(saved, work):
    result = saved.restore("a", "b", env={"PMEM_STATE_BOOT_ID": "11111111-2222-3333-4444-555555555555"})
    assert result["image"]["consumed_boot_id"] == "11111111-2222-3333-4444-555555555555"


NEXT_BOOT = {"PMEM_STATE_BOOT_ID": "11111111-2222-3333-4444-555555555555"}


def test_an_image_that_waits_is_kept(saved, work):
    """The next boot has not restored it yet, and a save would destroy it."""
    before = saved.device.read_bytes()
    (work / "c").write_text("c")
    result = saved.save(f"c={work}/c", env=NEXT_BOOT, expect=5)
    assert result["refused"] == "unrestored" and "--force" in result["error"]["todo"]
    assert (result["image"]["state"], result["image"]["items"]) == ("valid", ["a", "b"])
    assert saved.device.read_bytes() == before
    # A part of it still waits.
    saved.restore(f"a={work}/a2", env=NEXT_BOOT)
    assert saved.save(f"c={work}/c", env=NEXT_BOOT, expect=5)["refused"] == "unrestored"
    result = saved("save", "--item", f"c={work}/c", "--force", env=NEXT_BOOT)
    assert result["image"]["items"] == ["c"] and result["image"]["sequence"] > 1


def test_an_image_that_does_not_wait_is_replaced(saved, work):
    """An image of this boot, one that was restored, and one that is damaged."""
    (work / "c").write_text("c")
    saved.save(f"c={work}/c")
    saved.restore("c", env=NEXT_BOOT)
    saved.save(f"c={work}/c", env=NEXT_BOOT)
    with open(saved.device, "r+b") as device:
        device.truncate(8192)
        device.truncate(128 << 20)
    saved("info", expect=4)
    saved.save(f"c={work}/c")
    assert saved("info")["image"]["items"] == ["c"]


def test_does_not_fit(work):
    (work / "big").write_bytes(os.urandom(8 << 20))
    helper = Helper(ASAN, make_device(work, "file", 8 << 20)[0])
    plan = helper("plan", "--item", f"x={work}/big", expect=5)
    assert plan["refused"] == "does_not_fit" and plan["needed_bytes"] > plan["capacity_bytes"] == 8 << 20
    assert helper.save(f"x={work}/big", expect=5)["refused"] == "does_not_fit"
    assert helper("info", expect=3)["image"]["state"] == "none"


@pytest.mark.parametrize("spare", [-4096, 0])
def test_plan_is_exact_for_data_without_zeros(work, spare):
    small_files(work / "src", 300, 20000)
    words = ("--item", f"x={work}/src")
    need = Helper(ASAN, make_device(work, "file", 64 << 20)[0])("plan", *words)["needed_bytes"]
    helper = Helper(ASAN, make_device(work, "file", need + spare)[0])
    assert helper("plan", *words, expect=5 if spare else 0)["needed_bytes"] == need
    helper("save", *words, expect=5 if spare else 0)


def test_plan_of_an_item_in_use(helper, work):
    """Services run while a plan is made. A database replaces and extends its files all the time, which is not an error."""
    small_files(work / "src", 300, 3)
    over = threading.Event()

    def write():
        while not over.is_set():
            for number in range(0, 300, 7):
                (work / "src/new").write_bytes(b"x" * number)
                (work / "src/new").replace(work / f"src/moving{number}")
            for path in work.glob("src/moving*"):
                path.unlink(missing_ok=True)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _run in range(20):
            assert helper("plan", "--item", f"x={work}/src")["items"][0]["status"] == "ok"
    finally:
        over.set()
        writer.join()


def test_plan_by_capacity(work):
    (work / "x").write_bytes(b"x" * 100)
    for capacity, code in (("2M", 5), ("3M", 0), ("0x300000", 0)):
        done = subprocess.run([ASAN, "plan", "--capacity", capacity, "--item", f"x={work}/x"], capture_output=True, check=False)
        assert done.returncode == code


def test_differs(saved, work):
    items = ("--item", f"a={work}/a", "--item", f"b={work}/b")
    assert saved("compare", *items)["exit"] == 0
    assert saved("compare", *items[:2], expect=5)["refused"] == "differs"
    target = work / "a" / "d0" / "f7"
    st = target.stat()
    target.write_bytes(os.urandom(st.st_size))  # the same size and times, other bytes
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert saved("compare", *items, expect=5)["refused"] == "differs"
    saved.save(f"a={work}/a", f"b={work}/b")
    for change in (
        lambda: os.chmod(target, 0o600),
        lambda: os.mkdir(work / "a" / "new"),
        lambda: os.link(target, work / "a" / "l"),
        lambda: os.utime(work / "b"),
        lambda: os.truncate(work / "b", 700001),
    ):
        assert saved("compare", *items)["exit"] == 0
        change()
        assert saved("compare", *items, expect=5)["refused"] == "differs"
        saved.save(f"a={work}/a", f"b={work}/b")


def test_compare_after_zero_chunks(helper, work):
    (work / "z").write_bytes(bytes(1 << 20))
    helper.save(f"z={work}/z")
    assert helper("compare", "--item", f"z={work}/z")["exit"] == 0


@pytest.mark.skipif(not ROOT, reason="needs root: mounts")
def test_mount_points(helper, work):
    (work / "m").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", work / "m"], check=True)
    try:
        (work / "m" / "x").write_text("x")
        for verb in ("save", "plan"):
            result = helper(verb, "--item", f"item1={work}/m", expect=5)
            assert result["refused"] == "mount_point" and "item1" in result["error"]["what"]
        helper.save(f"x={work}/m/x")
        result = helper.restore(f"x={work}/m", expect=2)
        assert "mount point" in result["items"][0]["error"]
        assert (work / "m" / "x").read_text() == "x"
    finally:
        subprocess.run(["umount", work / "m"], check=True)


@pytest.mark.skipif(not ROOT, reason="needs root: mounts")
def test_in_use(work):
    device, remove = make_device(work, "block", 16 << 20)
    try:
        subprocess.run(["mke2fs", "-q", "-F", str(device)], check=True)
        (work / "m").mkdir()
        (work / "x").write_text("x")
        subprocess.run(["mount", device, work / "m"], check=True)
        try:
            assert Helper(ASAN, device).save(f"x={work}/x", expect=5)["refused"] == "in_use"
            assert Helper(ASAN, device)("info", expect=3)["image"]["state"] == "none"
        finally:
            subprocess.run(["umount", work / "m"], check=True)
    finally:
        remove()


def test_symlink_item(helper, work):
    (work / "l").symlink_to("/etc")
    assert helper.save(f"l={work}/l", expect=5)["refused"] == "symlink"


def test_each_bad_item_is_named(helper, work):
    (work / "l").symlink_to("/etc")
    (work / "a").mkdir()
    os.mkfifo(work / "fifo")
    words = [word for name in ("l", "a", "fifo") for word in ("--item", f"{name}={work}/{name}")]
    for verb in ("plan", "save"):
        result = helper(verb, *words, expect=5)
        assert result["refused"] == "symlink" and "item l" in result["error"]["what"]
        errors = {one["name"]: one["error"] for one in result["items"]}
        assert errors == {"l": "it is a symbolic link", "a": None, "fifo": "it is not a file or a directory"}


def test_invalidate(saved):
    saved("invalidate")
    assert saved("restore", expect=3)["image"]["state"] == "none"
    assert saved.device.read_bytes()[:8192] == bytes(8192)


def test_missing_item_does_not_take_others(saved, work):
    result = saved.restore(f"a={work}/a2", f"new={work}/new", expect=6)
    assert {i["name"]: i["status"] for i in result["items"]} == {"a": "restored", "b": "skipped", "new": "failed"}
    assert result["image"]["items"] == ["a", "b"] and result["image"]["state"] == "valid"
    assert_same(work / "a", work / "a2")
    assert saved("verify", "--item", "b", "--item", "new", expect=6)["items"][1]["status"] == "ok"


def test_unknown_item(saved, work):
    assert saved.restore(f"c={work}/c", expect=5)["refused"] == "no_such_item"
    assert saved("info")["image"]["state"] == "valid"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["save"],
        ["save", "--device", "x"],
        ["save", "--device", "x", "--item", "a"],
        ["save", "--device", "x", "--item", "a=relative"],
        ["save", "--device", "x", "--item", "a=/x/../y"],
        ["save", "--device", "x", "--item", "a=/"],
        ["save", "--device", "x", "--item", ".a=/x"],
        ["save", "--device", "x", "--item", "a=/x", "--item", "a=/y"],
        ["save", "--device", "x", "--item", "a=/x", "--item", "b=/x/y"],
        ["save", "--device", "x", "--item", "a=/x", "--threads", "0"],
        ["save", "--device", "x", "--item", "a=/x", "--threads", "9x"],
        ["info", "--device"],
        ["info", "--device", "x", "--item", "a"],
        ["plan", "--item", "a=/x"],
        ["plan", "--device", "x", "--capacity", "1G", "--item", "a=/x"],
        ["plan", "--capacity", "1Q", "--item", "a=/x"],
        ["info", "--device", "x", "--bogus"],
        ["info", "--device", "/dev/null"],
        ["info", "--device", "/"],
    ],
)
def test_usage(words):
    done = subprocess.run([ASAN, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("pmem-state: ") and "Sanitizer" not in done.stderr


def test_config(helper, work):
    (work / "x").write_text("x")
    (work / "y y").write_text("y")
    (work / "items").write_text(f"# the list\n\nx={work}/x\ny={work}/y y\n")
    assert [i["name"] for i in helper("save", "--config", str(work / "items"))["items"]] == ["x", "y"]
    (work / "x").write_text("newer")
    helper("restore", "--config", str(work / "items"))
    assert (work / "x").read_text() == "x"
    assert helper("save", "--config", str(work / "none"), expect=2)["error"]["errno"] == "ENOENT"


def test_help_and_version():
    text = subprocess.run([ASAN, "--help"], capture_output=True, text=True, check=True).stdout
    for word in ("save", "restore", "plan", "compare", "verify", "info", "invalidate", "EXIT STATUS", "--threads", "--force"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120
    assert "image format 1" in subprocess.run([ASAN, "--version"], capture_output=True, text=True, check=True).stdout
