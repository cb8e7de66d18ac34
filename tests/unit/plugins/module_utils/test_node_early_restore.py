# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script restore.sh, run by a real shell: the restore that an initrd begins, and the unit that waits for it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from node_scripts import Host, holding, on_dax, pending


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_early(host):
    """The initrd's restore writes to /run alone; the unit takes its result over, once, and writes to the disk."""
    host.enabled()
    assert host.run("--early").returncode == 0
    count = [call for call in host.calls if call.startswith("restore")]
    assert len(count) == 1 and " --threads " in count[0] and count[0].endswith("--json")
    assert host.names("run/hotpmem/restored") == ["cache", "must"] and host.names("run/hotpmem/hold") == []
    assert host.names("var/lib/hotpmem") == ["pending"]
    done = host.run()
    restored, took, times = done.stdout.partition("the initrd restored beside the start of systemd, in this CPU time:\n")
    assert (done.returncode, restored) == (0, "cache restored\nmust restored\n") and took
    # The shell's own, and that of its programs.
    assert re.fullmatch(r"(\d+m\d+\.\d+s \d+m\d+\.\d+s\n){2}", times)
    assert host.names("var/lib/hotpmem") == ["serving"] and not (host.root / "run/hotpmem/early").exists()
    pending(host)  # by a handoff of this boot: nobody's but its own
    done = host.run()
    assert (done.returncode, done.stdout) == (0, "") and len(host.calls) == 1 and host.names("var/lib/hotpmem") == ["pending", "serving"]


def test_early_and_damaged(host):
    host.enabled()
    host.answer(6, cache="restored", must="damaged")
    host.run("--early")
    assert host.names("run/hotpmem/hold") == ["must"]
    assert host.run().returncode == 6 and len(host.calls) == 1 and host.names("var/lib/hotpmem") == ["serving"]


@pytest.mark.parametrize("code", [2, 3, 5, 126, 137])
def test_early_and_nothing_restored(host, code):
    """The helper was killed, or could not: the unit tries again, with all that it has."""
    host.enabled()
    host.answer(code)
    assert host.run("--early").returncode == 0 and not (host.root / "run/hotpmem/early").exists()
    host.answer(0, cache="restored", must="restored")
    done = host.run()
    assert done.returncode == 0 and f"left the restore to this unit: pmem-state ended with {code}" in done.stdout
    assert len(host.calls) == 2 and host.names("run/hotpmem/hold") == [] and host.names("var/lib/hotpmem") == ["serving"]


def test_what_was_restored_before_the_end_is_not_held(host):
    """Killed between its marks and its result; the helper restores nothing twice."""
    host.enabled()
    host.run("--early")
    (host.root / "run/hotpmem/restore.json").unlink()
    host.answer(5)
    host.run()
    assert host.names("run/hotpmem/hold") == [] and host.names("run/hotpmem/restored") == ["cache", "must"]


@pytest.mark.parametrize("why", ["not announced", "cold", "no unit", "no device", "several", "no item", "claimed"])
def test_early_leaves_it_to_the_unit(host, why):
    if why != "no unit":
        host.enabled()
    if why == "not announced":
        (host.root / "var/lib/hotpmem/pending").unlink()
    elif why == "cold":
        (host.root / "var/lib/hotpmem/cold").mkdir()
        (host.root / "var/lib/hotpmem/cold/cache").write_text("it failed\n")
    elif why == "no device":
        shutil.rmtree(host.root / "sys/bus/nd/devices/namespace0.0")
    elif why == "several":
        host.namespace("namespace1.0", "0x100000000", "pmem1")
    elif why == "claimed":
        on_dax(host, "kmem")
    elif why == "no item":
        (host.root / "etc/hotpmem/items.conf").write_text("# none\n")
    before = sorted(os.listdir(host.root / "var/lib/hotpmem"))
    assert host.run("--early").returncode == 0
    assert host.calls == [] and not (host.root / "run/hotpmem/restore.json").exists()
    assert sorted(os.listdir(host.root / "var/lib/hotpmem")) == before
    # And that does what it does without.
    assert "the initrd left the restore to this unit: " in host.run().stdout
    assert (host.root / "run/hotpmem/restore.json").exists() and not (host.root / "run/hotpmem/early").exists()


