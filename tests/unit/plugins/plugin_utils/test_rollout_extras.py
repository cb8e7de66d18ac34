# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The input checks of hooks, blockers, gates, notifications and the lease, and which hooks run when."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.hotpmem.fleet.plugins.module_utils._rollout.lease_file import Asker, decide
from ansible_collections.hotpmem.fleet.plugins.module_utils._rollout.nginx_upstream import edit
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import blockers, extras, gates, hooks, notify, web

OWN = {"name": "x", "command": ["true"]}
URL = "http://am.example:9093"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, None),
        ({"hotpmem_hooks": {}, "hotpmem_blockers": [], "hotpmem_gates": [], "hotpmem_notify": [], "hotpmem_fleet_lease": {}}, None),
        ({"hotpmem_hooks": []}, "hotpmem_hooks must be a dictionary."),
        ({"hotpmem_hooks": {"drian": []}}, "hotpmem_hooks.drian is not a known key. Did you mean drain?"),
        ({"hotpmem_hooks": {"drain": {}}}, "hotpmem_hooks.drain must be a list."),
        ({"hotpmem_hooks": {"drain": ["x"]}}, "hotpmem_hooks.drain[0] must be a dictionary."),
        ({"hotpmem_hooks": {"drain": [OWN]}}, "hotpmem_hooks.drain[0] (x) has no hook of the same name"),
        ({"hotpmem_hooks": {"drain": [OWN], "undrain": [OWN]}}, None),
        ({"hotpmem_hooks": {"drain": [{**OWN, "needs_undrain": "false"}]}}, None),
        ({"hotpmem_hooks": {"before_host": [{**OWN, "timeout": "soon"}]}}, "before_host[0].timeout must be a number from 0.1"),
        ({"hotpmem_hooks": {"before_host": [{**OWN, "retries": 1.5}]}}, "hotpmem_hooks.before_host[0].retries must be a whole number"),
        ({"hotpmem_hooks": {"before_host": [{**OWN, "blocking": "maybe"}]}}, "before_host[0].blocking must be true or false"),
        ({"hotpmem_hooks": {"before_host": [{"name": "x"}]}}, "must have exactly one of the keys command, tasks, use."),
        ({"hotpmem_hooks": {"before_host": [{**OWN, "use": "haproxy"}]}}, "and has command and use."),
        ({"hotpmem_hooks": {"before_host": [OWN, OWN]}}, "hotpmem_hooks.before_host[1].name is 'x'"),
        ({"hotpmem_hooks": {"before_host": [{"name": "x", "command": "rm -rf /"}]}}, "command must be a list of words"),
        ({"hotpmem_hooks": {"before_run": [{**OWN, "where": "host"}]}}, "hotpmem_hooks.before_run[0].where cannot be host"),
        ({"hotpmem_hooks": {"before_run": [{"use": "haproxy", "hosts": "lb"}]}}, "use cannot be haproxy, because before_run"),
        ({"hotpmem_hooks": {"drain": [{"name": "x", "tasks": "gone.yml", "needs_undrain": False}]}}, "'gone.yml', which does not exist in"),
        ({"hotpmem_hooks": {"drain": [{"use": "haproxy"}]}}, "hotpmem_hooks.drain[0].hosts is missing."),
        ({"hotpmem_hooks": {"drain": [{"use": "f5"}]}}, "hotpmem_hooks.drain[0].use must be one of haproxy, nginx"),
        ({"hotpmem_hooks": {"drain": [{"use": ["haproxy"]}]}}, "hotpmem_hooks.drain[0].use must be one of haproxy, nginx"),
        ({"hotpmem_hooks": {"drain": [{"use": "haproxy", "hosts": []}]}}, "hosts must not be an empty list."),
        ({"hotpmem_hooks": {"before_host": [{"use": "fleetlock", "url": URL, "group": "a b"}]}}, "group may have letters"),
        ({"hotpmem_blockers": [{"use": ["sessions"]}]}, "hotpmem_blockers[0].use must be one of alertmanager, prometheus"),
        ({"hotpmem_blockers": [{"use": "prometheus", "url": "x"}]}, "hotpmem_blockers[0].url must be a URL"),
        ({"hotpmem_blockers": [{"use": "prometheus", "url": URL, "ignore_alerts": "("}]}, "ignore_alerts is not a valid regular"),
        ({"hotpmem_blockers": [{"use": "prometheus", "url": URL, "query": "up", "block_alerts": "x"}]}, "query cannot be combined"),
        ({"hotpmem_blockers": [{"use": "alertmanager", "url": URL, "query": "up"}]}, "hotpmem_blockers[0].query is not a known key"),
        ({"hotpmem_blockers": [{"use": "sessions"}, {"use": "sessions"}]}, "hotpmem_blockers[1].name is 'sessions'"),
        ({"hotpmem_blockers": [{**OWN, "wait_limit": -1}]}, "hotpmem_blockers[0].wait_limit must be a number from 0"),
        ({"hotpmem_blockers": [{**OWN, "invert": True}]}, "hotpmem_blockers[0].invert is not a known key"),
        ({"hotpmem_gates": [{"name": "x", "http": {"url": URL, "status": 99}}]}, "hotpmem_gates[0].http.status must be a whole number"),
        ({"hotpmem_gates": [{"name": "x", "http": URL, "where": "host"}]}, "hotpmem_gates[0].where cannot be host with http or tcp"),
        ({"hotpmem_gates": [{"name": "x", "tcp": "web1"}]}, "hotpmem_gates[0].tcp must be HOST:PORT"),
        ({"hotpmem_gates": [{"name": "x", "tcp": "[::1]:80"}]}, None),
        ({"hotpmem_gates": [{"tcp": "web1:80"}]}, "hotpmem_gates[0].name is missing."),
        ({"hotpmem_notify": [{"webhook": URL, "notices": ["begin"]}]}, "hotpmem_notify[0].notices[0] must be one of start"),
        ({"hotpmem_notify": [{"mail": {"to": "a@b"}}]}, "Install it with 'ansible-galaxy collection install community.general'"),
        ({"hotpmem_notify": [{"webhook": URL, "headers": {"A": "x\ny"}}]}, "hotpmem_notify[0].headers.A must be text of one line."),
        ({"hotpmem_fleet_lease": {"path": "/x"}}, "hotpmem_fleet_lease must have exactly one of the keys host, fleetlock."),
        ({"hotpmem_fleet_lease": {"host": "x", "ttl": 1}}, "hotpmem_fleet_lease.ttl must be a number from 10"),
        ({"hotpmem_fleet_lease": {"host": "x", "path": "y"}}, "hotpmem_fleet_lease.path must be an absolute path."),
        ({"hotpmem_fleet_lease": {"fleetlock": URL, "take_over": "true"}}, "take_over works only with a file on a host"),
        ({"hotpmem_soak": "-1"}, "hotpmem_soak must be a number from 0"),
        ({"hotpmem_soak": "nan"}, "hotpmem_soak must be a number from 0"),
        ({"hotpmem_reboot_timeout": "10min"}, "hotpmem_reboot_timeout must be a whole number from 1"),
        ({"hotpmem_copy_timeout": 0}, "hotpmem_copy_timeout must be a whole number from 1"),
        ({"hotpmem_reboot_method": "kexec"}, "hotpmem_reboot_method must be one of systemd, fast, firmware"),
        ({"hotpmem_road": "pmem"}, "hotpmem_road must be one of raw, dax"),
        ({"hotpmem_make_default": "maybe"}, "hotpmem_make_default must be true or false"),
        ({"hotpmem_node_agent": "no", "hotpmem_lease": "600", "hotpmem_road": "", "hotpmem_offline_timeout": 60.0}, None),
    ],
)  # fmt: skip
def test_each_error_names_its_variable(variables: dict[str, Any], said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "mail_installed", lambda: False)
    errors = extras.check(variables)
    assert len(errors) == (0 if said is None else 1), errors
    assert said is None or said in errors[0]


