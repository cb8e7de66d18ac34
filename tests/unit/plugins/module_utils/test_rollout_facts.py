# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""History, mark and needs of a host."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle import rollout_facts as rf
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs

BOOT = "11111111-2222-3333-4444-555555555555"
MARK = {"run": "r1", "rollout": "default", "outcome": "kept", "time": "2026-11-27T10:00:00Z", "boot_id": BOOT}
RECORD = {
    "boot_id_before": "a",
    "state_bytes": 209715200,
    "stored_bytes": 1,
    "save_seconds": 0.25,
    "method": "systemd",
    "boot_id": BOOT,
    "kernel": "6.12.117+deb13-cloud-amd64",
    "ended": "2026-11-27T10:00:00Z",
    "restore_seconds": 0.2,
    "items": [{"name": "cache", "unit": "cache.service", "status": "restored", "reason": None}],
    "timeline": {
        "marks": {"preflight": 1},
        "down_seconds": 12.5,
        "phases": [
            {"name": "prepare (services up)", "mark": "stopping", "seconds": 3.0, "down": False},
            {"name": "save", "mark": "saved", "seconds": 0.5, "down": True},
            {"name": "hot-add (services up)", "mark": "hot_added", "seconds": 1.25, "down": False},
        ],
    },
}


@pytest.fixture
def host(tmp_path):
    def build(files):
        for name, content in {"/proc/sys/kernel/random/boot_id": BOOT, "/proc/sys/kernel/osrelease": "6.1-x", **files}.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return Sysfs(str(tmp_path))

    return build


def test_the_facts_of_a_cycle():
    assert rf.cycle_facts(7, RECORD) == {
        "n": 7,
        "ended": "2026-11-27T10:00:00Z",
        "down_seconds": 12.5,
        "seconds": 4.75,
        "phases": {"prepare (services up)": 3.0, "save": 0.5, "hot-add (services up)": 1.25},
        "saved_bytes": 209715200,
        "save_seconds": 0.25,
        "items": [{"name": "cache", "status": "restored"}],
        "kernel": "6.12.117+deb13-cloud-amd64",
    }


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"timeline": None, "items": None, "state_bytes": None},
        {"timeline": {"down_seconds": None, "phases": []}},
        # a cycle through firmware, or a cold start: no marks and no save
        {"timeline": {"phases": [{"name": "x", "seconds": None}], "down_seconds": True}, "items": ["x", None], "save_seconds": "fast"},
    ],
)
def test_what_a_record_does_not_hold_is_null(record):
    facts = rf.cycle_facts(1, record, "2026-01-01T00:00:00Z")
    assert facts == {
        "n": 1,
        "ended": "2026-01-01T00:00:00Z",
        "items": [],
        "phases": {},
        **dict.fromkeys(("down_seconds", "seconds", "saved_bytes", "save_seconds", "kernel")),
    }


def test_the_last_twenty_in_their_order(host):
    sysfs = host({f"/var/lib/hotpmem/cycles/{number}.json": dict(RECORD, state_bytes=number) for number in range(85, 110)})
    host({"/var/lib/hotpmem/cycles/x.json": "{}", "/var/lib/hotpmem/cycles/110.json.new": "{}"})
    found, warnings = rf.history(sysfs)
    assert [one["n"] for one in found] == list(range(90, 110)) == [one["saved_bytes"] for one in found]
    assert warnings == []


def test_damaged_records_are_skipped_and_named(host):
    folder = "/var/lib/hotpmem/cycles"
    sysfs = host({f"{folder}/1.json": RECORD, f"{folder}/2.json": '{"torn', f"{folder}/3.json": "[]", f"{folder}/4.json": RECORD})
    os.makedirs(sysfs.path(f"{folder}/5.json"))
    with open(sysfs.path(f"{folder}/6.json"), "wb") as file:
        file.write(b"\xff\xfe{}")
    found, warnings = rf.history(sysfs)
    assert [one["n"] for one in found] == [1, 4]
    assert [warning.split(" can't be read")[0] for warning in warnings] == [f"The record {folder}/{n}.json" for n in (2, 3, 5, 6)]


def test_a_record_without_a_time_has_that_of_its_file(host):
    sysfs = host({"/var/lib/hotpmem/cycles/1.json": {"boot_id": BOOT}})
    os.utime(sysfs.path("/var/lib/hotpmem/cycles/1.json"), (1795776000, 1795776000))
    assert rf.history(sysfs)[0][0]["ended"] == "2026-11-27T10:40:00Z"


@pytest.mark.parametrize(
    "content, mark, warnings",
    [
        (None, None, 0),
        (MARK, MARK, 0),
        (dict(MARK, more=1), MARK, 0),
        ("{", None, 1),
        ("[]", None, 1),
        ({key: MARK[key] for key in MARK if key != "boot_id"}, None, 1),
        (dict(MARK, run=7), None, 1),
    ],
)
def test_the_mark(host, content, mark, warnings):
    sysfs = host({} if content is None else {"/var/lib/hotpmem/rollout.json": content})
    found = rf.mark_of(sysfs)
    assert found[0] == mark and len(found[1]) == warnings


