# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback in real runs of ansible-playbook, on a terminal and without one. A small action plays the part of rollout_step."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
ACTION = """
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {"changed": False, "rollout_event": self._task.args["event"], "rollout": self._task.args.get("state")}
"""
COUNT_FROZEN = """
import gc
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {"changed": False, "objects": gc.get_freeze_count()}
"""


def step(event, state=None, **more):
    return {"rollout_step": {"event": event, "state": {"name": "nightly", **(state or {})}}, **more}


HOST = "{{ inventory_hostname }}"
PLAN = {"event": "run_planned", "run": "R1", "batches": [["a"], ["b", "c"]], "expected_seconds": 240, "refused": {"d": "no kexec"}}
ENDED = {"event": "host_ended", "host": HOST, "outcome": "kept", "seconds": 41, "down_seconds": 2.345}
FAILED = {"event": "host_ended", "host": HOST, "outcome": "failed", "msg": "{{ ansible_failed_result.msg }}", "next": "retry it"}
PLAYS = [
    {
        "name": "Plan the rollout",
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            step(PLAN, {"of": 2, "done": 0, "failed": 0, "left": 3}, run_once=True),
            {"name": "Table", "ansible.builtin.debug": {"msg": ["host  batch", "a     1"]}, "run_once": True},
            {"name": "Unlucky", "ansible.builtin.command": "false", "changed_when": False, "failed_when": False},
        ],
    },
    {
        "name": "Reboot hosts in batches",
        "hosts": "all",
        "gather_facts": False,
        "serial": [1, 2],
        "max_fail_percentage": 100,
        "tasks": [
            step({"event": "batch_begun", "batch": 1, "of": 2, "hosts": "{{ ansible_play_batch }}"}, run_once=True),
            {
                "block": [
                    step({"event": "host_begun", "host": HOST}),
                    step({"event": "host_phase", "host": HOST, "phase": "handoff"}),
                    {"name": "Hand off", "ansible.builtin.shell": "printf '\\033[31mred\\n' >&2; test %s != c" % HOST},
                    step(ENDED, {"done": 1, "failed": 0, "left": 2}),
                ],
                "rescue": [step(FAILED, {"done": 2, "failed": 1, "left": 0})],
            },
        ],
    },
    {
        "name": "Finish",
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            step({"event": "run_ended", "counts": {"kept": 2, "failed": 1}}, run_once=True),
            {"name": "Name it", "ansible.builtin.fail": {"msg": "c failed. Run: retry"}, "when": "inventory_hostname == 'c'"},
        ],
    },
]


@pytest.fixture
def command(tmp_path):
    """Return the command and the environment of a run."""
    where = tmp_path / "collections/ansible_collections/hotpmem"
    where.mkdir(parents=True)
    (where / "fleet").symlink_to(ROOT)
    (tmp_path / "action_plugins").mkdir()
    (tmp_path / "action_plugins/rollout_step.py").write_text(ACTION)
    (tmp_path / "library").mkdir()
    (tmp_path / "library/rollout_step.py").write_text("")
    (tmp_path / "ansible.cfg").write_text("")
    (tmp_path / "play.yml").write_text(json.dumps(PLAYS))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    for name in ("CI", "NO_COLOR"):
        environment.pop(name, None)
    environment.update(
        ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "collections"),
        ANSIBLE_CONFIG=str(tmp_path / "ansible.cfg"),
        ANSIBLE_HOME=str(tmp_path / "home"),
        ANSIBLE_PYTHON_INTERPRETER=sys.executable,
        ANSIBLE_STDOUT_CALLBACK="hotpmem.fleet.rollout",
        LC_ALL="C.UTF-8",
        TERM="xterm",
    )
    play = str(tmp_path / "play.yml")
    return [sys.executable, "-m", "ansible", "playbook", "-i", "a,b,c,", "-c", "local", "-f", "1", play], environment


def on_terminal(command, environment, rows=20, columns=90):
    """Run a command on its own terminal. Returns everything that it wrote, and its exit code."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(command, env=environment, stdin=child, stdout=child, stderr=child, start_new_session=True)
    os.close(child)
    data = b""
    while True:
        ready, _write, _error = select.select([parent], [], [], 120)
        assert ready, data
        try:
            piece = os.read(parent, 65536)
        except OSError:  # EIO: the last process has closed the terminal
            break
        if not piece:
            break
        data += piece
    os.close(parent)
    return data.decode("utf-8"), process.wait(timeout=60)


def screen(text):
    """What a terminal without an end shows after text. It knows the sequences that the callback and Ansible use, and refuses others."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+|\x1b", text):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece.startswith("\x1b"):
            assert re.fullmatch(r"\x1b\[(\d+A|J|K|\?7[lh]|[\d;]*m)", piece), piece
            if piece.endswith("A"):
                row -= int(piece[2:-1])
                assert row >= 0
            elif piece.endswith("K"):
                lines[row] = lines[row][:column]
            elif piece.endswith("J"):
                lines = [*lines[:row], lines[row][:column]]
        else:
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return lines