def test_an_error_shows_no_secret() -> None:
    errors = extras.check({"hotpmem_notify": [{"webhook": "htp://user:s3cret@x", "headers": {"A": ["s3cret"]}}]})
    assert len(errors) == 2 and "s3cret" not in " ".join(errors)


def test_a_task_file_is_found_beside_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text("[]")
    hook = {"name": "x", "tasks": "own.yml"}
    assert extras.check({"inventory_dir": str(tmp_path), "hotpmem_hooks": {"before_host": [hook]}}) == []
    assert extras.check({"hotpmem_hooks": {"before_host": [{"name": "x", "tasks": str(tmp_path / "own.yml")}]}}) == []


PAIRS = {
    "drain": [{"use": "alertmanager_silence"}, {"name": "own", "command": ["a"]}, {"use": "haproxy"}],
    "undrain": [{"name": "own", "command": ["b"]}, {"name": "always", "command": ["c"]}],
}


@pytest.mark.parametrize(
    ("point", "begun", "names"),
    [
        ("drain", None, ["alertmanager_silence", "own", "haproxy"]),
        ("undrain", None, ["own", "always", "haproxy", "alertmanager_silence"]),
        ("undrain", ["alertmanager_silence"], ["always", "alertmanager_silence"]),
        ("undrain", [], ["always"]),
        ("after_host", None, []),
    ],
)
def test_what_was_begun_is_undone_in_reverse(point: str, begun: list[str] | None, names: list[str]) -> None:
    assert [one["name"] for one in hooks.at(PAIRS, point, begun)] == names
    assert all(one["undo"] == (point == "undrain") for one in hooks.at(PAIRS, point, begun))


