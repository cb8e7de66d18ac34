# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a host: with real processes, because liveness is what it is about."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import time

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.host_lock import CLAIM, LOCK, RESTORE_LOCK, Busy, HostLock
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import KEPT_OPEN, Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs

# A thread or an inherited lock would hide what is tested.
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def lock(tmp_path):
    now = [0.0]

    def pause(seconds):
        now[0] += seconds

    return HostLock(Sysfs(str(tmp_path)), lambda: now[0], pause)


@contextlib.contextmanager
def other_process(hold):
    """Another process that is inside of hold() until the block ends."""
    # A pipe, not an event: setting an event waits for a waiter that was killed.
    here, there = FORK.Pipe()

    def work():
        with hold():
            there.send("inside")
            there.poll(60)

    process = FORK.Process(target=work)
    process.start()
    assert here.poll(30)
    try:
        yield process
    finally:
        here.send("end")
        process.join(30)


def test_one_step_at_a_time_and_the_other_is_named(lock):
    with other_process(lambda: lock.acting("the module pmem_hotplug", who="alice@control")) as process:
        with pytest.raises(Busy) as caught, lock.acting("a hot-add", wait=5):
            pass
        words = str(caught.value)
        assert "alice@control holds this host since 20" in words and f"the module pmem_hotplug (process {process.pid})" in words
        assert lock.clock() >= 5
    with lock.acting("a hot-add"):
        pass


def test_a_step_waits_for_the_restore_at_boot(lock, tmp_path):
    (tmp_path / "run/hotpmem").mkdir(parents=True)
    with other_process(lambda: lock._locked(RESTORE_LOCK, 0.0, "", False)), pytest.raises(Busy), lock.acting("a hot-add", wait=3):
        pass
    with lock.acting("a hot-add"):
        pass


def test_a_claimed_host_is_refused_at_once_to_all_but_its_own_run(lock):
    with other_process(lambda: lock.claimed("a handoff", "alice@control", "run-1")):
        for act in (lambda: lock.acting("a hot-add", wait=60), lambda: lock.acting("a module", run="run-2", wait=60)):
            with pytest.raises(Busy, match=r"alice@control holds this host .* for a handoff \(process \d+, run run-1\)"), act():
                pass
        with pytest.raises(Busy), lock.claimed("a handoff", "bob@laptop", "run-2"):
            pass
        assert lock.clock() == 0
        before = lock.renewals
        with lock.acting("the module kexec_load", run="run-1"):
            pass
        assert lock.renewals != before
        with lock.acting("the save at shutdown", over_claim=True):
            pass
    assert lock.holder() is None


def test_a_step_of_a_run_that_lost_its_hold_is_refused(lock):
    with pytest.raises(HotpmemError, match=r"run-1 no longer holds this host.*raise hotpmem_lease"), lock.acting("a module", run="run-1"):
        pass


def test_a_claim_whose_process_was_killed_is_taken_over(lock):
    with other_process(lambda: lock.claimed("a handoff", "alice@control", "run-1")) as process:
        assert lock.holder().run == "run-1"
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        assert lock.sysfs.exists(CLAIM) and lock.holder() is None
        with lock.claimed("a handoff", "bob@laptop", "run-2"):
            assert lock.holder().who == "bob@laptop"


def test_a_later_process_with_the_same_number_is_not_the_owner(lock, tmp_path):
    with lock.claimed("a handoff", "alice", "run-1"):
        path = tmp_path / CLAIM.lstrip("/")
        text = json.loads(path.read_text())
        path.write_text(json.dumps(dict(text, started=text["started"] - 1)))
        assert lock.holder() is None


@pytest.mark.parametrize("text", ["", "4711", "{}", '{"pid": "x"}', "[1]", '{"pid": 1, "started": 1'])
def test_what_is_no_claim_holds_nobody_up(lock, tmp_path, text):
    path = tmp_path / CLAIM.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (tmp_path / LOCK.lstrip("/")).write_text(text)
    assert lock.holder() is None
    with lock.acting("a hot-add"):
        pass


def test_only_root_can_read_who_holds_it(lock, tmp_path):
    with lock.claimed("a handoff", "alice", "run-1"), lock.acting("the handoff", run="run-1"):
        for name in (LOCK, CLAIM, RESTORE_LOCK):
            assert (tmp_path / name.lstrip("/")).stat().st_mode & 0o077 == 0


def test_a_program_that_outlives_its_module_keeps_the_lock(lock, tmp_path):
    """The module was killed, and ndctl goes on."""

    def work():
        with lock.acting("the module pmem_hotplug"):
            Runner().run(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 60"])

    process = FORK.Process(target=work)
    process.start()
    pid = tmp_path / "pid"
    for _try in range(600):
        if pid.exists() and pid.read_text().strip():
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    with pytest.raises(Busy), lock.acting("a hot-add", wait=3):
        pass
    os.kill(int(pid.read_text()), signal.SIGKILL)
    with HostLock(lock.sysfs).acting("a hot-add", wait=30):
        pass
    assert not KEPT_OPEN


def test_two_at_the_same_moment(lock):
    """Of eight processes that claim the host at once, one gets it."""
    start, results = FORK.Event(), FORK.Queue()
    end = FORK.Event()

    def work(number):
        start.wait(30)
        try:
            with lock.claimed("a handoff", f"controller{number}", f"run-{number}"):
                results.put("got it")
                end.wait(30)
        except Busy as error:
            results.put(str(error))

    workers = [FORK.Process(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    start.set()
    said = [results.get(timeout=30) for _worker in workers]
    end.set()
    for worker in workers:
        worker.join(30)
    assert said.count("got it") == 1
    assert all("controller" in one and "holds this host" in one for one in said if one != "got it")
