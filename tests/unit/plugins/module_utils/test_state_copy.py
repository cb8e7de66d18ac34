# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Driving the copy helper. Here a shell script speaks its language; the helper itself is driven on machines."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Completed, Runner, TimedOut
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._image import state_copy as sc

BOOT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def helper(tmp_path):
    """Make a helper from the lines of a script; $verb is the verb, the arguments go to ``argv``."""

    def make(*lines):
        path = tmp_path / "pmem-state"
        path.write_text("\n".join(["#!/bin/sh", f'echo "$@" >>{tmp_path}/argv', "verb=$1", *lines]) + "\n")
        path.chmod(0o755)
        return sc.Helper(Runner(), str(path), sc.ProgressFile(str(tmp_path / "run/progress.json")))

    return make


def say(**result):
    """A script line that prints a result."""
    return f"echo '{json.dumps(dict(result, event='result'))}'"


@pytest.mark.parametrize(
    "entries, said",
    [
        ([{"name": "", "path": "/a"}], "'' is not a valid item name"),
        ([{"name": "a=b", "path": "/a"}], "'a=b' is not a valid item name"),
        ([{"path": "/a"}], "'' is not a valid item name"),
        # pmem-state refuses these.
        ([{"name": "my cache", "path": "/a"}], "'my cache' is not a valid item name"),
        ([{"name": "-a", "path": "/a"}], "'-a' is not a valid item name"),
        ([{"name": ".a", "path": "/a"}], "'.a' is not a valid item name"),
        ([{"name": "caf\u00e9", "path": "/a"}], "'caf\u00e9' is not a valid item name"),
        ([{"name": "a\n", "path": "/a"}], "is not a valid item name"),
        ([{"name": "a" * 65, "path": "/a"}], "is not a valid item name"),
        ([{"name": "a", "path": "/a\nb=/b"}], "the path of the item a contains a line break"),
        ([{"name": "a", "path": "/a\x1b"}], "the path of the item a contains a line break or another control character"),
        ([{"name": "a", "path": "/srv/../etc"}], "the path of the item a contains '..'"),
        ([{"name": "a", "path": "/srv/a"}, {"name": "b", "path": "/srv/a/"}], "the path of the item b is that of the item a"),
        ([{"name": "a", "path": "/srv/a/x"}, {"name": "b", "path": "/srv/a"}], "the path of the item b is that of the item a"),
        ([{"name": "a", "path": "/a"}, {"name": "a", "path": "/b"}], "two items have the name a"),
        ([{"name": "a", "path": "srv"}], "not absolute: srv"),
        ([{"name": "a"}], "has no path"),
    ],
)
def test_items_are_checked(entries, said):
    with pytest.raises(HotpmemError, match=said):
        sc.items_from(entries, need_path=True)


def test_items():
    names = ["a", "_a", "9", "A.b-c_d", "a" * 64]
    assert [item.name for item in sc.items_from([{"name": name} for name in names], need_path=False)] == names
    entries = [{"name": "a", "path": "/srv/a", "unit": "a.service", "cold_start": True}, {"name": "b"}]
    assert [item.word for item in sc.items_from(entries, need_path=False)] == ["a=/srv/a", "b"]


@pytest.mark.parametrize("text", ["", "\n", "nonsense", '{"event": "progress"}', '{"event": "result"}\nSegmentation fault', "[1]"])
def test_no_result(text):
    with pytest.raises(ValueError):
        sc.parse_result(text)


def test_result_is_the_last_line():
    assert sc.parse_result('{"event":"progress"}\n{"event":"result","exit":5}\n\n')["exit"] == 5


@pytest.mark.parametrize(
    "arguments, line",
    [
        (("save", "/dev/pmem0", [sc.Item("a", "/srv/a")]), "save --device /dev/pmem0 --item a=/srv/a --json --progress"),
        (("verify", "/dev/pmem0"), "verify --device /dev/pmem0 --json --progress"),
        (("info", "/dev/pmem0"), "info --device /dev/pmem0 --json"),
    ],
)
def test_command_line(helper, tmp_path, arguments, line):
    helper(say(verb="x")).call(*arguments)
    assert (tmp_path / "argv").read_text().strip() == line


def test_command_line_options(helper, tmp_path):
    driver = helper(say(verb="x"))
    driver.call("restore", "/dev/pmem0", threads=3, force=True)
    driver.call("save", "/dev/pmem0", [sc.Item("a", "/a")], force=True)
    driver.call("plan", items=[sc.Item("a", "/a")], capacity=42 << 30)
    driver.call("prepare", items=[sc.Item("a", "/a")], seconds=2.5)
    driver.call("plan", "/dev/pmem0")
    assert (tmp_path / "argv").read_text().splitlines() == [
        "restore --device /dev/pmem0 --threads 3 --force --json --progress",
        "save --device /dev/pmem0 --item a=/a --force --json --progress",
        f"plan --capacity {42 << 30} --item a=/a --json",
        "prepare --seconds 2.5 --item a=/a --json",
        "plan --device /dev/pmem0 --json",
    ]