def times_out(lines):
    return [re.sub(r"^(\d+:)?\d\d:\d\d  ", "", line) for line in lines]


def test_without_a_terminal(command):
    words, environment = command
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and not done.stderr
    assert "\x1b" not in done.stdout
    assert all(re.match(r"\d\d:\d\d  ", line) for line in done.stdout.splitlines() if not line.startswith(("host ", "a  ", "c: 1 failed")))
    shown = times_out(done.stdout.splitlines())
    expected = [
        "Plan the rollout",
        "rollout nightly begins: 3 hosts in 2 batches (1, 2), about 4 min; run R1",
        "d: refused: no kexec",
        "host  batch",
        "a     1",
        "batch 1 of 2: a",
        "a: begins",
        "a: handoff",
        "a: kept, 41 s, down 2.35 s  (1 of 3 hosts, 0 failed)",
        "c: failed [Hand off]",
        "non-zero return code",  # 2.21 says: The command exited with a ...
        "    rc: 1",
        "    stderr: \\x1b[31mred",
        "    next: retry it",
        "rollout nightly ended after",
        "c: failed [Name it]",
        "    c failed. Run: retry",
        "c: 1 failed, 0 unreachable, ",
    ]
    places = [next((number for number, line in enumerate(shown) if text in line), text) for text in expected]
    assert all(isinstance(place, int) for place in places) and places == sorted(places), (places, done.stdout)
    # The failed task has said why, and the end of the host does not say it again.
    assert sum("non-zero return code" in line for line in shown) == 1
    assert "TASK" not in done.stdout and "Unlucky" not in done.stdout


def test_on_a_terminal(command):
    words, environment = command
    text, code = on_terminal(words, environment)
    assert code == 2
    # While it ran, the lines at the bottom said where each host was.
    assert re.search(r"rollout nightly  batch 1 of 2  \[[#-]{20}\] \d of 3 hosts", text)
    assert re.search(r"  [abc]  \w+ +\d\d:\d\d  host +\d\d:\d\d", text) and "  elapsed " in text
    end = screen(text)
    # At the end only what was printed for good remains.
    assert not any("elapsed" in line or "handoff" in line for line in end)
    assert not any(re.match(r"\d\d:\d\d  ", line) for line in end)
    for line in (
        "d: refused: no kexec",
        "a     1",
        "batch 1 of 2: a",
        "    next: retry it",
        "    c failed. Run: retry",
        "c: failed [Hand off]",
    ):
        assert line in end, end
    assert any(line.startswith("b: kept, 41 s, down 2.35 s") for line in end)


@pytest.mark.parametrize("name", ["NO_COLOR", "CI", "HOTPMEM_ROLLOUT_DISPLAY"])
def test_a_terminal_that_wants_plain_lines(command, name):
    words, environment = command
    text, code = on_terminal(words, {**environment, name: "lines"})
    assert code == 2 and "\x1b[J" not in text and "\x1b[?7l" not in text
    assert "a: handoff" in text and "next: retry it" in text


def test_verbose_shows_what_the_default_callback_shows(command):
    words, environment = command
    done = subprocess.run([*words, "-v"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    for text in (
        "PLAY [Plan the rollout]",
        "TASK [Hand off]",
        "TASK [Unlucky]",
        "fatal: [c]: FAILED!",
        "PLAY RECAP",
        "a: handoff",
        "next: retry it",
    ):
        assert text in done.stdout, text


def test_a_worker_collects_no_garbage_of_the_controller(command, tmp_path):
    """It would write to each page of the controller's memory, and have copies of them."""
    words, environment = command
    (tmp_path / "action_plugins/count_frozen.py").write_text(COUNT_FROZEN)
    (tmp_path / "library/count_frozen.py").write_text("")
    tasks = [{"count_frozen": {}, "register": "frozen"}, {"ansible.builtin.debug": {"msg": "frozen={{ frozen.objects }}"}}]
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    counts = [int(count) for count in re.findall(r"frozen=(\d+)", done.stdout)]
    # ansible-core alone has some 100,000 objects.
    assert len(counts) == 3 and min(counts) > 50_000, done.stdout + done.stderr