def begun(host, how="--early"):
    """A restore that hangs in its helper."""
    host.enabled()
    (host.root / "slow").touch()
    child = host.start(how)
    while not host.calls:
        time.sleep(0.05)
    return child


def test_the_unit_waits_for_the_early_restore(host):
    child = begun(host)
    unit = host.start("0")
    time.sleep(0.3)
    assert unit.poll() is None and len(host.calls) == 1
    (host.root / "slow").unlink()
    # What was early is killed as a whole, as by the kernel when memory runs out: the unit restores.
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(10)
    assert unit.wait(10) == 0 and len(host.calls) == 2
    assert host.names("run/hotpmem/restored") == ["cache", "must"] and host.names("var/lib/hotpmem") == ["serving"]


def test_what_a_killed_early_restore_said(host):
    host.enabled()
    (host.root / "run/hotpmem").mkdir(parents=True, exist_ok=True)
    (host.root / "run/hotpmem/early.log").write_text("all of a line\nhalf a li")
    assert host.run().stdout.startswith("all of a line\nhalf a li\n")


def test_at_the_deadline_the_early_restore_is_ended(host):
    """Units are told to start cold only when nothing can put items in place any more."""
    child = begun(host)
    assert host.run("--failed").returncode == 0
    assert child.wait(1) == -signal.SIGKILL
    assert host.result["status"] == "failed" and host.names("run/hotpmem/restored") == []
    assert host.names("run/hotpmem/hold") == ["must"] and not (host.root / "var/lib/hotpmem/pending").exists()


def test_at_the_deadline_the_rest_of_the_early_restore_is_ended(host):
    """The script is gone, and its helper works on."""
    child = begun(host)
    child.kill()
    child.wait(10)
    os.killpg(child.pid, 0)
    assert host.run("--failed").returncode == 0
    deadline = time.monotonic() + 5
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(child.pid, 0)
            time.sleep(0.05)


def test_at_the_deadline_a_stranger_with_the_same_number_lives_on(host):
    """The early restore has been killed, its number was given away, and something else holds the lock."""
    run = host.root / "run/hotpmem"
    run.mkdir(parents=True)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    holder = holding(run / "restore.lock")
    try:
        for written in (f"{stranger.pid}\n", f"{stranger.pid} 1\n", "\n"):
            (run / "early.pid").write_text(written)
            unit = host.start("--failed")
            time.sleep(0.5)
            assert unit.poll() is None and stranger.poll() is None and holder.poll() is None
            unit.kill()
            unit.wait(10)
    finally:
        for child in (stranger, holder):
            child.kill()
            child.wait(10)


@pytest.mark.parametrize("how", ["10", "--failed"])
def test_a_restore_that_is_over_waits_for_nobody(host, how):
    """A handoff that starts a state unit again starts this unit too, and holds the lock until the state unit runs."""
    run = host.root / "run/hotpmem"
    run.mkdir(parents=True)
    (run / "restore.json").write_text("{}")
    holder = holding(run / "restore.lock")
    try:
        unit = host.start(how)
        assert unit.wait(5) == 0 and holder.poll() is None
    finally:
        holder.kill()
        holder.wait(10)


def test_an_early_restore_that_ended_leaves_no_number(host):
    host.enabled()
    host.run("--early")
    assert (host.root / "run/hotpmem/early.pid").read_text() == ""


def test_a_unit_that_failed_after_the_early_restore(host):
    """There is a result: what is left to do is done, and the items are in place."""
    host.enabled()
    host.run("--early")
    assert host.run("--failed").returncode == 0
    assert host.result["items"][0]["status"] == "restored" and host.names("var/lib/hotpmem") == ["serving"]


def test_shut_down_during_the_early_restore(host):
    child = begun(host)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(10) == 0 and not (host.root / "run/hotpmem/restore.json").exists()
    assert host.names("var/lib/hotpmem") == ["pending"]