def test_exit_code_wins_over_the_object(helper):
    assert helper(say(exit=0), "exit 5").call("info", "/d")["exit"] == 5


def test_without_a_result_the_words_are_told(helper):
    with pytest.raises(HotpmemError, match="exited with code 1: unknown option"):
        helper("echo unknown option >&2", "exit 1").call("info", "/d")


def test_helper_missing(tmp_path):
    missing = sc.Helper(Runner(), str(tmp_path / "none"))
    for ask in (lambda: missing.call("info", "/d"), missing.version):
        with pytest.raises(HotpmemError, match="role state_helper"):
            ask()


def test_helper_of_another_architecture(tmp_path):
    path = tmp_path / "pmem-state"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    helper = sc.Helper(Runner(), str(path))
    for ask in (helper.version, lambda: helper.call("info", "/d")):
        with pytest.raises(HotpmemError, match="Exec format error"):
            ask()


def test_progress_can_be_read_meanwhile(helper, tmp_path):
    line = json.dumps({"event": "progress", "phase": "copy", "percent": 40})
    # The helper waits until its own progress is in the file: others can read it while the copy runs.
    file = tmp_path / "run/progress.json"
    wait = f"until grep -q percent {file} 2>/dev/null; do sleep 0.05; done; cp {file} {tmp_path}/seen"
    helper(f"echo '{line}'", wait, say(exit=0)).call("save", "/d", timeout=60)
    seen = json.loads((tmp_path / "seen").read_text())
    assert (seen["phase"], seen["percent"], seen["verb"], seen["pid"]) == ("copy", 40, "save", os.getpid())
    assert not (tmp_path / "run/progress.json").exists()


def test_progress_never_fails(tmp_path):
    (tmp_path / "file").write_text("")
    progress = sc.ProgressFile(str(tmp_path / "file/progress.json"))
    for line in ('{"event": "progress"}', "nonsense", "[1]", '"x"'):
        progress.take("save", line)
    progress.remove()


def test_timeout_ends_the_helper(helper):
    with pytest.raises(HotpmemError, match=r"did not finish within 0\.3 s and was stopped") as caught:
        helper("exec sleep 1000").call("save", "/d", timeout=0.3)
    assert caught.value.details["timed_out"] is True


class Late(Runner):
    """The deadline comes, and the program ends with this code and output."""

    def __init__(self, rc, stdout):
        super().__init__()
        self.completed = Completed(("pmem-state",), rc, stdout, "")

    def run(self, argv, timeout=None, on_line=None):
        error = TimedOut("Cannot complete the command", "it was still running", "Increase the timeout", timeout=timeout)
        error.completed = self.completed
        raise error


@pytest.mark.parametrize("code, status", [(0, "restored"), (6, "failed")])
def test_what_was_done_when_the_deadline_came_counts(code, status):
    """pmem-state puts a whole item in place, and then reports it even when SIGTERM comes."""
    items = [{"name": "a", "status": "restored"}, {"name": "b", "status": status}]
    late = Late(code, json.dumps({"event": "result", "exit": code, "items": items}) + "\n")
    result = sc.Helper(late, "/sbin/x").call("restore", "/d", timeout=3)
    assert (result["exit"], result["items"]) == (code, items)


@pytest.mark.parametrize("rc, stdout", [(-15, ""), (2, '{"event": "result", "exit": 2, "items": [{"name": "a"}]}'), (-9, "{")])
def test_what_the_deadline_stopped_is_an_error(rc, stdout):
    with pytest.raises(HotpmemError, match=r"did not finish within 3 s") as caught:
        sc.Helper(Late(rc, stdout), "/sbin/x").call("restore", "/d", timeout=3)
    assert caught.value.details["timed_out"] and ("items" in caught.value.details) is (rc == 2)


def test_a_verb_that_copies_nothing_says_nothing_of_a_copy():
    with pytest.raises(HotpmemError) as caught:
        sc.Helper(Late(-15, ""), "/sbin/x").call("prepare", timeout=3)
    assert caught.value.said == "pmem-state prepare did not finish within 3 s and was stopped"


