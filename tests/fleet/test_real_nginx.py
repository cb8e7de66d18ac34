# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook nginx against a real nginx on loopback."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from extras_playing import free_port, listens, play, program, role, started, wait_for
from servers import web

CONFIG = """
daemon off; pid {where}/nginx.pid; error_log {where}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {where}/t1; proxy_temp_path {where}/t2;
    fastcgi_temp_path {where}/t3; uwsgi_temp_path {where}/t4; scgi_temp_path {where}/t5;
    upstream app {{ include {where}/app.conf; }}
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://app; }} }}
}}
"""
DRAIN, UNDRAIN = role("run_hooks.yml", rollout_point="drain"), role("run_hooks.yml", rollout_point="undrain")


class Proxy(NamedTuple):
    url: str
    file: Path
    servers: tuple[str, str]
    hook: dict

    def answers(self) -> set[str]:
        """Who answers, in several requests."""
        return {urllib.request.urlopen(self.url, timeout=5).read().decode() for _one in range(8)}  # noqa: S310


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    binary = program("nginx", "nginx-light")
    port = free_port()
    with web(lambda *request: (200, "one")) as one, web(lambda *request: (200, "two")) as two:
        servers = (one.removeprefix("http://"), two.removeprefix("http://"))
        (tmp_path / "app.conf").write_text(f"server {servers[0]} weight=2;\nserver {servers[1]};\n")
        (tmp_path / "nginx.conf").write_text(CONFIG.format(where=tmp_path, port=port))
        own = [binary, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
        hook = {
            "use": "nginx", "hosts": "lb1", "file": str(tmp_path / "app.conf"), "pid_file": str(tmp_path / "nginx.pid"),
            "test": [*own, "-t"], "reload": [*own, "-s", "reload"], "server": servers[0], "timeout": 20,
        }  # fmt: skip
        with started(own, tmp_path / "nginx.log"):
            wait_for(lambda: listens(port))
            yield Proxy(f"http://127.0.0.1:{port}/", tmp_path / "app.conf", servers, hook)


def run(where: Path, proxy: Proxy, *tasks: dict, **more: object):
    return play(where, list(tasks), {"hotpmem_hooks": {"drain": [{**proxy.hook, **more}]}}, children={"lb": {"hosts": {"lb1": {}}}})


def test_drains_and_puts_back(tmp_path: Path, proxy: Proxy) -> None:
    before = proxy.file.read_text()
    assert proxy.answers() == {"one", "two"}
    assert run(tmp_path, proxy, DRAIN, DRAIN).rc == 0
    assert f"server {proxy.servers[0]} weight=2 down; # drained by hotpmem.fleet\n" in proxy.file.read_text()
    assert proxy.answers() == {"two"}
    assert run(tmp_path, proxy, UNDRAIN, UNDRAIN).rc == 0
    assert proxy.file.read_text() == before and wait_for(lambda: proxy.answers() == {"one", "two"})


def test_a_configuration_that_is_wrong_is_put_back(tmp_path: Path, proxy: Proxy) -> None:
    """nginx refuses an upstream without a server that is up only at run time, so the fault is elsewhere in the file."""
    proxy.file.write_text(proxy.file.read_text() + "nonsense;\n")
    before = proxy.file.read_text()
    done = run(tmp_path, proxy, DRAIN)
    assert done.rc != 0 and "Cannot test the configuration of nginx" in done.line and "unknown directive" in done.line
    assert proxy.file.read_text() == before and proxy.answers() == {"one", "two"}


def test_a_server_that_is_down_already_stays_down(tmp_path: Path, proxy: Proxy) -> None:
    proxy.file.write_text(proxy.file.read_text().replace("weight=2", "down"))
    before = proxy.file.read_text()
    done = run(tmp_path, proxy, DRAIN, UNDRAIN)
    assert done.rc == 0 and "was already down" in done.line and proxy.file.read_text() == before


def test_an_unknown_server(tmp_path: Path, proxy: Proxy) -> None:
    done = run(tmp_path, proxy, DRAIN, server="10.9.9.9:80")
    assert done.rc != 0 and "Cannot find the server 10.9.9.9:80" in done.line and proxy.servers[1] in done.line
