# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handoff from the controller: what it starts, and what it says when the host goes on."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.hotpmem.fleet.plugins.action import node_handoff as nh
from ansible_collections.hotpmem.fleet.plugins.action.kexec_jump import Answer

BOOT = "11111111-2222-3333-4444-555555555555"
REASON = "Handoff failed at save: Cannot save: it changed. The units run, as before."


@pytest.fixture
def action():
    """The action, without a connection; answers what the test says."""
    one = nh.ActionModule.__new__(nh.ActionModule)
    one.asked = []

    def execute(command):
        one.asked.append(command)
        return one.answer

    one._low_level_execute_command = execute
    one.answer = {"rc": 0, "stdout": f"{BOOT}\n", "stderr": ""}
    return one


@pytest.mark.parametrize(
    "log, said",
    [
        (f"preflight\nsave\n{REASON}\nended with 7\n", REASON),
        ("ended with 2", "it said nothing: see journalctl -u hotpmem-handoff"),
        ("", "it said nothing: see journalctl -u hotpmem-handoff"),
    ],
)
def test_the_last_word(action, log, said):
    assert nh.words(log) == said
    assert action._came_back(Answer(BOOT, 3.0, log), 5.0).endswith(said)
    assert Answer(BOOT, 3.0, log).failed is bool(log)


def test_what_is_started(action, monkeypatch):
    monkeypatch.setattr(nh, "owner", lambda: "alice@control")
    args = {"agent": "/opt/x y", "method": None, "run": "run-1", "hold": False, "lease": 300, "kernel": None, "initrd": None}
    assert action._command(args) == "'/opt/x y' handoff --detach --json --run run-1 --owner alice@control"
    assert action._command(dict(args, method="fast")).endswith("--json --method fast --run run-1 --owner alice@control")
    assert action._command(dict(args, hold=True)).endswith("--owner alice@control --hold 300")
    assert action._loaded() == BOOT and action.asked == ["cat /proc/sys/kernel/random/boot_id"]
    assert action._settle > 1e9


def test_hold_ends_when_the_host_is_held(action, monkeypatch):
    monkeypatch.setattr(nh, "owner", lambda: "alice@control")
    args = {"agent": nh.AGENT, "method": None, "run": "run-1", "hold": True, "lease": 300, "kernel": None, "initrd": None}
    result = {}
    assert action._begin(result, args) is False and result == {"run": "run-1"} and "--hold 300" in action.asked[0]
    action.answer = {"rc": 9, "stdout": json.dumps({"msg": "bob@laptop holds this host."}), "stderr": ""}
    with pytest.raises(AnsibleActionFail, match=r"\(exit code 9\): bob@laptop holds this host\."):
        action._begin({}, args)
    assert action._begin(result, dict(args, hold=False)) is True


def test_a_run_that_the_play_names_is_only_resumed(action, monkeypatch):
    """The host may have given it up and be free again: to start anew would reboot a host that nobody holds."""
    monkeypatch.setattr(nh, "owner", lambda: "alice@control")
    action._resumes = True
    args = {"agent": nh.AGENT, "method": None, "run": "run-1", "hold": False, "lease": 300, "kernel": None, "initrd": None}
    assert action._command(args).endswith("--run run-1 --owner alice@control --resume")


def test_another_kernel(action, monkeypatch):
    monkeypatch.setattr(nh, "owner", lambda: "alice@control")
    args = {"agent": nh.AGENT, "method": None, "run": "run-1", "hold": False, "lease": 300, "kernel": "newest", "initrd": None}
    assert " handoff --detach --json --kernel newest --run run-1 " in action._command(args)
    assert action._argv(args, "--check").endswith(" handoff --check --json --kernel newest")
    assert " --kernel /k --initrd '/i x' --run " in action._command(dict(args, kernel="/k", initrd="/i x"))
    with pytest.raises(AnsibleActionFail, match="the option initrd needs the option kernel"):
        action._command(dict(args, kernel=None, initrd="/i"))
    assert "--kernel newest" in action._command(dict(args, hold=True))
    # The handoff that holds the host has chosen.
    action._resumes = True
    assert "--kernel" not in action._command(args)


@pytest.mark.parametrize("rc, undo", [(2, True), (5, True), (9, False)])
def test_a_handoff_that_did_not_start_can_be_undone(action, rc, undo):
    """Not the one of somebody else."""
    action._run = "run-1"
    with pytest.raises(AnsibleActionFail) as caught:
        action._not_started({"rc": rc, "stdout": json.dumps({"msg": "no"}), "stderr": ""})
    assert ("run" in caught.value.result) is undo and caught.value.result["exit"] == rc


def test_runs_differ():
    assert nh.new_run() != nh.new_run() and "@" in nh.owner()


def test_check(action):
    action.answer = {"rc": 0, "stdout": json.dumps({"steps": ["save"]}) + "\n", "stderr": ""}
    assert action._checked({}, {"agent": nh.AGENT, "method": None, "kernel": None, "initrd": None}) == {"steps": ["save"]}
    action.answer = {"rc": 5, "stdout": json.dumps({"msg": "This host is not ready: no kernel."}), "stderr": ""}
    with pytest.raises(AnsibleActionFail, match=r"\(exit code 5\): This host is not ready: no kernel"):
        action._checked({}, {"agent": nh.AGENT, "method": None, "kernel": None, "initrd": None})
    action.answer = {"rc": 127, "stdout": "", "stderr": "not found"}
    with pytest.raises(AnsibleActionFail, match=r"127.*not found"):
        action._checked({}, {"agent": nh.AGENT, "method": None, "kernel": None, "initrd": None})


def test_message():
    assert nh.message("nonsense") == "nonsense" and nh.message("") == "it said nothing" and nh.message("[]") == "[]"


def test_a_host_in_another_boot_is_left_alone(action):
    """Somebody has rebooted it since the play began it, such as a worker of a controller that was killed."""
    args = {"agent": nh.AGENT, "run": "run-1", "hold": False, "boot_id": "the boot before"}
    result = {"changed": True, "before": {"boot_id": BOOT}, "after": {"boot_id": BOOT}}
    assert action._begin(result, args) is False and action.asked == []
    assert result == {"changed": False, "run": "run-1", "before": {"boot_id": "the boot before"}, "after": {"boot_id": BOOT}}
    assert action._begin({"before": {"boot_id": BOOT}}, dict(args, boot_id=BOOT)) is True