class Clock:
    """Time that passes only in sleep()."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("more", "blocked_for", "slice_seconds", "outcome"),
    [
        ({}, 0, 1e9, ("free", 0)),
        ({"retry_interval": 10}, 25, 1e9, ("free", 30)),
        ({"retry_interval": 10, "wait_limit": 20}, 25, 1e9, ("blocked", 20)),
        ({"on_block": "refuse"}, 25, 1e9, ("blocked", 0)),
        ({"retry_interval": 10}, 100, 25, ("again", 25)),
        ({"retry_interval": 100}, 500, 25, ("again", 25)),
    ],
)
def test_waiting_for_blockers(more: dict, blocked_for: float, slice_seconds: float, outcome: tuple[str, float]) -> None:
    clock, told = Clock(), []
    one = blockers.prepared({**OWN, **more})

    def probe(blocker: Any) -> str:
        return "busy" if clock.now < blocked_for else ""

    found = blockers.wait([one], probe, sleep=clock.sleep, clock=clock, slice_seconds=slice_seconds, tell=told.append)
    state = "again" if found.again else "blocked" if found.blocked else "free"
    assert (state, found.seconds) == outcome and len(told) <= 1


def test_sessions_and_inhibitors() -> None:
    facts = {
        "sessions": [{"user": "alice", "tty": "pts/0"}, {"user": "monitor", "tty": ""}],
        "inhibitors": [
            {"who": "backup", "what": "shutdown:sleep", "why": "runs", "mode": "block"},
            {"who": "desktop", "what": "sleep", "why": "x", "mode": "block"},
            {"who": "NetworkManager", "what": "shutdown", "why": "x", "mode": "delay"},
        ],
    }
    assert blockers.of_sessions({"ignore_users": ["mon.*"]}, facts) == "logged in: alice on pts/0"
    assert blockers.of_sessions({"ignore_users": [".*"]}, facts) == ""
    assert blockers.of_inhibitors({}, facts) == "systemd inhibitors: backup (runs)"
    assert blockers.of_inhibitors({"ignore_who": "backup"}, facts) == ""
    for judge in (blockers.of_sessions, blockers.of_inhibitors):
        with pytest.raises(blockers.Unknown):
            judge({}, {})


def test_gates_and_soak() -> None:
    clock, answers = Clock(), iter(["no", "no", ""])
    gate = gates.prepared({**OWN, "retries": 2, "delay": 5})
    assert gates.passes(gate, lambda one: next(answers), clock.sleep) == "" and clock.now == 10
    assert gates.passes({**gate, "retries": 0}, lambda one: "no", clock.sleep) == "Gate x did not pass in 1 attempt: no."
    times: list[float] = []
    clock = Clock()
    assert gates.soak([gate], 70, 30, probe=lambda one: times.append(clock.now) or "", sleep=clock.sleep, clock=clock) == ""
    assert times == [30, 60, 70]
    said = gates.soak([{**gate, "retries": 0}], 70, 30, probe=lambda one: "no" if clock.now > 110 else "", sleep=clock.sleep, clock=clock)
    assert "60 s into the soak of 70 s" in said


@pytest.mark.parametrize(
    ("url", "shown", "short"),
    [
        ("https://u:p@h.example:8443/a/b?token=x#y", "https://h.example:8443/a/b?...", "https://h.example:8443/...?..."),
        ("http://[::1]:80/", "http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_a_url_without_its_secrets(url: str, shown: str, short: str) -> None:
    assert web.safe_url(url) == shown and web.safe_url(url, whole_path=False) == short


def test_mail() -> None:
    target = {"mail": {"to": "a@b", "password": "hidden", "port": "587"}, "name": "m"}
    found = notify.mail(target, {"notice": "done", "text": "All well.\nMore."})
    assert (
        found["subject"] == "[hotpmem] All well."
        and found["port"] == 587
        and found["to"] == ["a@b"]
        and found["password"] == target["mail"]["password"]
    )


KNOWN = {"owner": "a@c", "rollout": "web", "run": "r1", "since": "s", "renewed": "n", "expires": "e", "expires_at": 100.0}


@pytest.mark.parametrize(
    ("known", "run", "state", "take_over", "allowed", "changed"),
    [
        (None, "r1", "taken", False, True, True),
        (KNOWN, "r1", "taken", False, True, True),
        (KNOWN, "r2", "taken", False, False, False),
        (KNOWN, "r2", "taken", True, True, True),
        ({**KNOWN, "expires_at": 50.0}, "r2", "taken", False, True, True),
        (KNOWN, "r2", "renewed", True, False, False),
        ({**KNOWN, "expires_at": 1.0}, "r2", "renewed", False, False, False),
        (KNOWN, "r1", "released", False, True, True),
        (KNOWN, "r2", "released", False, True, False),
        (None, "r2", "released", False, True, False),
    ],
)
def test_who_gets_the_lease(*, known: dict | None, run: str, state: str, take_over: bool, allowed: bool, changed: bool) -> None:
    found = decide(known, Asker("b@d", "web", run), state, 50.0, 60.0, take_over)
    assert (found.allowed, found.changed) == (allowed, changed)
    assert (found.took_over is not None) == (allowed and changed and known is not None and run != "r1")


@pytest.mark.parametrize(
    ("line", "drained"),
    [
        ("  server 10.0.0.1:80;", "  server 10.0.0.1:80 down; # drained by hotpmem.fleet"),
        ("server 10.0.0.1:80 weight=2; # main", "server 10.0.0.1:80 weight=2 down; # drained by hotpmem.fleet # main"),
        ("server 10.0.0.1:80 down;", "server 10.0.0.1:80 down;"),
        ("server 10.0.0.1:8080;", "server 10.0.0.1:8080;"),
        ("# server 10.0.0.1:80;", "# server 10.0.0.1:80;"),
    ],
)
def test_a_server_of_nginx(line: str, drained: str) -> None:
    text = f"upstream app {{\n{line}\n}}\n"
    once = edit(text, "10.0.0.1:80", True)
    assert once.text.splitlines()[1] == drained and edit(once.text, "10.0.0.1:80", True).text == once.text
    assert edit(once.text, "10.0.0.1:80", False).text == text


def test_the_examples_of_the_guide_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "mail_installed", lambda: True)
    guide = (Path(__file__).resolve().parents[4] / "docs/rollouts-hooks.md").read_text(encoding="utf-8")
    guide = re.sub(r"\{\{.*?\}\}", "web1", guide)
    blocks = [yaml.safe_load(one.partition("```")[0]) for one in guide.split("```yaml\n")[1:]]
    (tmp_path / "drain-queue.yml").write_text("[]")
    assert len(blocks) >= 8
    for block in blocks:
        assert extras.check({"inventory_dir": str(tmp_path), **block}) == []