def test_failure_carries_the_result():
    result = {
        "event": "result",
        "exit": 6,
        "refused": None,
        "error": {"what": "Cannot restore", "said": "1 of 2 items is damaged", "todo": "See verify", "errno": None},
        "items": [{"name": "a", "status": "restored"}, {"name": "b", "status": "damaged", "error": "chunk 3"}],
    }
    error = sc.failure("x", result)
    assert str(error) == "Cannot restore: 1 of 2 items is damaged; b: chunk 3. See verify."
    assert (error.details["exit"], error.details["items"][1]["name"]) == (6, "b")


@pytest.mark.parametrize(
    "code, words", [(3, "the device holds no image"), (4, "damaged"), (5, r"pmem-state refused this \(consumed\)"), (9, "exit code 9")]
)
def test_failure_without_words(code, words):
    with pytest.raises(HotpmemError, match=words):
        raise sc.failure("x", {"exit": code, "refused": "consumed" if code == 5 else None})


@pytest.fixture
def copy(helper, tmp_path):
    """A StateCopy on a host with a boot id and a machine id."""
    for name, text in (("proc/sys/kernel/random/boot_id", BOOT), ("etc/machine-id", "m1")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    return lambda *lines: sc.StateCopy(helper(*lines), Sysfs(str(tmp_path)))


@pytest.mark.parametrize(
    "state, boot, compared, same",
    [
        ("valid", BOOT, 0, True),
        ("valid", BOOT, 5, False),
        ("valid", "other", 0, False),
        ("consumed", BOOT, 0, False),
        ("none", None, 0, False),
    ],
)
def test_already_saved(copy, state, boot, compared, same):
    driver = copy(say(), f"[ $verb = compare ] && exit {compared}; exit 0")
    now = {"image": {"state": state, "boot_id": boot}}
    assert bool(driver.already_saved(now, "/d", [sc.Item("a", "/a")], 0, None)) is same


@pytest.mark.parametrize(
    "image, force, already, reason",
    [
        ({"state": "valid", "machine_id": "m1"}, False, False, None),
        ({"state": "valid", "machine_id": "m2"}, False, False, "another machine"),
        ({"state": "valid", "machine_id": "m2"}, True, False, None),
        ({"state": "consumed", "consumed_boot_id": BOOT, "machine_id": "m1"}, False, True, "consumed"),
        ({"state": "consumed", "consumed_boot_id": "other", "machine_id": "m1"}, False, False, "consumed"),
        ({"state": "none"}, True, False, "no image"),
        ({"state": "damaged"}, True, False, "damaged"),
    ],
)
def test_restore_predicates(copy, image, force, already, reason):
    driver = copy()
    now = {"image": image}
    assert driver.already_restored(now) is already
    said = driver.why_not_restore(now, force)
    assert said is None if reason is None else reason in said


@pytest.mark.parametrize(
    "image, force, refused",
    [
        ({"state": "valid", "boot_id": "other"}, False, True),
        ({"state": "valid", "boot_id": "other"}, True, False),
        ({"state": "valid", "boot_id": BOOT}, False, False),
        ({"state": "consumed", "boot_id": "other"}, False, False),
        ({"state": "damaged"}, False, False),
        ({"state": "none"}, False, False),
    ],
)
def test_save_predicate(copy, image, force, refused):
    assert bool(copy().why_not_save({"image": image}, force)) is refused


@pytest.mark.parametrize("code, state", [(3, "none"), (4, "damaged")])
def test_info_without_an_image_is_an_answer(copy, code, state):
    assert copy(say(), f"exit {code}").info("/d")["image"]["state"] == state


def test_info_fails_on_a_system_error(copy):
    with pytest.raises(HotpmemError, match="ENODEV"):
        copy(say(error={"what": "Cannot open /d", "said": "ENODEV", "todo": "Look"}), "exit 2").info("/d")


@pytest.mark.parametrize(
    "image, words",
    [
        ({"state": "valid", "sequence": 7, "items": ["a", "b"]}, "sequence 7, items a, b"),
        ({"state": "consumed"}, ""),
        ({"state": "none"}, ""),
    ],
)
def test_unrestored_image(helper, image, words):
    assert sc.unrestored_image(helper(say(image=image)), "/d") == words


@pytest.mark.parametrize("offset, there", [(0, True), (4096, True), (2048, False), (None, False)])
def test_unrestored_image_without_the_helper(tmp_path, offset, there):
    data = bytearray(8192)
    if offset is not None:
        data[offset : offset + len(sc.MAGIC)] = sc.MAGIC
    (tmp_path / "device").write_bytes(data)
    words = sc.unrestored_image(sc.Helper(Runner(), str(tmp_path / "none")), str(tmp_path / "device"))
    assert bool(words) is there
