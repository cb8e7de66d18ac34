# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions and inhibitors, from what busctl printed."""

from __future__ import annotations

import json

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host import logind as lg
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs

CALL = "busctl --json=short call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager"
GET = "busctl --json=short get-property org.freedesktop.login1 /org/freedesktop/login1/session"
# Printed by busctl and logind of systemd 252.38 (Debian 12). The inhibitors were taken with systemd-inhibit.
INHIBITORS = (
    '{"type":"a(ssssuu)","data":[[["shutdown:sleep","Backup \\"nightly\\" é","Copying to\\ntape\\\\\\\\x","block",0,12024],'
    '["shutdown","NetworkManager","needs to turn off networks","delay",0,12025]]]}\n'
)
SESSIONS = (
    '{"type":"a(susso)","data":[[["7",0,"root","","/org/freedesktop/login1/session/_37"],'
    '["5",0,"root","","/org/freedesktop/login1/session/_35"]]]}\n'
)
SESSION = '{"type":"s","data":"pts/3"}\n{"type":"t","data":1795776000123456}\n{"type":"s","data":"user"}\n{"type":"s","data":"closing"}\n'
# The same, as a user would have it who is still logged in.
ACTIVE = SESSION.replace("closing", "active")
NO_BUS = (1, "", "Failed to connect to bus: No such file or directory\n")
# Printed by who of coreutils 9.1 with LC_ALL=C.
WHO = "root     pts/0        Nov 27 10:15 (10.0.2.2)\noperator tty1         Nov 20 08:00\n"


@pytest.fixture
def logind(tmp_path, recorder):
    def build(answers, cgroup="0::/system.slice/cron.service\n"):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(cgroup)
        return lg.Logind(Sysfs(str(tmp_path)), recorder(answers))

    return build


def test_inhibitors(logind):
    one = logind({f"{CALL} ListInhibitors": (0, INHIBITORS, "")})
    assert one.inhibitors() == [
        {"who": 'Backup "nightly" é', "what": "shutdown:sleep", "why": "Copying to\ntape\\\\x", "mode": "block"},
        {"who": "NetworkManager", "what": "shutdown", "why": "needs to turn off networks", "mode": "delay"},
    ]
    assert one.warnings == []


@pytest.mark.parametrize(
    "answer", [NO_BUS, (0, "", ""), (0, "[]\n", ""), (0, '{"type":"a(ssssuu)"}\n', ""), (0, '{"data":[[["a"]]]}\n', ""), None]
)
def test_inhibitors_that_cant_be_read(logind, answer):
    one = logind({f"{CALL} ListInhibitors": answer})
    assert one.inhibitors() == []
    assert len(one.warnings) == 1 and one.warnings[0].startswith("The inhibitors can't be read: ")


def test_no_inhibitors(logind):
    assert lg.inhibitors_in('{"type":"a(ssssuu)","data":[[]]}\n') == []


def test_sessions(logind):
    one = logind(
        {f"{CALL} ListSessions": (0, SESSIONS, ""), f"{GET}/_37": (0, ACTIVE.replace("pts/3", ""), ""), f"{GET}/_35": (0, ACTIVE, "")}
    )
    assert one.sessions() == [
        {"user": "root", "tty": None, "since": "2026-11-27T10:40:00Z"},
        {"user": "root", "tty": "pts/3", "since": "2026-11-27T10:40:00Z"},
    ]


@pytest.mark.parametrize(
    "properties",
    [
        SESSION,
        ACTIVE.replace('"user"', '"manager"'),
        ACTIVE.replace('"user"', '"background"'),
        ACTIVE.replace('"user"', '"greeter"'),
    ],
)
def test_a_session_that_nobody_uses_is_left_out(logind, properties):
    one = logind({f"{CALL} ListSessions": (0, SESSIONS, ""), f"{GET}/_37": (0, properties, ""), f"{GET}/_35": (0, ACTIVE, "")})
    assert [session["tty"] for session in one.sessions()] == ["pts/3"]


@pytest.mark.parametrize(
    "cgroup", ["0::/user.slice/user-0.slice/session-5.scope\n", "12:pids:/user.slice/user-0.slice/session-5.scope\n1:name=systemd:/x\n"]
)
def test_the_session_of_the_play_is_left_out(logind, cgroup):
    one = logind({f"{CALL} ListSessions": (0, SESSIONS, ""), f"{GET}/_37": (0, ACTIVE.replace("pts/3", "pts/9"), "")}, cgroup)
    assert [session["tty"] for session in one.sessions()] == ["pts/9"]


def test_a_session_that_ends_meanwhile_is_left_out(logind):
    gone = (1, "", "Failed to get property TTY on interface org.freedesktop.login1.Session: Unknown object\n")
    one = logind({f"{CALL} ListSessions": (0, SESSIONS, ""), f"{GET}/_37": gone, f"{GET}/_35": (0, ACTIVE, "")})
    assert [session["tty"] for session in one.sessions()] == ["pts/3"] and one.warnings == []


def test_who_stands_in_for_logind(logind):
    one = logind({f"{CALL} ListSessions": NO_BUS, "who": (0, WHO, "")})
    assert one.sessions() == [
        {"user": "root", "tty": "pts/0", "since": None},
        {"user": "operator", "tty": "tty1", "since": None},
    ]
    assert one.warnings == []


def test_sessions_that_cant_be_read(logind):
    one = logind({f"{CALL} ListSessions": NO_BUS, "who": None})
    assert one.sessions() == []
    assert len(one.warnings) == 1 and "Failed to connect to bus" in one.warnings[0] and "not installed" in one.warnings[0]


def test_values_are_json():
    assert lg.values(json.dumps({"type": "s", "data": "x"}) + "\n") == ["x"]
