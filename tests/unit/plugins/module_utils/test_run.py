# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running real programs."""

from __future__ import annotations

import errno
import os
import time

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner, TimedOut, ToolMissing


def test_output_and_environment():
    done = Runner().run(["sh", "-c", "echo $LC_ALL $LANGUAGE; echo oops >&2; exit 234"])
    assert (done.rc, done.stdout, done.stderr) == (234, "C C\n", "oops\n")
    assert done.words == "sh exited with code 234: oops"


@pytest.mark.parametrize(
    "code, words",
    [("exit 3", "sh exited with code 3 and printed no message"), ("kill -9 $$", "sh was killed by signal 9 and printed no message")],
)
def test_words_of_a_program_that_printed_nothing(code, words):
    assert Runner().run(["sh", "-c", code]).words == words


def test_more_than_a_pipe_holds_on_both():
    done = Runner().run(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' a; head -c 300000 /dev/zero | tr '\\0' b >&2"])
    assert (done.stdout, done.stderr) == ("a" * 300000, "b" * 300000)


def test_lines_as_they_come():
    lines = []
    done = Runner().run(["sh", "-c", "printf 'one\\ntwo\\nthr'; printf 'ee\\nrest'"], on_line=lines.append)
    assert lines == ["one", "two", "three"]
    assert done.stdout.endswith("rest")


def test_bytes_that_are_no_text_survive():
    assert Runner().run(["printf", "\\377"]).stdout.encode("utf-8", "surrogateescape") == b"\xff"


def test_missing_names_the_package():
    with pytest.raises(ToolMissing) as caught:
        Runner().run(["/nowhere/kexec"])
    assert caught.value.details["missing"] == "/nowhere/kexec"
    assert Runner().which("/nowhere/kexec") is None
    assert Runner().which("/tmp") is None


def test_check_raises_what_was_said():
    with pytest.raises(HotpmemError, match=r"Cannot do it: sh exited with code 3: no\. Try less\."):
        Runner().check(["sh", "-c", "echo no >&2; exit 3"], "Cannot do it", "Try less")


def test_a_system_call_that_fails_beside_the_program_is_an_error_of_ours(monkeypatch):
    """No descriptor for the selector, say; the program is ended, and not left to itself."""

    def refuse():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("selectors.DefaultSelector", refuse)
    with pytest.raises(HotpmemError, match=r"Cannot run /\S+/sleep: Too many open files\. Try again when"):
        Runner().run(["sleep", "1000"])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _state(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def test_deadline_ends_the_whole_group():
    with pytest.raises(TimedOut) as caught:
        Runner().run(["sh", "-c", "echo begun; sleep 1000 & echo $!; wait"], timeout=0.5)
    begun, pid = caught.value.completed.stdout.split()
    assert begun == "begun"
    # Ended, or at most a zombie that its new parent has not collected yet; the signal is sent when the call returns, not yet obeyed.
    deadline = time.monotonic() + 10
    while _state(pid) not in "ZX":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_deadline_holds_for_a_program_that_closed_its_output():
    with pytest.raises(TimedOut):
        Runner().run(["sh", "-c", "exec >&- 2>&-; exec sleep 1000"], timeout=0.3)


def test_no_child_is_left_when_a_line_makes_us_fail():
    def fail(line):
        raise ValueError(line)

    with pytest.raises(ValueError):
        Runner().run(["sh", "-c", "echo x; exec sleep 1000"], on_line=fail)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_a_program_prints_at_its_deadline_is_kept():
    """pmem-state says what it has put in place."""
    script = "trap 'echo the result; exit 6' TERM; echo begun; while :; do sleep 0.05; done"
    with pytest.raises(TimedOut) as caught:
        Runner().run(["sh", "-c", script], timeout=0.5)
    completed = caught.value.completed
    assert (completed.stdout, completed.rc) == ("begun\nthe result\n", 6)


def test_a_pipe_that_outlives_the_program_is_not_waited_for():
    with pytest.raises(TimedOut) as caught:
        Runner().run(["sh", "-c", "setsid sleep 60 & echo begun; exec sleep 60"], timeout=0.5)
    assert caught.value.completed.stdout == "begun\n"