@pytest.mark.parametrize(
    "before, wanted, changed",
    [
        (None, {}, True),
        (MARK, {}, False),
        (MARK, {"time": MARK["time"]}, False),
        (MARK, {"time": "2026-11-27T11:00:00Z"}, True),
        (MARK, {"outcome": "cold"}, True),
        (MARK, {"run": "r2"}, True),
        (MARK, {"rollout": "other"}, True),
        (dict(MARK, boot_id="before"), {}, True),
        ("{", {}, True),
    ],
)
def test_a_mark_that_says_the_same_stays(host, before, wanted, changed):
    sysfs = host({} if before is None else {"/var/lib/hotpmem/rollout.json": before})
    found, after = rf.new_mark(sysfs, {"run": "r1", "rollout": "default", "outcome": "kept", "time": None, **wanted})
    assert (found != after) is changed
    assert set(after) == set(MARK) and after["boot_id"] == BOOT and len(after["time"]) == 20
    assert {key: after[key] for key in wanted} == wanted


NEW = "6.12.117+deb13-cloud-amd64"
COMPLETE = {f"/boot/vmlinuz-{NEW}": "k", f"/boot/initrd.img-{NEW}": "i", f"/usr/lib/modules/{NEW}/modules.dep": "d"}
NO_TOOLS = {"dpkg-query": None, "dnf5": None, "needs-restarting": None, "zypper": None}


@pytest.mark.parametrize(
    "running, files, kernel, path, reasons, not_read",
    [
        ("6.1.0-9-cloud-amd64", COMPLETE, True, f"/boot/vmlinuz-{NEW}", [f"6.1.0-9-cloud-amd64 runs, and {NEW} is installed"], ""),
        (NEW, COMPLETE, False, f"/boot/vmlinuz-{NEW}", [], ""),
        # It is needed, and can't be done now.
        (
            "6.1.0-9-cloud-amd64",
            {f"/boot/vmlinuz-{NEW}": "k"},
            True,
            None,
            [f"6.1.0-9-cloud-amd64 runs, and {NEW} is installed"],
            f"The newest kernel can't be used: {NEW} is not completely installed",
        ),
        ("6.9-arch1-1", {"/boot/vmlinuz-linux": "k"}, None, None, [], "The newest kernel can't be told: looked in /efi"),
    ],
)
def test_what_the_host_needs(host, recorder, running, files, kernel, path, reasons, not_read):  # noqa: PLR0917
    needs = rf.needs_of(host({**files, "/proc/sys/kernel/osrelease": running, "/etc/os-release": "ID=debian\n"}), recorder(NO_TOOLS))
    assert needs["needs"] == {"kernel": kernel, "packages": [], "reasons": reasons}
    assert (needs["newest_kernel"] or {}).get("path") == path
    assert [said[: len(not_read)] for said in needs["not_read"]] == ([not_read] if not_read else [])


def test_all_of_it(host, recorder):
    runner = recorder({**NO_TOOLS, "busctl": (1, "", "no bus"), "who": (0, "", ""), "/usr/local/sbin/pmem-state": None})
    facts = rf.gather(
        host({"/run/reboot-required": "", "/run/reboot-required.pkgs": "libc6\n", "/var/lib/hotpmem/rollout.json": MARK}), runner
    )
    keys = ["boot_id", "helper_sha256", "history", "inhibitors", "kernel", "mark", "needs", "newest_kernel", "not_read", "sessions"]
    assert sorted(facts) == keys
    assert (facts["boot_id"], facts["kernel"], facts["mark"]) == (BOOT, "6.1-x", MARK)
    assert facts["needs"]["packages"] == ["libc6"] and facts["needs"]["reasons"] == ["/run/reboot-required exists"]


def test_the_digest_of_the_helper(host, tmp_path):
    helper = tmp_path / "pmem-state"
    assert rf.gather(host({}), Runner(), ["helper"], str(helper))["helper_sha256"] is None
    helper.write_bytes(b"program")
    helper.chmod(0o755)
    assert rf.gather(host({}), Runner(), ["helper"], str(helper))["helper_sha256"] == hashlib.sha256(b"program").hexdigest()


def test_only_the_parts_that_are_asked_for(host, recorder):
    """A report, and the end of a host's cycle, must not wait for the package manager or logind."""
    runner = recorder({})
    facts = rf.gather(host({"/run/reboot-required": "", "/var/lib/hotpmem/rollout.json": MARK}), runner, ["history", "mark"])
    assert facts == {"boot_id": BOOT, "kernel": "6.1-x", "history": [], "mark": MARK, "not_read": []} and not runner.calls
