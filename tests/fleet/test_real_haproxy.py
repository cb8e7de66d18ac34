# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook haproxy against a real HAProxy on loopback."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from extras_playing import free_port, listens, play, program, role, started, wait_for
from servers import mute, web

CONFIG = """
global
    stats socket {socket} mode 600 level admin
    stats socket ipv4@127.0.0.1:{admin} level admin
    stats socket {socket}.ro mode 600 level operator
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend front
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server node1 127.0.0.1:{server} check inter 200ms
    server node2 127.0.0.1:{server} disabled
backend other
    server node1 127.0.0.1:{server}
"""


class Proxy(NamedTuple):
    path: str
    admin: int
    front: int

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def states(self) -> dict[str, str]:
        """The status of each server."""
        rows = [line.split(",") for line in self.ask("show stat -1 4 -1").splitlines() if line and not line.startswith("#")]
        return {f"{row[0]}/{row[1]}": row[17] for row in rows}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    binary = program("haproxy", "haproxy")
    found = Proxy(str(tmp_path / "ha.sock"), free_port(), free_port())
    with mute() as server:
        (tmp_path / "haproxy.cfg").write_text(CONFIG.format(socket=found.path, admin=found.admin, front=found.front, server=server))
        with started([binary, "-db", "-f", str(tmp_path / "haproxy.cfg")], tmp_path / "haproxy.log"):
            wait_for(lambda: found.states().get("app/node1", "").startswith("UP"))
            yield found


def variables(proxy: Proxy, **more: object) -> dict:
    return {"hotpmem_hooks": {"drain": [{"use": "haproxy", "hosts": "lb1", "socket": proxy.path, **more}]}}


LB = {"lb": {"hosts": {"lb1": {}, "gone": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}}}}
DRAIN, UNDRAIN = role("run_hooks.yml", rollout_point="drain"), role("run_hooks.yml", rollout_point="undrain")


def test_drains_and_puts_back(tmp_path: Path, proxy: Proxy) -> None:
    done = play(tmp_path, [DRAIN, DRAIN], variables(proxy), children=LB)
    assert done.rc == 0, done.text
    assert proxy.states()["app/node1"].startswith("DRAIN") and proxy.states()["other/node1"].startswith("DRAIN")
    # A run that resumes knows nothing of the first one. It reaches the socket by TCP here.
    done = play(tmp_path, [UNDRAIN, UNDRAIN], variables(proxy, socket=f"127.0.0.1:{proxy.admin}"), children=LB)
    assert done.rc == 0, done.text
    assert proxy.states()["app/node1"].startswith("UP") and proxy.states()["other/node1"] == "no check"
    assert done.hooks() == [("undrain", "haproxy", "passed")] * 2


def test_only_one_backend(tmp_path: Path, proxy: Proxy) -> None:
    assert play(tmp_path, [DRAIN], variables(proxy, backend="other"), children=LB).rc == 0
    assert proxy.states()["app/node1"].startswith("UP") and proxy.states()["other/node1"].startswith("DRAIN")


def test_waits_for_sessions_until_its_deadline(tmp_path: Path, proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.front)):
        wait_for(lambda: ",1," in next(line for line in proxy.ask("show stat -1 4 -1").splitlines() if line.startswith("app,node1")))
        done = play(tmp_path, [DRAIN], variables(proxy, timeout=1), children=LB)
        assert done.rc != 0 and "app/node1 still has 1 sessions" in done.line and "set on_timeout: continue" in done.line
        assert done.hooks() == [("drain", "haproxy", "vetoed")]
        assert play(tmp_path, [UNDRAIN], variables(proxy), children=LB).rc == 0
        done = play(tmp_path, [DRAIN], variables(proxy, timeout=1, on_timeout="continue"), children=LB)
        assert done.rc == 0 and "[WARNING]: Hook haproxy: after 1 s app/node1 still has 1 sessions" in done.line
    assert proxy.states()["app/node1"].startswith("DRAIN")


def test_a_server_in_maintenance_stays_there(tmp_path: Path, proxy: Proxy) -> None:
    done = play(tmp_path, [DRAIN, UNDRAIN], variables(proxy, server="node2"), children=LB)
    assert done.rc == 0 and "app/node2 is in maintenance, and was left so" in done.line
    assert proxy.states()["app/node2"].startswith("MAINT")


@pytest.mark.parametrize(
    "more, said",
    [
        ({"server": "node9"}, "Cannot find the server node9 of HAProxy at"),
        (
            {"socket": "/nowhere/x.sock"},
            "Cannot ask HAProxy at /nowhere/x.sock: No such file or directory. Check the key socket of the hook",
        ),
        ({"socket": "127.0.0.1:1"}, "Cannot ask HAProxy at 127.0.0.1:1: Connection refused."),
        ({"hosts": "gone"}, "the load balancer could not be asked: the host could not be reached"),
    ],
)
def test_bad_answers_veto(tmp_path: Path, proxy: Proxy, more: dict, said: str) -> None:
    done = play(tmp_path, [DRAIN], variables(proxy, **more), children=LB)
    assert done.rc == 2 and said in done.line and "unreachable=1" not in done.text
    assert done.hooks() == [("drain", "haproxy", "vetoed")]


def test_a_socket_without_the_right_to_change(tmp_path: Path, proxy: Proxy) -> None:
    done = play(tmp_path, [DRAIN], variables(proxy, socket=f"{proxy.path}.ro"), children=LB)
    assert done.rc != 0 and "The socket needs 'level admin' in its configuration" in done.line


def test_something_else_at_the_socket(tmp_path: Path, proxy: Proxy) -> None:
    with web(lambda *request: (200, "hello")) as url:
        done = play(tmp_path, [DRAIN], variables(proxy, socket=url.removeprefix("http://")), children=LB)
    assert done.rc != 0 and "Cannot read the servers of HAProxy" in done.line


def test_both_balancers_are_put_back_when_one_does_not_answer(tmp_path: Path, proxy: Proxy) -> None:
    both = variables(proxy, hosts=["gone", "lb1"])
    done = play(tmp_path, [{"block": [DRAIN], "always": [UNDRAIN]}], both, children=LB)
    assert done.rc != 0 and done.hooks() == [("drain", "haproxy", "vetoed"), ("undrain", "haproxy", "failed")]
    assert proxy.states()["app/node1"].startswith("UP")
    with contextlib.suppress(OSError):
        assert listens(proxy.front)
