# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The jump: answers, patience, and the command that starts it, run by a real shell."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.hotpmem.fleet.plugins.action import kexec_jump as kj

BOOT = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    "text, answer",
    [
        (f"{BOOT}\n12.34 20.00\n", kj.Answer(BOOT, 12.34, "")),
        (f"{BOOT}\n12.34 20.00\nfailed\nended with 1\n", kj.Answer(BOOT, 12.34, "failed\nended with 1")),
        ("", None),
        (f"{BOOT}\n", None),
        ("System is going down.\nnow\n", None),
        (f"{BOOT}\nnonsense\n", None),
    ],
)
def test_parse_answer(text, answer):
    assert kj.parse_answer(text) == answer


def test_what_a_host_says_cannot_change_the_screen():
    assert kj._doing(kj.Answer(BOOT, 1.0, "save\n\x1b[2J gone")).endswith(r"says: \x1b[2J gone")


@pytest.mark.parametrize(
    "log, failed", [("", False), ("ended with 0", False), ("nothing loaded\nended with 1", True), ("x\nended with 0\n", False)]
)
def test_failed(log, failed):
    assert kj.Answer(BOOT, 1.0, log).failed is failed


def test_no_attempt_is_long_while_the_host_should_come_back():
    assert [kj.connect_timeout(attempt, 5) for attempt in range(5)] == [2, 2, 2, 5, 2]
    assert max(kj.connect_timeout(attempt, 100) for attempt in range(3)) == 10


def test_a_call_that_was_given_up_leaves_no_process():
    def wait():
        child = subprocess.Popen(["sleep", "1000"])
        pids.append(child.pid)
        os.waitpid(child.pid, 0)

    pids = []
    with pytest.raises(kj.Lost) as caught, kj.limit(0.2):
        wait()
    kj.end_left_over(caught.value)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_limit_ends_a_call_that_waits_for_ever():
    with pytest.raises(kj.Lost), kj.limit(0.2):
        subprocess.run(["sleep", "1000"], check=False)
    with kj.limit(1000):
        pass


@pytest.mark.parametrize("jump, last", [("echo not loaded; false", "ended with 1"), ("true", "ended with 0")])
def test_start_returns_at_once_and_leaves_word(tmp_path, jump, last):
    log = tmp_path / "jump.log"
    command = kj.START.replace("/run/hotpmem", str(tmp_path)).format(log=log, jump=jump)
    # As an ssh session does, this waits until nobody holds its output any more.
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")
    deadline = time.monotonic() + 60
    while not (log.exists() and "ended with" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert log.read_text().strip().endswith(last)


def test_start_outlives_the_terminal_of_its_session(tmp_path):
    log = tmp_path / "jump.log"
    command = kj.START.replace("/run/hotpmem", str(tmp_path)).format(log=log, jump="echo jumped")
    child, terminal = os.forkpty()
    if child == 0:
        os.execvp("sh", ["sh", "-c", command])  # noqa: S606
    os.waitpid(child, 0)
    os.close(terminal)
    deadline = time.monotonic() + 60
    while not (log.exists() and "ended with" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert log.read_text() == "jumped\nended with 0\n"


def test_methods_are_one_word_of_a_shell():
    for jump in kj.METHODS.values():
        assert "'" not in jump
        assert subprocess.run(["sh", "-n", "-c", kj.START.format(log="/x", jump=jump)], check=False).returncode == 0
        assert subprocess.run(["sh", "-n", "-c", jump], check=False).returncode == 0


def test_fast_makes_file_systems_writable_again_when_kexec_returns(tmp_path):
    (tmp_path / "mounts").write_text(
        "/dev/vda / ext4 rw,a 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/vdb /my\\040disk ext4 a,rw 0 0\n/dev/vdc /ro ext4 ro 0 0\n"
    )
    for name, body in (("kexec", "exit 3"), ("mount", 'echo "mount $1 $2 <$3>"'), ("sync", ":")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    jump = kj.METHODS["fast"].replace("/proc/sysrq-trigger", "/dev/null").replace("/proc/mounts", str(tmp_path / "mounts"))
    done = subprocess.run(
        ["sh", "-c", jump], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "mount -o remount,rw </>\nmount -o remount,rw </my disk>\n" and done.returncode == 3


class TaskTimeout(Exception):
    """As Ansible's, for the timeout of a task."""


@pytest.fixture
def task_timeout():
    """The timeout of a task, as Ansible sets it (lib/ansible/executor/task_executor.py): the same signal and timer."""

    def ring(number, frame):
        raise TaskTimeout

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_the_timeout_of_the_task_still_counts(task_timeout):
    task_timeout(0.3)
    with pytest.raises(TaskTimeout):
        for _attempt in range(100):
            with pytest.raises(kj.Lost), kj.limit(0.1):
                time.sleep(10)


def test_the_timeout_of_the_task_counts_within_a_long_question(task_timeout):
    task_timeout(0.2)
    with pytest.raises(TaskTimeout), kj.limit(1000):
        time.sleep(10)


def test_no_timer_is_left_without_a_timeout_of_the_task():
    with kj.limit(1000):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_host_that_answers_is_not_called_lost(monkeypatch):
    """It is still at work in its old boot. To reset it now would cost its state."""
    one = kj.ActionModule.__new__(kj.ActionModule)
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 5))
    one._settle = float("inf")
    one._ask = lambda command, seconds: f"{BOOT}\n{100 + now[0]} 1\nhot remove\n"
    result = one._wait(BOOT, 0.0, 60)
    assert result["failed"] and result["alive"] is True
    assert "still answers in its old boot" in result["msg"] and "do not reset it. Its last message is: hot remove." in result["msg"]
    told = []
    monkeypatch.setattr(kj.display, "display", told.append)
    one._name = "node1"
    one._ask = lambda command, seconds: None
    now[0] = 0.0
    result = one._wait(BOOT, 0.0, 60)
    assert told == ["node1: waiting for its new boot, it does not answer (30 s, at most 60 s)"]
    assert result["alive"] is False and "did not answer within 60 s" in result["msg"]


@pytest.mark.parametrize("alive", [True, False])
def test_a_host_that_a_handoff_holds_is_not_jumped(tmp_path, alive):
    pid = os.getpid() if alive else 2**22 + 1
    (tmp_path / "claim.json").write_text(f'{{"pid": {pid}, "started": 1, "who": "alice"}}\n')
    done = subprocess.run(
        ["sh", "-c", kj.CLAIM.replace("/run/hotpmem", str(tmp_path))], capture_output=True, text=True, timeout=60, check=True
    )
    assert ("alice" in done.stdout) is alive
    one = kj.ActionModule.__new__(kj.ActionModule)
    answers = {kj.LOADED: f"{BOOT}\n1\n", kj.CLAIM: done.stdout}
    one._low_level_execute_command = lambda command: {"stdout": answers[command], "stderr": "", "rc": 0}
    if alive:
        with pytest.raises(AnsibleActionFail, match="a handoff holds this host"):
            one._loaded()
    else:
        assert one._loaded() == BOOT
